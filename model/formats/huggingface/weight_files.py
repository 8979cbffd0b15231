"""A Hugging Face folder's weights, whichever files hold them -> tensors by the folder's own names."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bertline.model.formats.files import read_object, refuse_pointer
from bertline.model.formats.huggingface.torch_files import read_torch
from bertline.model.training.checkpoint import read_arrays

SAFETENSORS_FILE, TORCH_FILE = "model.safetensors", "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"  # of the file that says which shard holds which tensor
OTHER_FILES = ("tf_model.h5", "flax_model.msgpack", "model.onnx", "model.ckpt.index")
WIDENED = ("float16", "bfloat16")
# Buffers that some versions of transformers saved: 0, 1, 2, ... and zeros. No model needs them.
BUFFERS = ("position_ids", "token_type_ids")

Tensors = dict[str, np.ndarray]


def read_tensors(folder: Path) -> tuple[Tensors, list[str]]:
    """The folder's tensors as float32, without buffers, and remarks on what was changed.

    Safetensors are taken where there are some, else PyTorch's pickles, read safely. Raises FileNotFoundError for a
    folder without weights and for a missing shard, ValueError for a file that is not whole or of another kind.
    """
    for name, reader in ((SAFETENSORS_FILE, _read_safetensors), (TORCH_FILE, _read_torch)):
        if (folder / name).is_file():
            return _as_float32(reader(folder / name), folder / name)
        if (folder / f"{name}{INDEX_SUFFIX}").is_file():
            index = folder / f"{name}{INDEX_SUFFIX}"
            return _as_float32(_read_shards(index, reader), index)
    found = [name for name in OTHER_FILES if (folder / name).is_file()]
    hint = f"; {found[0]} is of a format that is not read here" if found else ""
    raise FileNotFoundError(f"{folder}: has no weights, neither {SAFETENSORS_FILE} nor {TORCH_FILE}{hint}")


def _read_safetensors(path: Path) -> Tensors:
    refuse_pointer(path)
    return read_arrays(path)


def _read_torch(path: Path) -> Tensors:
    refuse_pointer(path)
    return read_torch(path)


def _read_shards(index: Path, reader: Callable[[Path], Tensors]) -> Tensors:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f'{index}: "weight_map" is missing; it says which file holds which tensor')
    tensors: Tensors = {}
    for name in sorted(set(map(str, places.values()))):
        path = index.parent / name
        if Path(name).name != name:
            raise ValueError(f'{index}: names the shard "{name}", which is not a file of this folder')
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, a shard that {index.name} names; fetch the whole folder")
        tensors |= reader(path)
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise ValueError(f"{index}: {missing[0]} is not in {places[missing[0]]}; fetch the whole folder again")
    return tensors


def _as_float32(tensors: Mapping[str, np.ndarray], path: Path) -> tuple[Tensors, list[str]]:
    found: Tensors = {}
    changed: dict[str, int] = {}
    for name, array in tensors.items():
        if name.rpartition(".")[2] in BUFFERS:
            continue
        kind = array.dtype.name
        if kind != "float32":
            if kind not in (*WIDENED, "float64"):
                raise ValueError(
                    f"{path}: {name} holds {kind}; only floating-point weights are read, not quantized ones"
                )
            changed[kind] = changed.get(kind, 0) + 1
        found[name] = array.astype(np.float32, copy=False)
    remarks = [
        f"{count} of {len(found)} tensors were {kind}, "
        + ("widened to float32 without loss" if kind in WIDENED else "rounded to float32")
        for kind, count in sorted(changed.items())
    ]
    return found, remarks
