import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest

from bertline.components.store.artifacts import Provenance, Store, publish, work_folder
from bertline.components.store.manifests import (
    MANIFEST,
    crawl,
    describe,
    digest_of,
    read_manifest,
    sha256_of,
    verify,
)
from bertline.components.store.versions import read_checkout


@dataclass(frozen=True)
class CopyConfig:
    times: int = 1
    workers: int = field(default=1, metadata={"volatile": True})


def provenance(source: Path, **settings: int) -> Provenance:
    return Provenance(
        "copies", "copy", {"source": [source]}, CopyConfig(**settings), ["bertline.components.store.artifacts"]
    )


def writer(text: str = "text"):
    def write(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "a.txt").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text(text * 2)
        return {"files": 2}

    return write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.txt"
    file.write_text("source")
    return file


def test_manifest_names_files_inputs_parameters_and_counts(tmp_path: Path, source: Path) -> None:
    made = publish(tmp_path / "out", provenance(source, times=3), writer())
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest == made.manifest
    assert [entry["path"] for entry in manifest["files"]] == ["a.txt", "sub/b.txt"]
    assert manifest["files"][0]["size_bytes"] == 4
    assert manifest["parameters"] == {"times": 3}
    assert manifest["counts"] == {"files": 2}
    assert manifest["inputs"][0]["file"] == "source.txt"
    assert verify(tmp_path / "out") == manifest


def test_files_of_one_name_are_told_apart_without_the_folder_of_this_machine(tmp_path: Path) -> None:
    def described(root: Path) -> list[dict[str, str]]:
        files = [root / language / "news" / "text.txt" for language in ("en", "de")]
        for file in (*files, root / "dev.tsv"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(file.parent.parent.name if file in files else "dev")
        inputs = {"text": files, "dev": [root / "dev.tsv"]}
        return Provenance("tuned", "tune", inputs, CopyConfig(), [], subject="mrpc").described_inputs()

    here = described(tmp_path / "here")
    assert [each["label"] for each in here] == ["mrpc/en/news/text.txt", "mrpc/de/news/text.txt", "mrpc/dev.tsv"]
    assert [each["file"] for each in here] == ["text.txt", "text.txt", "dev.tsv"]
    assert described(tmp_path / "elsewhere") == here


def test_a_label_stands_in_the_manifest_and_not_in_the_fingerprint(tmp_path: Path, source: Path) -> None:
    named = dataclasses.replace(provenance(source), label="copies of source", subject="this")
    assert named.fingerprint() == provenance(source).fingerprint()
    assert publish(tmp_path / "out", named, writer()).manifest["label"] == "copies of source"
    assert publish(tmp_path / "out", provenance(source), writer()).reused


def test_versions_of_what_the_process_has_loaded_stand_beside_the_manifest(tmp_path: Path, source: Path) -> None:
    made = publish(tmp_path / "out", provenance(source), writer())
    facts = json.loads((made.path / "RUN.json").read_text())
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["bertline"] == version("bertline")
    assert ("numpy" in facts["versions"]) == ("numpy" in sys.modules)
    assert "versions" not in made.manifest
    if (Path(__file__).parents[3] / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}", facts["checkout"]["commit"])
        assert facts["checkout"]["dirty"] in (True, False)


def test_a_checkout_says_its_commit_and_whether_its_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True).stdout

    read = read_checkout.__wrapped__
    assert read(tmp_path) == {}
    git("init")
    (tmp_path / "a.py").write_text("a = 1")
    git("add", "a.py")
    assert read(tmp_path)["dirty"]
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD").strip()
    assert read(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a.py").write_text("a = 2")
    assert read(tmp_path) == {"commit": commit, "dirty": True}
    monkeypatch.setenv("PATH", str(tmp_path))  # no git there
    assert read(tmp_path) == {}


def test_manifest_is_the_same_bytes_for_any_worker_count(tmp_path: Path, source: Path) -> None:
    for workers in (1, 2):
        publish(tmp_path / f"out{workers}", provenance(source, workers=workers), writer())
    first, second = ((tmp_path / name / MANIFEST).read_bytes() for name in ("out1", "out2"))
    assert first == second


def test_a_finished_artifact_is_kept_and_not_written_again(tmp_path: Path, source: Path) -> None:
    publish(tmp_path / "out", provenance(source), writer())

    def refuse(folder: Path, work: Path) -> dict[str, int | float]:
        raise AssertionError("written again")

    assert publish(tmp_path / "out", provenance(source), refuse).reused


def test_other_parameters_inputs_or_code_make_another_place_in_the_store(tmp_path: Path, source: Path) -> None:
    store = Store(tmp_path / "store")
    places = {store.place(provenance(source)), store.place(provenance(source, times=2))}
    source.write_text("other text")
    os.utime(source, ns=(1, 1))
    places.add(store.place(provenance(source)))
    other_code = Provenance(
        "copies", "copy", {"source": [source]}, CopyConfig(), ["bertline.components.store.fingerprint"]
    )
    places.add(store.place(other_code))
    assert len(places) == 4
    assert store.place(provenance(source, workers=2)) in places


def test_nothing_appears_when_writing_fails(tmp_path: Path, source: Path) -> None:
    def fail(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "half.txt").write_text("half")
        raise ValueError("bad input")

    with pytest.raises(ValueError, match="bad input"):
        publish(tmp_path / "out", provenance(source), fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.txt"]


def test_the_draft_of_a_killed_run_is_no_artifact_and_is_removed_by_the_next(tmp_path: Path, source: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from bertline.components.store.artifacts import Provenance, publish\n"
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Config: times: int = 1\n"
        "def die(folder, work):\n"
        "    (folder / 'half.txt').write_text('half'); os.kill(os.getpid(), 9)\n"
        "publish(pathlib.Path(sys.argv[1]) / 'out', Provenance('copies', 'copy', {}, Config(), []), die)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -9
    drafts = [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]
    assert len(drafts) == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="not an artifact"):
        read_manifest(drafts[0])
    publish(tmp_path / "out", provenance(source), writer())
    assert not drafts[0].exists()


def test_the_work_folder_is_removed_once_the_artifact_is_whole(tmp_path: Path, source: Path) -> None:
    def write(folder: Path, work: Path) -> dict[str, int | float]:
        work.mkdir(parents=True)
        (work / "checkpoint").write_text("step 5")
        (folder / "a.txt").write_text("text")
        return {}

    made = publish(Store(tmp_path / "store"), provenance(source), write)
    assert not work_folder(made.path).exists()
    work_folder(made.path).mkdir()  # where a run was killed between the two
    assert publish(Store(tmp_path / "store"), provenance(source), write).reused
    assert not work_folder(made.path).exists()


def test_something_else_in_the_way_is_refused_and_left_alone(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="already holds something else"):
        publish(tmp_path / "out", provenance(source), writer())
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_an_output_below_a_file_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(NotADirectoryError, match="a file is in the way"):
        publish(source / "out", provenance(source), writer())


@pytest.fixture
def as_an_ordinary_user():
    """Root may write everywhere: a test of permissions that runs as root becomes `nobody`."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unwritable_output_is_refused(as_an_ordinary_user: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder) / "locked"
        locked.mkdir(mode=0o500)
        provenance = Provenance("copies", "copy", {}, CopyConfig(), [])
        with pytest.raises(PermissionError, match="not writable"):
            publish(locked / "out", provenance, writer())
        with pytest.raises(PermissionError, match="cannot be made"):
            publish(locked / "further" / "out", provenance, writer())


def test_a_damaged_artifact_is_not_taken_for_finished(tmp_path: Path, source: Path) -> None:
    made = publish(tmp_path / "out", provenance(source), writer())
    (made.path / "a.txt").write_text("tex7")
    with pytest.raises(ValueError, match=r"a\.txt: differs from its manifest"):
        publish(tmp_path / "out", provenance(source), writer())


def test_readers_say_what_a_folder_is_not(tmp_path: Path, source: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such artifact"):
        read_manifest(tmp_path / "missing")
    made = publish(tmp_path / "out", provenance(source), writer())
    with pytest.raises(ValueError, match='holds "copies" where "records" is wanted'):
        read_manifest(made.path, "records")
    (made.path / MANIFEST).write_text('{"schema": ')
    with pytest.raises(ValueError, match="damaged"):
        read_manifest(made.path)


def test_a_folder_inside_an_artifact_can_be_an_input_of_its_own(tmp_path: Path, source: Path) -> None:
    made = publish(tmp_path / "out", provenance(source), writer())
    part = verify(made.path / "sub")
    assert [entry["path"] for entry in part["files"]] == ["b.txt"]
    assert part["part_of"] == made.manifest["digest"] != part["digest"]
    assert describe(made.path / "sub") == {key: part[key] for key in ("kind", "digest", "part_of")}
    with pytest.raises(ValueError, match='holds "copies" where "records" is wanted'):
        read_manifest(made.path / "sub", "records")
    (made.path / "sub" / "b.txt").write_text("text")
    with pytest.raises(ValueError, match=r"b\.txt: differs"):
        verify(made.path / "sub")
    (made.path / "foreign").mkdir()
    with pytest.raises(ValueError, match=r"foreign: not an artifact \(no MANIFEST"):
        read_manifest(made.path / "foreign")


def test_crawl_finds_whole_artifacts_only(tmp_path: Path, source: Path) -> None:
    made = publish(Store(tmp_path / "store"), provenance(source), writer())
    shutil.copytree(made.path, made.path.with_name(".draft.1.tmp"))
    work_folder(made.path).mkdir()
    assert list(crawl(tmp_path / "store")) == [made.path]


def write_with_page(text: str):
    def write(folder: Path, work: Path) -> dict[str, int | float]:
        (folder / "stats.html").write_text(text)
        return writer()(folder, work)

    return write


def test_a_page_lies_beside_the_artifact_outside_its_digest(tmp_path: Path, source: Path) -> None:
    made = publish(tmp_path / "out", provenance(source), write_with_page("<p>drawn so</p>"))
    assert made.manifest["pages"] == ["stats.html"]
    assert "stats.html" not in [entry["path"] for entry in made.manifest["files"]]
    other = publish(tmp_path / "other", provenance(source), write_with_page("<p>drawn otherwise</p>"))
    assert (other.path / MANIFEST).read_bytes() == (made.path / MANIFEST).read_bytes()
    (made.path / "stats.html").write_text("<p>edited</p>")
    assert publish(tmp_path / "out", provenance(source), writer()).reused
    (made.path / "stats.html").unlink()
    assert verify(made.path) == made.manifest


def test_an_artifact_whose_digest_covers_a_page_stays_valid(tmp_path: Path, source: Path) -> None:
    """As stats.html was listed up to 2026-11; the digest stands among the inputs of what was made of it."""
    made = publish(tmp_path / "out", provenance(source), write_with_page("<p>drawn so</p>"))
    page = made.path / "stats.html"
    entry = {"path": page.name, "size_bytes": page.stat().st_size, "sha256": sha256_of(page)}
    manifest = {key: value for key, value in made.manifest.items() if key != "pages"}
    manifest["files"] = sorted([*manifest["files"], entry], key=lambda each: each["path"])
    manifest["digest"] = digest_of(manifest["files"])
    (made.path / MANIFEST).write_text(json.dumps(manifest))
    assert describe(made.path)["digest"] == manifest["digest"] != made.manifest["digest"]
    assert verify(made.path) == manifest
    page.write_text("<p>edited</p>")
    with pytest.raises(ValueError, match=r"stats\.html: differs"):
        verify(made.path)


def test_an_artifact_made_by_other_code_is_readable_and_not_taken_for_made(tmp_path: Path, source: Path) -> None:
    made = publish(tmp_path / "out", provenance(source), writer())
    old = made.manifest | {"code": "0123456789abcdef", "fingerprint": "fedcba9876543210"}
    (made.path / MANIFEST).write_text(json.dumps(old))
    assert verify(made.path) == old
    with pytest.raises(FileExistsError, match="already holds something else"):
        publish(tmp_path / "out", provenance(source), writer())
    store = Store(tmp_path / "store")
    made.path.rename(tmp_path / "moved")
    (store.root / "copies").mkdir(parents=True)
    (tmp_path / "moved").rename(store.root / "copies" / old["fingerprint"])
    assert not publish(store, provenance(source), writer()).reused
