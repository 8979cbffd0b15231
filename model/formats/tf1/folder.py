"""Folders of TF1 checkpoints: which files a path means, and a training's numbered ones with the note that names them.

A training keeps its last five. A checkpoint counts from the moment when the note names it; a run that is killed leaves
the one before.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bertline.files import flush_to_disk, write_whole
from bertline.model.formats.files import require_fetched
from bertline.model.formats.tf1.zips import unpack_checkpoint
from bertline.model.training.checkpoint import BERT_CONFIG_FILE, VOCABULARY_FILE

STATE_FILE = "checkpoint"  # in which a trainer notes its newest checkpoint
STATE_LINE = re.compile(r'^model_checkpoint_path:\s*"(.*)"', re.MULTILINE)
SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")
OTHER_CONFIGS = "bert_config*.json"  # some releases put the model's name into the name of the file
TOGETHER = "a TF1 checkpoint is NAME.index with its NAME.data-...; copy or download all of it again"
KEPT = 5  # as tf.train.Saver keeps them
NUMBERED = re.compile(r"model\.ckpt-(\d+)")
KEPT_LINE = re.compile(r'^all_model_checkpoint_paths:\s*"(.*)"', re.MULTILINE)
PARTIAL = ".partial-"
INDEX = ".index"
BESIDE = ".json"  # what bertline keeps beside a checkpoint's own files
ENDINGS = (INDEX, ".data-*", ".meta", BESIDE)


@contextmanager
def locate_checkpoint(path: Path) -> Iterator[Path]:
    """The name without endings of the checkpoint in a zip, or of what `find_prefix` takes.

    A zip's is there as long as the context lasts.
    """
    if path.suffix == ".zip" and not path.is_dir():
        with unpack_checkpoint(path) as folder:
            yield find_prefix(folder)
    else:
        yield find_prefix(path)


def find_prefix(path: Path) -> Path:
    """The checkpoint's name without endings, for a folder, any file of the checkpoint, or the name itself.

    In a folder with several checkpoints the trainer's note decides. Raises FileNotFoundError, naming the file, for
    an index or a shard that is not there, ValueError for a folder with several and no note.
    """
    prefix = _choose_in_folder(path) if path.is_dir() else _remove_ending(path)
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file():
        raise FileNotFoundError(f"{index} is missing; {TOGETHER}")
    for file in [index, *_list_shards(prefix)]:
        require_fetched(file)
    return prefix


def find_configuration(folder: Path) -> Path:
    """The bert_config.json in a folder, or the one file of a name like it."""
    others = sorted(folder.glob(OTHER_CONFIGS))
    if not (folder / BERT_CONFIG_FILE).is_file() and len(others) == 1:
        return others[0]
    return _require_beside(folder / BERT_CONFIG_FILE, "bert_config_file")


def find_vocabulary(folder: Path) -> Path:
    """The vocab.txt in a folder."""
    return _require_beside(folder / VOCABULARY_FILE, "vocab_file")


def _require_beside(path: Path, flag: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, and a TF1 checkpoint does not hold it; take the one of the model that this was "
            f"trained from: copy it there or give it by {flag}"
        )
    return path


def _remove_ending(path: Path) -> Path:
    name = path.name
    for ending in (".index", ".meta"):
        name = name.removesuffix(ending)
    return path.with_name(SHARD.sub("", name))


def _choose_in_folder(folder: Path) -> Path:
    names = sorted(file.name.removesuffix(".index") for file in folder.glob("*.index"))
    noted = _read_note(folder)[1]
    if noted in names:
        return folder / noted
    if len(names) == 1:
        return folder / names[0]
    if not names:
        raise FileNotFoundError(f"{folder}: holds no *.index; {TOGETHER}")
    note = f"its file {STATE_FILE} names {noted}, which is not there" if noted else f"it has no file {STATE_FILE}"
    raise ValueError(f"{folder}: holds several checkpoints, {', '.join(names)}; {note}; give the name of one")


def _list_shards(prefix: Path) -> list[Path]:
    """The data files, all of which must be there."""
    found = {}
    for file in prefix.parent.iterdir():
        numbers = SHARD.search(file.name)
        if numbers and file.name[: numbers.start()] == prefix.name:
            found[int(numbers[1])] = (file, int(numbers[2]))
    count = max((of for _, of in found.values()), default=1)
    for number in range(count):
        if number not in found:
            missing = prefix.with_name(f"{prefix.name}.data-{number:05}-of-{count:05}")
            raise FileNotFoundError(f"{missing} is missing; {TOGETHER}")
    return [found[number][0] for number in range(count)]


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints (names without endings) that a training in `folder` goes on from, the newest first.

    The note decides, so that a person can go back by editing it; without one, the numbers do.
    """
    kept, newest = _read_note(folder)
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
    name = checkpoint_name(step)
    partial = folder / f"{PARTIAL}{name}"
    partial.mkdir()
    try:
        write(partial)
        flush_to_disk(partial)
        for file in sorted(partial.iterdir(), key=lambda file: file.suffix == INDEX):  # the index last
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    names = [*(each for each in _read_note(folder)[0] if each != name), name]
    _write_note(folder, names[-KEPT:])
    for old in names[:-KEPT]:
        _delete(folder, old)


def checkpoint_name(step: int) -> str:
    """The name, without endings, of the checkpoint of a step."""
    return f"model.ckpt-{step}"


def _read_note(folder: Path) -> tuple[list[str], str]:
    """The names in the note, oldest first, and the newest's, "" without a note; their folder may have moved."""
    note = folder / STATE_FILE
    text = note.read_text(encoding="utf-8", errors="replace") if note.is_file() else ""
    kept = [path.rpartition("/")[2] for path in KEPT_LINE.findall(text)]
    newest = STATE_LINE.search(text)
    return kept, newest[1].rpartition("/")[2] if newest else ""


def _write_note(folder: Path, names: Sequence[str]) -> None:
    lines = [f"model_checkpoint_path: {json.dumps(names[-1])}"]
    lines += [f"all_model_checkpoint_paths: {json.dumps(name)}" for name in names]
    write_whole(folder / STATE_FILE, "\n".join(lines) + "\n")
    flush_to_disk(folder)


def _delete(folder: Path, name: str) -> None:
    """Delete a numbered checkpoint; others that a person put there stay."""
    if NUMBERED.fullmatch(name):
        for file in (file for ending in ENDINGS for file in folder.glob(name + ending)):
            file.unlink()
