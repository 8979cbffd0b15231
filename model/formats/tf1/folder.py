"""The folder of a TensorFlow 1 training: numbered checkpoints, the last five kept, and a note that names them.

A checkpoint counts from the moment when the note names it; a run that is killed leaves the one before.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from bertline.files import flush_to_disk, write_whole
from bertline.model.formats.tf1.files import STATE_FILE, STATE_LINE

KEPT = 5  # as tf.train.Saver keeps them
NUMBERED = re.compile(r"model\.ckpt-(\d+)")
KEPT_LINE = re.compile(r'^all_model_checkpoint_paths:\s*"(.*)"', re.MULTILINE)
PARTIAL = ".partial-"
INDEX = ".index"
BESIDE = ".json"  # what bertline keeps beside a checkpoint's own files
ENDINGS = (INDEX, ".data-*", ".meta", BESIDE)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints (names without endings) that a training in `folder` goes on from, the newest first.

    The note decides, so that a person can go back by editing it; without one, the numbers do.
    """
    kept, newest = _noted(folder)
    if newest:
        names = [newest, *reversed(kept[: kept.index(newest)] if newest in kept else kept)]
    else:
        found = [NUMBERED.fullmatch(file.name.removesuffix(INDEX)) for file in folder.glob(f"*{INDEX}")]
        names = [match[0] for match in sorted(filter(None, found), key=lambda match: -int(match[1]))]
    return [folder / name for name in names]


def save_numbered(folder: Path, step: int, write: Callable[[Path], None]) -> None:
    """Let `write` put the files of model.ckpt-<step> into an empty folder; whole, they appear in `folder`.

    Only then is it noted, and older ones than the last five are deleted. What `write` raises leaves `folder` as it was.
    """
    for rest in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(rest)
    name = numbered(step)
    partial = folder / f"{PARTIAL}{name}"
    partial.mkdir()
    try:
        write(partial)
        flush_to_disk(partial)
        for file in sorted(partial.iterdir(), key=lambda file: file.suffix == INDEX):  # the index last
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    names = [*(each for each in _noted(folder)[0] if each != name), name]
    _note(folder, names[-KEPT:])
    for old in names[:-KEPT]:
        _delete(folder, old)


def numbered(step: int) -> str:
    """The name, without endings, of the checkpoint of a step."""
    return f"model.ckpt-{step}"


def _noted(folder: Path) -> tuple[list[str], str]:
    """The names in the note, oldest first, and the newest's, "" without a note; their folder may have moved."""
    note = folder / STATE_FILE
    text = note.read_text(encoding="utf-8", errors="replace") if note.is_file() else ""
    kept = [path.rpartition("/")[2] for path in KEPT_LINE.findall(text)]
    newest = STATE_LINE.search(text)
    return kept, newest[1].rpartition("/")[2] if newest else ""


def _note(folder: Path, names: Sequence[str]) -> None:
    lines = [f"model_checkpoint_path: {json.dumps(names[-1])}"]
    lines += [f"all_model_checkpoint_paths: {json.dumps(name)}" for name in names]
    write_whole(folder / STATE_FILE, "\n".join(lines) + "\n")
    flush_to_disk(folder)


def _delete(folder: Path, name: str) -> None:
    """Delete a numbered checkpoint; others that a person put there stay."""
    if NUMBERED.fullmatch(name):
        for file in (file for ending in ENDINGS for file in folder.glob(name + ending)):
            file.unlink()
