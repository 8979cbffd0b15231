"""The folder of a TF1 training: which checkpoint goes on, which are kept, and nothing half-written."""

from pathlib import Path

import pytest

from bertline.model.formats.tf1.folder import find_checkpoints, save_numbered


def save(folder: Path, step: int) -> None:
    def write(new: Path) -> None:
        for ending in (".index", ".data-00000-of-00001", ".json"):
            (new / f"model.ckpt-{step}{ending}").write_text(f"{step}{ending}")

    save_numbered(folder, step, write)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in find_checkpoints(folder)]


def test_the_last_five_are_kept_and_noted(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8, 9, 10):
        save(tmp_path, step)
    assert names_in(tmp_path) == [f"model.ckpt-{step}" for step in (10, 9, 8, 6, 4)]
    assert not list(tmp_path.glob("model.ckpt-2.*"))
    assert len(list(tmp_path.iterdir())) == 5 * 3 + 1
    assert (tmp_path / "model.ckpt-10.index").read_text() == "10.index"


def test_an_edited_note_goes_back(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        save(tmp_path, step)
    note = tmp_path / "checkpoint"
    note.write_text(
        note.read_text().replace('model_checkpoint_path: "model.ckpt-6"', 'model_checkpoint_path: "model.ckpt-4"', 1)
    )
    assert names_in(tmp_path) == ["model.ckpt-4", "model.ckpt-2"]
    save(tmp_path, 5)
    assert names_in(tmp_path) == [f"model.ckpt-{step}" for step in (5, 6, 4, 2)]


def test_paths_of_another_machine_and_other_names_are_understood(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/old/bert_model.ckpt"\nall_model_checkpoint_paths: "/old/bert_model.ckpt"\n'
    )
    (tmp_path / "bert_model.ckpt.index").write_text("a person's")
    assert names_in(tmp_path) == ["bert_model.ckpt"]
    for step in range(1, 7):
        save(tmp_path, step)
    assert names_in(tmp_path) == [f"model.ckpt-{step}" for step in (6, 5, 4, 3, 2)]
    assert (tmp_path / "bert_model.ckpt.index").is_file()


def test_without_a_note_the_highest_number_is_the_newest(tmp_path: Path) -> None:
    assert names_in(tmp_path / "none") == []
    for name in ("model.ckpt-9", "model.ckpt-10", "other"):
        (tmp_path / f"{name}.index").write_text("")
    assert names_in(tmp_path) == ["model.ckpt-10", "model.ckpt-9"]


def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".partial-model.ckpt-2").mkdir()
    (tmp_path / ".partial-model.ckpt-2" / "model.ckpt-2.data-00000-of-00001").write_text("cut")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def write(new: Path) -> None:
        (new / "model.ckpt-3.index").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_numbered(tmp_path, 3, write)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
