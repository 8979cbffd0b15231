"""The local server that stands for Cloud Storage keeps its rules: tried by the real client."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.resumable_media.requests import ResumableUpload

from fakes.storage_server import Fault, Request, StorageServer, serving

SOON = Retry(predicate=lambda error: isinstance(error, Exception), initial=0.01, maximum=0.01, timeout=20)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    with serving(tmp_path) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server


@pytest.fixture
def bucket(server: StorageServer) -> storage.Bucket:
    bucket = storage.Client(project="p").bucket("b")
    bucket.versioning_enabled = True
    bucket.add_lifecycle_delete_rule(age=30, matches_prefix=["tmp/"])
    return storage.Client(project="p").create_bucket(bucket)


def test_a_bucket_keeps_what_is_said_of_it(bucket: storage.Bucket) -> None:
    found = storage.Client(project="p").get_bucket("b")
    assert found.versioning_enabled
    assert [rule["condition"] for rule in found.lifecycle_rules] == [{"age": 30, "matchesPrefix": ["tmp/"]}]
    assert storage.Client(project="p").lookup_bucket("none") is None
    with pytest.raises(exceptions.Conflict):
        storage.Client(project="p").create_bucket("b")


def test_an_object_is_created_once(bucket: storage.Bucket) -> None:
    bucket.blob("o").upload_from_string("1", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("o").upload_from_string("2", if_generation_match=0)
    assert bucket.blob("o").download_as_bytes() == b"1"


def test_a_generation_is_compared_and_swapped(bucket: storage.Bucket) -> None:
    first = bucket.blob("o")
    first.upload_from_string("1")
    bucket.blob("o").upload_from_string("2", if_generation_match=first.generation)
    for change in (
        lambda: bucket.blob("o").upload_from_string("3", if_generation_match=first.generation),
        lambda: bucket.delete_blob("o", if_generation_match=first.generation),
        lambda: bucket.blob("o").compose([bucket.blob("o")], if_generation_match=first.generation),
        lambda: bucket.copy_blob(bucket.blob("o"), bucket, "o", if_generation_match=first.generation),
    ):
        with pytest.raises(exceptions.PreconditionFailed):
            change()
    assert bucket.blob("o").download_as_bytes() == b"2"


def test_of_eight_writers_of_one_generation_one_wins(bucket: storage.Bucket) -> None:
    blob = bucket.blob("ref")
    blob.upload_from_string("0")

    def write(number: int) -> bool:
        try:
            bucket.blob("ref").upload_from_string(str(number), if_generation_match=blob.generation)
        except exceptions.PreconditionFailed:
            return False
        return True

    assert sum(ThreadPoolExecutor(8).map(write, range(8))) == 1


def test_metadata_has_a_generation_of_its_own(bucket: storage.Bucket) -> None:
    blob = bucket.blob("o")
    blob.metadata, blob.cache_control = {"sha256": "z"}, "no-store"
    blob.upload_from_string("1", content_type="application/json")
    found = bucket.get_blob("o")
    assert (found.metadata, found.content_type, found.cache_control) == (
        {"sha256": "z"},
        "application/json",
        "no-store",
    )
    found.metadata = {"sha256": "y"}
    found.patch()
    with pytest.raises(exceptions.PreconditionFailed):
        found.patch(if_metageneration_match=1)
    assert bucket.get_blob("o").metageneration == 2


def test_checksums_are_kept_and_compared(server: StorageServer, bucket: storage.Bucket) -> None:
    bucket.blob("o").upload_from_string("hello", checksum="crc32c")
    found = bucket.get_blob("o")
    assert (found.crc32c, found.md5_hash) == ("mnG7TA==", "XUFAKrxLKna5cZ2REBfFkg==")
    told = b'--x\r\nContent-Type: application/json\r\n\r\n{"name":"wrong","crc32c":"AAAAAA=="}\r\n'
    refused = requests.post(
        f"{server.url}/upload/storage/v1/b/b/o?uploadType=multipart",
        headers={"Content-Type": "multipart/related; boundary=x"},
        data=told + b"--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n",
        timeout=10,
    )
    assert refused.status_code == 400 and bucket.get_blob("wrong") is None


def test_what_is_overwritten_or_deleted_stays_as_a_version(bucket: storage.Bucket) -> None:
    for content in "012":
        bucket.blob("v").upload_from_string(content)
    bucket.blob("v").delete()
    assert bucket.get_blob("v") is None and not list(bucket.list_blobs())
    generations = sorted(blob.generation for blob in bucket.list_blobs(versions=True))
    assert [bucket.blob("v", generation=each).download_as_bytes() for each in generations] == [b"0", b"1", b"2"]
    bucket.blob("v", generation=generations[0]).delete()
    assert len(list(bucket.list_blobs(versions=True))) == 2


def test_a_large_object_goes_up_in_chunks_and_is_there_when_all_has_come(
    server: StorageServer, bucket: storage.Bucket
) -> None:
    content = os.urandom(600_000)
    for if_generation_match in (0, None):
        bucket.blob("big", chunk_size=1 << 18).upload_from_file(
            io.BytesIO(content), size=len(content), if_generation_match=if_generation_match
        )
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("big", chunk_size=1 << 18).upload_from_file(io.BytesIO(content), if_generation_match=0)
    with bucket.blob("stream").open("wb", chunk_size=1 << 18, ignore_flush=True) as stream:
        stream.write(content)
    assert bucket.blob("big").download_as_bytes() == bucket.blob("stream").download_as_bytes() == content
    part = ResumableUpload(f"{server.url}/upload/storage/v1/b/b/o?uploadType=resumable", 1 << 18)
    session = requests.Session()
    part.initiate(session, io.BytesIO(content), {"name": "part"}, "text/plain", total_bytes=len(content))
    part.transmit_next_chunk(session)
    assert bucket.get_blob("part") is None


def test_parts_are_read_and_objects_put_together(bucket: storage.Bucket) -> None:
    for name, content in {"a": "aa", "b": "bb"}.items():
        bucket.blob(name).upload_from_string(content)
    bucket.blob("ab").compose([bucket.blob("a"), bucket.blob("b")], if_generation_match=0)
    assert bucket.blob("ab").download_as_bytes(start=1, end=2) == b"ab"
    bucket.copy_blob(bucket.blob("ab"), bucket, "copy", if_generation_match=0)
    assert bucket.blob("copy").download_as_bytes() == b"aabb"


def test_objects_are_listed_in_pages_by_prefix_delimiter_and_pattern(bucket: storage.Bucket) -> None:
    for number in range(5):
        bucket.blob(f"run/{number}/x").upload_from_string("")
    pages = bucket.list_blobs(prefix="run/", delimiter="/", page_size=2)
    assert not list(pages) and sorted(pages.prefixes) == [f"run/{number}/" for number in range(5)]
    assert len(list(bucket.list_blobs(page_size=2))) == 5
    assert [blob.name for blob in bucket.list_blobs(start_offset="run/3")] == ["run/3/x", "run/4/x"]
    assert len(list(bucket.list_blobs(match_glob="run/*/x"))) == 5
    assert not list(bucket.list_blobs(match_glob="run/*"))


def test_several_requests_go_in_a_batch_and_in_parallel(bucket: storage.Bucket) -> None:
    blobs = [bucket.blob(f"o{number}") for number in range(3)]
    for blob in blobs:
        blob.upload_from_string("1")
    results = transfer_manager.download_many([(blob, io.BytesIO()) for blob in blobs], worker_type="thread")
    assert results == [None] * 3
    with bucket.client.batch():
        for blob in blobs[:2]:
            blob.delete()
    assert [blob.name for blob in bucket.list_blobs()] == ["o2"]
    with pytest.raises(exceptions.NotFound), bucket.client.batch():
        bucket.blob("o0").delete()


def test_files_of_the_mount_are_objects_and_objects_files(tmp_path: Path, bucket: storage.Bucket) -> None:
    (tmp_path / "b" / "folder").mkdir()
    (tmp_path / "b" / "folder" / "name").write_text("1")
    assert bucket.blob("folder/name").download_as_bytes() == b"1"
    before = bucket.get_blob("folder/name").generation
    bucket.blob("folder/name").upload_from_string("2", if_generation_match=before)
    assert (tmp_path / "b" / "folder" / "name").read_text() == "2"


@pytest.mark.parametrize(
    "fault",
    [Fault(code=503), Fault(cut_share=0.0), Fault(cut_share=0.9), Fault(stall_seconds=1.0), Fault(is_lost=True)],
)
def test_a_request_fails_as_it_is_told_and_succeeds_when_it_comes_again(
    fault: Fault, server: StorageServer, bucket: storage.Bucket
) -> None:
    content = os.urandom(400_000)

    def fail_every_third(request: Request) -> Fault | None:
        return fault if request.number % 3 == 2 else None

    server.fault = fail_every_third
    blob = bucket.blob("o", chunk_size=1 << 18)
    for _ in range(3):
        blob.upload_from_file(io.BytesIO(content), rewind=True, retry=SOON, timeout=0.3)
        assert blob.download_as_bytes(retry=SOON, timeout=0.3) == content
    assert any(request.number % 3 == 2 for request in server.requests)
