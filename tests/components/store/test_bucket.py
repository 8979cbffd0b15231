"""Objects of a bucket: written once or by compare-and-swap, carried whole, whatever befalls the requests."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bertline.components.store import bucket as module
from bertline.components.store.bucket import Bucket, ChangedError
from fakes.storage_server import Fault, Request, StorageServer


@pytest.fixture
def bucket(server: StorageServer) -> Bucket:
    return Bucket("gs://b/team/bert/")


def served(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "served" / "b"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_names_are_below_the_prefix(bucket: Bucket, tmp_path: Path) -> None:
    assert bucket.create("refs/latest.json", b"1")
    assert served(tmp_path) == {"team/bert/refs/latest.json": b"1"}
    assert bucket.read("refs/latest.json") == b"1"
    assert [found.name for found in bucket.list("refs/")] == ["refs/latest.json"]
    assert bucket.find("nothere") is None


def test_objects_are_found_by_a_pattern_below_a_prefix_of_any_characters(server: StorageServer) -> None:
    bucket = Bucket("gs://b/a[1]*")
    for name in ("records/1/MANIFEST.json", "records/1/x/part-0", "records/MANIFEST.json", "runs/1/2/MANIFEST.json"):
        bucket.write(name, b"")
    assert [found.name for found in bucket.list_matches("*/*/MANIFEST.json")] == ["records/1/MANIFEST.json"]


def test_one_of_eight_writers_creates_an_object_and_one_swaps_it(bucket: Bucket) -> None:
    contents = [f"{number}".encode() for number in range(8)]
    created = list(ThreadPoolExecutor(8).map(lambda content: bucket.create("o", content), contents))
    assert sum(created) == 1 and bucket.read("o") == contents[created.index(True)]
    found = bucket.find("o")
    assert found is not None

    def swap(content: bytes) -> bool:
        try:
            bucket.replace("o", content, found.generation)
        except ChangedError:
            return False
        return True

    swapped = list(ThreadPoolExecutor(8).map(swap, [b"new " + content for content in contents]))
    assert sum(swapped) == 1 and bucket.read("o") == b"new " + contents[swapped.index(True)]


def test_a_write_whose_answer_was_lost_is_known_as_ones_own(bucket: Bucket, server: StorageServer) -> None:
    server.fault = lambda request: Fault(is_lost=True) if request.number == 0 else None
    assert bucket.create("o", b"mine")
    assert not bucket.create("o", b"another's")


@pytest.mark.parametrize("seed", range(3))
def test_files_come_back_as_they_were_whatever_befalls_the_requests(
    seed: int, bucket: Bucket, server: StorageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 1 << 18)
    chance = random.Random(seed)
    faults = [
        Fault(code=503), Fault(code=429), Fault(is_lost=True), Fault(cut_share=0.9), Fault(cut_share=0.1),
        Fault(stall_seconds=0.7),
    ]  # fmt: skip

    def befall(request: Request) -> Fault | None:
        return chance.choice(faults) if chance.random() < 1 / 3 else None

    files = {}
    for number, size in enumerate((0, 1, 1000, 1 << 18, 700_000)):
        path = tmp_path / "made" / f"{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size))
        files[f"store/a/{number}.bin"] = path
    server.fault = befall
    bucket.upload(files)
    assert served(tmp_path) == {f"team/bert/{name}": path.read_bytes() for name, path in files.items()}
    fetched = {name: tmp_path / "fetched" / name for name in files}
    bucket.download(fetched)
    assert [path.read_bytes() for path in fetched.values()] == [path.read_bytes() for path in files.values()]
    bucket.delete(list(files))
    server.fault = lambda request: None
    assert served(tmp_path) == {}


@pytest.mark.parametrize("fault", [Fault(code=503), Fault(is_lost=True), Fault(cut_share=0.5)])
def test_deleting_is_repeated(fault: Fault, bucket: Bucket, server: StorageServer, tmp_path: Path) -> None:
    bucket.write("a", b"1")
    server.fault = lambda request: fault if sum("/batch/" in each.path for each in server.requests) == 1 else None
    bucket.delete(["a", "gone already"])
    assert served(tmp_path) == {}


def test_what_may_not_be_deleted_is_named(bucket: Bucket, server: StorageServer) -> None:
    bucket.write("a", b"1")
    server.refused.add("team/bert/a")
    with pytest.raises(OSError, match=r"the bucket answers 403 \(a is not deleted\); give the account the role"):
        bucket.delete(["b", "a"])


def test_a_damaged_download_is_no_file(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.create("o", b"content")
    from fakes import storage_objects

    original = storage_objects.Bucket.find

    def find_damaged(self, name, query):
        version = original(self, name, query)
        version.checksums = version.checksums | {"crc32c": "AAAAAA==", "md5Hash": "XUFAKrxLKna5cZ2REBfFkg=="}
        return version

    monkeypatch.setattr(storage_objects.Bucket, "find", find_damaged)
    with pytest.raises(OSError, match="gs://b/team/bert/o: damaged on the way"):
        bucket.download({"o": tmp_path / "o"})
    assert not (tmp_path / "o").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "uri", ["b/team", "gs://", "gs:///x", "s3://b", "gs://..", "gs://b?x/y", "GS://b/x", "gs://a b"]
)
def test_what_names_no_bucket_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="names no bucket; give gs://BUCKET"):
        Bucket(uri)


@pytest.mark.parametrize("uri", ["gs://b/x/../y", "gs://b//x", "gs://b/./x", "gs://b/x//store"])
def test_a_folder_that_would_lie_elsewhere_on_this_machine_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="is no name of a file below a folder"):
        Bucket(uri)


def test_what_the_service_refuses_names_the_object_and_what_to_do(bucket: Bucket, server: StorageServer) -> None:
    with pytest.raises(FileNotFoundError, match=r"gs://b/team/bert/nothere: no such object; is the name right"):
        bucket.read("nothere")
    with pytest.raises(FileNotFoundError, match=r"gs://none/o: .* has the bucket been made\?"):
        Bucket("gs://none").create("o", b"")
    server.refused.add("team/bert/o")
    with pytest.raises(OSError, match=r"gs://b/team/bert/o: the bucket answers 403 .*roles/storage.objectUser"):
        bucket.create("o", b"")


def test_a_service_that_is_away_ends_in_a_message(
    bucket: Bucket, server: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPEAT_SECONDS", 1.0)
    server.fault = lambda request: Fault(code=503)
    with pytest.raises(OSError, match=r"gs://b/team/bert/o: not reached .*; give the same command again"):
        bucket.read("o")


def test_without_credentials_one_is_told_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(module.EMULATOR_VARIABLE, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(PermissionError, match="gs://b: no credentials; log in"):
        Bucket("gs://b").read("o")
