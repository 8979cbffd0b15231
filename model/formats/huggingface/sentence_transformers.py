"""sentence-transformers' own files: how the vectors of tokens become the vector of a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.model.features.pooling import POOLINGS
from bertline.model.formats.files import read_json, read_object, write_json
from bertline.model.formats.huggingface.tokenizer import SETTINGS_FILE
from bertline.model.formats.huggingface.write import write_huggingface
from bertline.model.training.checkpoint import Checkpoint

MODULES_FILE = "modules.json"
LENGTH_FILE = "sentence_bert_config.json"
LIBRARY_FILE = "config_sentence_transformers.json"
POOLING_FOLDER, NORMALIZE_FOLDER = "1_Pooling", "2_Normalize"
TYPES = "sentence_transformers.models"  # the modules' old place, which every version of the library knows
FLAGS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
OTHER_FLAGS = {
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
UNLIMITED = 1 << 20  # word pieces; a limit from here on stands for no limit
VERSIONS_KEY, KIND_KEY = "__version__", "model_type"
DEFAULT_LIBRARY: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
# Keys of Checkpoint.state that hold what these files say.
POOLING, NORMALIZE, LENGTH, LIBRARY = "pooling", "normalize", "max_seq_length", "sentence_transformers"


@dataclass(frozen=True)
class SentenceModules:
    """What modules.json and its companions say."""

    folder: Path  # of the BERT
    state: dict[str, Any]  # pooling, normalize, max_seq_length, sentence_transformers, as far as they are there
    remarks: list[str]


def read_modules(path: Path) -> SentenceModules:
    """The modules of a sentence-transformers folder.

    Raises ValueError when the first is not a Transformer. Modules that our model does not know, and poolings other
    than mean, cls and max, are left out with a remark: the encoder is the same, the texts' vectors are not.
    """
    first, *others = _read_list(path / MODULES_FILE)
    if first["type"] != "Transformer":
        raise ValueError(f"{path / MODULES_FILE}: begins with a {first['type']} module; only Transformer is read")
    folder = path / first["path"]
    state, remarks = _read_length(folder)
    pooling, unknown = None, []
    for module in others:
        if module["type"] == "Pooling":
            pooling = _read_pooling(path / module["path"] / "config.json")
        elif module["type"] != "Normalize":
            unknown.append(module["type"])
    if unknown:
        remarks.append(f"its {', '.join(unknown)} module was left out: vectors of texts are not those of this folder")
    elif pooling is None:
        remarks.append("it has no pooling module, so it gives no vectors of texts")
    elif pooling not in POOLINGS:
        remarks.append(f"its pooling is {pooling}, which is not known here and was left out")
    else:
        state |= {POOLING: pooling, NORMALIZE: any(module["type"] == "Normalize" for module in others)}
    return SentenceModules(folder, state | _read_library(path / LIBRARY_FILE), remarks)


def write_sentence_transformers(
    folder: Path, checkpoint: Checkpoint, pooling: str, normalize: bool
) -> dict[str, int | float]:
    """Write the folder that SentenceTransformer(folder) loads; returns counts.

    A model that was read from such a folder keeps its longest input and its prompts.
    """
    counts = write_huggingface(folder, checkpoint)
    names = ["Transformer", "Pooling"] + (["Normalize"] if normalize else [])
    places = ["", POOLING_FOLDER, NORMALIZE_FOLDER]
    modules = [
        {"idx": number, "name": str(number), "path": place, "type": f"{TYPES}.{name}"}
        for number, (name, place) in enumerate(zip(names, places))
    ]
    write_json(folder / MODULES_FILE, modules)
    positions = checkpoint.bert_config.max_position_embeddings
    length = min(checkpoint.state.get(LENGTH, positions), positions)
    # Lower-casing is the tokenizer's; this flag would do it a second time, before the tokenizer.
    write_json(folder / LENGTH_FILE, {"max_seq_length": length, "do_lower_case": False})
    write_json(folder / LIBRARY_FILE, DEFAULT_LIBRARY | dict(checkpoint.state.get(LIBRARY, {})))
    (folder / POOLING_FOLDER).mkdir()
    flags = {flag: name == pooling for name, flag in {**FLAGS, **OTHER_FLAGS}.items()}
    size = {"word_embedding_dimension": checkpoint.bert_config.hidden_size}
    write_json(folder / POOLING_FOLDER / "config.json", size | flags)
    return counts


def _read_list(path: Path) -> list[dict[str, str]]:
    """Type, without its package, and path of each module."""
    listed = read_json(path)
    if not isinstance(listed, list) or not listed or not all(isinstance(module, dict) for module in listed):
        raise ValueError(f"{path}: expected a list of modules; take the folder as it was released")
    modules = []
    for module in listed:
        place = str(module.get("path", ""))
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise ValueError(f'{path}: a module lies at "{place}", outside of this folder')
        modules.append({"type": str(module.get("type", "")).rpartition(".")[2], "path": place})
    return modules


def _read_pooling(path: Path) -> str:
    """The names of the pooling: one, or several that are put one behind the other."""
    config = read_object(path)
    mode = config.get("pooling_mode")
    if mode is None:
        known: Mapping[str, str] = {**FLAGS, **OTHER_FLAGS}
        mode = [name for name, flag in known.items() if config.get(flag)] or ["mean"]
    names = [mode] if isinstance(mode, str) else [str(name) for name in mode]
    return " and ".join(names) + ("" if config.get("include_prompt", True) else " without the prompt")


def _read_length(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The longest input in word pieces, from the library's own file or else the tokenizer's, and remarks."""
    files = folder / LENGTH_FILE, folder / SETTINGS_FILE
    own, theirs = (read_object(path) if path.is_file() else {} for path in files)
    length = own.get("max_seq_length") or theirs.get("model_max_length")
    remarks = []
    if own.get("do_lower_case"):
        remarks.append(f"{LENGTH_FILE} asks for lower-casing before the tokenizer; it was left out")
    return ({LENGTH: length} if isinstance(length, int) and length < UNLIMITED else {}), remarks


def _read_library(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    config = {key: value for key, value in read_object(path).items() if key not in (VERSIONS_KEY, KIND_KEY)}
    return {LIBRARY: config} if config else {}
