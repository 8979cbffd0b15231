"""A path to a model of any format -> the model; the files tell the format."""

import glob
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bertline.model.config import read_config_and_extras
from bertline.model.formats.case import explain_other_case
from bertline.model.formats.loaded_model import LoadedModel, find_heads
from bertline.model.formats.tf1.folder import find_prefix
from bertline.model.training.backends.choice import use_backend
from bertline.model.training.checkpoint import (
    BERT_CONFIG_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    read_checkpoint,
)
from bertline.tokenizer.wordpiece import load_vocabulary, parse_vocabulary

HUGGINGFACE_FILES = ("modules.json", "config.json")
SAVEDMODEL_FILE = "saved_model.pb"
TF1_SUFFIXES = (".index", ".meta", ".zip")
LOOKED_FOR = (
    f"a bertline checkpoint ({STATE_FILE}), a TF1 checkpoint (*.index) or a zip of one, a Hugging Face or "
    f"sentence-transformers folder (config.json, modules.json), a SavedModel ({SAVEDMODEL_FILE})"
)


def read_model(
    path: Path,
    *,
    vocab_file: Path | None = None,
    bert_config_file: Path | None = None,
    do_lower_case: bool | None = None,
) -> LoadedModel:
    """The model at `path`: a folder, a released zip, or the name of a TF1 checkpoint (.../bert_model.ckpt).

    A vocabulary, a configuration or a case that is given takes the place of the one beside the weights. Raises
    FileNotFoundError for a missing path, ValueError for files that are not a model, not whole, or do not fit together.
    """
    loaded = READERS[find_format(path)](path, vocab_file, bert_config_file)
    beside = (path if path.is_dir() else path.parent) / VOCABULARY_FILE
    if vocab_file is not None and beside.is_file() and beside.read_bytes() != loaded.checkpoint.vocabulary:
        remark = f"{vocab_file} takes the place of {beside.name} beside the weights, which differs"
        loaded = replace(loaded, remarks=(*loaded.remarks, remark))
    if do_lower_case is None or do_lower_case == loaded.checkpoint.do_lower_case:
        return loaded
    remark = explain_other_case(parse_vocabulary(loaded.checkpoint.vocabulary, str(path)), do_lower_case)
    checkpoint = replace(loaded.checkpoint, do_lower_case=do_lower_case)
    return replace(loaded, checkpoint=checkpoint, remarks=(*loaded.remarks, remark))


def list_model_files(path: Path) -> list[Path]:
    """The files of the model at `path`: all of a folder, a zip, or those of a TF1 checkpoint's name and beside it."""
    find_format(path)  # refuses what is no model
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix == ".zip":
        return [path]
    name = path.name.removesuffix(".index").removesuffix(".meta").partition(".data-")[0]
    beside = [path.parent / each for each in (BERT_CONFIG_FILE, VOCABULARY_FILE, TOKENIZER_FILE)]
    return sorted([*path.parent.glob(f"{glob.escape(name)}.*"), *(file for file in beside if file.is_file())])


def find_format(path: Path) -> str:
    """The format of the model at `path`, one of READERS, by the names of its files.

    Raises FileNotFoundError for a missing path, ValueError for what is no model.
    """
    if path.is_dir():
        if (path / STATE_FILE).is_file():
            return "bertline"
        if (path / SAVEDMODEL_FILE).is_file():
            return "savedmodel"
        if any(path.glob("*.index")) or any(path.glob("*.data-*-of-*")):
            return "tf1"
        if any((path / name).is_file() for name in HUGGINGFACE_FILES):
            return "huggingface"
        raise ValueError(f"{path}: no model in this folder; looked for {LOOKED_FOR}")
    names_tf1 = path.with_name(f"{path.name}.index").is_file() or ".data-" in path.name or path.suffix in TF1_SUFFIXES
    if names_tf1 and (path.suffix != ".zip" or path.exists()):
        return "tf1"
    if path.exists():
        raise ValueError(f"{path}: not a model; give {LOOKED_FOR}")
    raise FileNotFoundError(f"{path}: no such model; give {LOOKED_FOR}")


def _read_own(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> LoadedModel:
    checkpoint = read_checkpoint(path, with_slots=(path / OPTIMIZER_FILE).is_file())
    if vocab_file is not None:
        checkpoint = replace(checkpoint, vocabulary=_read_vocabulary(vocab_file))
    if bert_config_file is not None:
        config, extras = read_config_and_extras(bert_config_file)
        checkpoint = replace(checkpoint, bert_config=config, config_extras=extras)
    return LoadedModel(path, "bertline", checkpoint, find_heads(checkpoint.weights, checkpoint.bert_config, path))


def _read_vocabulary(path: Path) -> bytes:
    """The content of a vocab.txt; ValueError for anything else."""
    load_vocabulary(path)
    return path.read_bytes()


def _read_tf1(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> LoadedModel:
    if path.suffix != ".zip":
        find_prefix(path)  # refuses what is not there before TensorFlow is loaded
    use_backend("")
    from bertline.model.formats.tf1.checkpoint import read_tf1

    return read_tf1(path, vocab_file=vocab_file, bert_config_file=bert_config_file)


def _read_huggingface(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> LoadedModel:
    from bertline.model.formats.huggingface.read import read_huggingface

    loaded = read_huggingface(path)
    _require_no_files(loaded.format, vocab_file, bert_config_file)
    return loaded


def _read_savedmodel(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> LoadedModel:
    from bertline.model.formats.savedmodel.read import read_savedmodel

    _require_no_files("savedmodel", vocab_file, bert_config_file)
    use_backend("")
    return read_savedmodel(path)


def _require_no_files(format_name: str, *files: Path | None) -> None:
    """Formats that carry vocabulary and configuration take no others."""
    for file in filter(None, files):
        raise ValueError(f"{file}: not wanted, a {format_name} folder brings its own; leave it out")


READERS: dict[str, Callable[[Path, Path | None, Path | None], LoadedModel]] = {
    "bertline": _read_own,
    "tf1": _read_tf1,
    "huggingface": _read_huggingface,  # and sentence-transformers
    "savedmodel": _read_savedmodel,
}
