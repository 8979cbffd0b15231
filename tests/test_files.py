"""Files and folders appear whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertline.files import draft_of, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    write_whole(tmp_path / "note.json", "old")
    write_whole(tmp_path / "note.json", "größer\n")
    assert (tmp_path / "note.json").read_bytes() == "größer\n".encode()
    assert names(tmp_path) == ["note.json"]


def test_a_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("text")
    write_whole(tmp_path / "whole", b"text")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_bucket_becomes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="gs://b/model: a folder of this machine is wanted"):
        write_whole(Path("gs://b/model"), "")
    assert names(tmp_path) == []


def test_a_folder_takes_the_place_of_an_empty_one_and_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with draft_of(tmp_path / "empty") as draft:
        (draft / "inner").mkdir(parents=True)
        (draft / "inner" / "a.txt").write_text("a")
    assert (tmp_path / "empty" / "inner" / "a.txt").read_text() == "a"
    with pytest.raises(OSError, match=r"not empty: '.*/empty'"), draft_of(tmp_path / "empty") as draft:
        draft.mkdir()
    assert names(tmp_path) == ["empty"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_what_was_there_and_no_draft(tmp_path: Path, kind: str) -> None:
    (tmp_path / "note").write_text("old")
    with pytest.raises(KeyboardInterrupt), draft_of(tmp_path / "note") as draft:
        if kind == "folder":
            draft.mkdir()
            draft = draft / "inside"
        draft.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "note").read_text() == "old"
    assert names(tmp_path) == ["note"]


def test_a_process_that_is_killed_leaves_the_old_file_and_the_next_one_removes_its_draft(tmp_path: Path) -> None:
    note = tmp_path / "note[1].json"  # a name that a pattern would read otherwise
    note.write_text("old")
    program = (
        "import os, pathlib, sys\n"
        "from bertline.files import draft_of\n"
        "with draft_of(pathlib.Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(note)], check=False)
    assert killed.returncode == -9
    assert note.read_text() == "old"
    assert len(names(tmp_path)) == 2
    write_whole(note, "new")
    assert note.read_text() == "new"
    assert names(tmp_path) == [note.name]


def test_the_draft_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".note.{os.getppid()}.tmp"
    other.write_text("half")
    write_whole(tmp_path / "note", "whole")
    assert other.read_text() == "half"


def test_the_draft_of_a_name_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    other, own = tmp_path / f".note.json.{dead.pid}.tmp", tmp_path / f".note.{dead.pid}.tmp"
    for draft in (other, own):
        draft.write_text("half")
    write_whole(tmp_path / "note", "whole")
    assert names(tmp_path) == [other.name, "note"]


def test_a_folder_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    look = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: looked.append(folder) or look(folder))
    for number in range(5):
        write_whole(tmp_path / f"part-{number}", "x")
    assert looked == [tmp_path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_draft_of_this_processs_own_number_is_a_dead_ones(tmp_path: Path, kind: str) -> None:
    left = tmp_path / f".made.{os.getpid()}.tmp"
    if kind == "folder":
        left.mkdir()
    (left / "old.txt" if kind == "folder" else left).write_text("half")
    with draft_of(tmp_path / "made") as draft:
        draft.mkdir()
        (draft / "new.txt").write_text("whole")
    assert names(tmp_path) == ["made"]
    assert names(tmp_path / "made") == ["new.txt"]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing/note'$"):
        write_whole(tmp_path / "missing" / "note", "text")
    with pytest.raises(OSError, match=r"note: could not write 4 bytes \(No space left on device\); is the disk full"):  # noqa: SIM117
        with draft_of(tmp_path / "note") as draft:
            draft.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(IsADirectoryError, match=r"folder'$"):
        (tmp_path / "folder").mkdir()
        write_whole(tmp_path / "folder", "text")
