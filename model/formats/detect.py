"""A path to a model of any format -> the model; the format is told by the files."""

import glob
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bertline.model.config import read_config_and_extras
from bertline.model.formats.case import other_case_remark
from bertline.model.formats.loaded_model import Opened
from bertline.model.formats.parts import parts_of
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

FORMATS = ("bertline", "tf1", "huggingface", "sentence-transformers", "savedmodel")
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
) -> Opened:
    """The model at `path`: a folder, a released zip, or the name of a TF1 checkpoint (.../bert_model.ckpt).

    A vocabulary, a configuration or a case that is given takes the place of the one beside the weights. Raises
    FileNotFoundError when nothing is there, ValueError for what is no model, not whole, or does not fit together.
    """
    use_backend("")  # readers load Keras
    opened = _reader(path)(path, vocab_file, bert_config_file)
    beside = (path if path.is_dir() else path.parent) / VOCABULARY_FILE
    if vocab_file is not None and beside.is_file() and beside.read_bytes() != opened.checkpoint.vocabulary:
        remark = f"{vocab_file} takes the place of {beside.name} beside the weights, which differs"
        opened = replace(opened, remarks=(*opened.remarks, remark))
    if do_lower_case is None or do_lower_case == opened.checkpoint.do_lower_case:
        return opened
    remark = other_case_remark(parse_vocabulary(opened.checkpoint.vocabulary, str(path)), do_lower_case)
    checkpoint = replace(opened.checkpoint, do_lower_case=do_lower_case)
    return replace(opened, checkpoint=checkpoint, remarks=(*opened.remarks, remark))


def model_files(path: Path) -> list[Path]:
    """The files of the model at `path`: all of a folder, a zip, or those of a TF1 checkpoint's name and beside it."""
    _reader(path)  # refuses what is no model
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix == ".zip":
        return [path]
    name = path.name.removesuffix(".index").removesuffix(".meta").partition(".data-")[0]
    beside = [path.parent / each for each in (BERT_CONFIG_FILE, VOCABULARY_FILE, TOKENIZER_FILE)]
    return sorted([*path.parent.glob(f"{glob.escape(name)}.*"), *(file for file in beside if file.is_file())])


Reader = Callable[[Path, Path | None, Path | None], Opened]


def _reader(path: Path) -> Reader:
    if path.is_dir():
        if (path / STATE_FILE).is_file():
            return _read_own
        if (path / SAVEDMODEL_FILE).is_file():
            return _read_savedmodel
        if any(path.glob("*.index")) or any(path.glob("*.data-*-of-*")):
            return _read_tf1
        if any((path / name).is_file() for name in HUGGINGFACE_FILES):
            return _read_huggingface
        raise ValueError(f"{path}: no model in this folder; looked for {LOOKED_FOR}")
    if path.with_name(f"{path.name}.index").is_file() or ".data-" in path.name or path.suffix in TF1_SUFFIXES:
        return _read_tf1
    if path.exists():
        raise ValueError(f"{path}: no model; give {LOOKED_FOR}")
    raise FileNotFoundError(f"{path}: no such model; give {LOOKED_FOR}")


def _read_own(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> Opened:
    checkpoint = read_checkpoint(path, with_slots=(path / OPTIMIZER_FILE).is_file())
    if vocab_file is not None:
        load_vocabulary(vocab_file)
        checkpoint = replace(checkpoint, vocabulary=vocab_file.read_bytes())
    if bert_config_file is not None:
        config, extras = read_config_and_extras(bert_config_file)
        checkpoint = replace(checkpoint, bert_config=config, config_extras=extras)
    return Opened(path, "bertline", checkpoint, tuple(parts_of(checkpoint.weights, checkpoint.bert_config, path)))


def _read_tf1(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> Opened:
    from bertline.model.formats.tf1.checkpoint import read_tf1

    return read_tf1(path, vocab_file=vocab_file, bert_config_file=bert_config_file)


def _read_huggingface(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> Opened:
    from bertline.model.formats.huggingface.read import read_huggingface

    return _with_own_files(read_huggingface(path), vocab_file, bert_config_file)


def _read_savedmodel(path: Path, vocab_file: Path | None, bert_config_file: Path | None) -> Opened:
    from bertline.model.formats.savedmodel.read import read_savedmodel

    return _with_own_files(read_savedmodel(path), vocab_file, bert_config_file)


def _with_own_files(opened: Opened, vocab_file: Path | None, bert_config_file: Path | None) -> Opened:
    """Formats that carry vocabulary and configuration take no others."""
    for given in (vocab_file, bert_config_file):
        if given is not None:
            raise ValueError(f"{given}: not wanted, a {opened.format} folder brings its own; leave it away")
    return opened
