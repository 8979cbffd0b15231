"""Which files a path to a TF1 checkpoint means: <prefix>.index, its data shards, and what lies beside them."""

import re
from pathlib import Path

from bertline.model.formats.files import refuse_pointer
from bertline.model.training.checkpoint import BERT_CONFIG_FILE, VOCABULARY_FILE

STATE_FILE = "checkpoint"  # in which a trainer notes its newest checkpoint
STATE_LINE = re.compile(r'^model_checkpoint_path:\s*"(.*)"', re.MULTILINE)
SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")
OTHER_CONFIGS = "bert_config*.json"  # some releases put the model's name into the name of the file
TOGETHER = "a TF1 checkpoint is NAME.index with its NAME.data-...; copy or download all of it again"


def prefix_of(path: Path) -> Path:
    """The checkpoint's name without endings, for a folder, any file of the checkpoint, or the name itself.

    In a folder with several checkpoints the trainer's note decides. Raises FileNotFoundError, naming the file, for
    an index or a shard that is not there, ValueError for a folder with several and no note.
    """
    prefix = _in_folder(path) if path.is_dir() else _without_ending(path)
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file():
        raise FileNotFoundError(f"{index} is missing; {TOGETHER}")
    for file in [index, *_shards(prefix)]:
        refuse_pointer(file)
    return prefix


def configuration_beside(folder: Path) -> Path:
    """The bert_config.json in a folder, or the one file of a name like it."""
    others = sorted(folder.glob(OTHER_CONFIGS))
    if not (folder / BERT_CONFIG_FILE).is_file() and len(others) == 1:
        return others[0]
    return _beside(folder / BERT_CONFIG_FILE, "bert_config_file")


def vocabulary_beside(folder: Path) -> Path:
    """The vocab.txt in a folder."""
    return _beside(folder / VOCABULARY_FILE, "vocab_file")


def _beside(path: Path, flag: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, and a TF1 checkpoint does not hold it; take the one of the model that this was "
            f"trained from: copy it there or give it by {flag}"
        )
    return path


def _without_ending(path: Path) -> Path:
    name = path.name
    for ending in (".index", ".meta"):
        name = name.removesuffix(ending)
    return path.with_name(SHARD.sub("", name))


def _in_folder(folder: Path) -> Path:
    names = sorted(file.name.removesuffix(".index") for file in folder.glob("*.index"))
    noted = _noted(folder / STATE_FILE)
    if noted in names:
        return folder / noted
    if len(names) == 1:
        return folder / names[0]
    if not names:
        raise FileNotFoundError(f"{folder}: holds no *.index; {TOGETHER}")
    note = f"its file {STATE_FILE} names {noted}, which is not there" if noted else f"it has no file {STATE_FILE}"
    raise ValueError(f"{folder}: holds several checkpoints, {', '.join(names)}; {note}; give the name of one")


def _noted(state: Path) -> str:
    """The newest checkpoint's name; "" without a note. Its folder may be one of another machine."""
    if not state.is_file():
        return ""
    found = STATE_LINE.search(state.read_text(encoding="utf-8", errors="replace"))
    return found[1].rpartition("/")[2] if found else ""


def _shards(prefix: Path) -> list[Path]:
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
