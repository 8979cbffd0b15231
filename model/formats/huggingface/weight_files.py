"""A Hugging Face folder's weights -> tensors by the folder's own names.

They are in safetensors, or in PyTorch's pickled state dicts, which are read without executing what they ask for.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertline.model.formats.files import read_object, require_fetched
from bertline.model.training.checkpoint import read_arrays

SAFETENSORS_FILE, TORCH_FILE = "model.safetensors", "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"  # of the file that says which shard holds which tensor
OTHER_FILES = ("tf_model.h5", "flax_model.msgpack", "model.onnx", "model.ckpt.index")
WIDENED = ("float16", "bfloat16")
# Buffers that some versions of transformers saved: 0, 1, 2, ... and zeros. No model needs them.
BUFFERS = ("position_ids", "token_type_ids")

SAFE_SINCE = (2, 6)  # before it, weights_only could be bypassed (CVE-2025-32434)
UNPICKLER = "WeightsUnpickler error:"  # before the reason in torch's long messages
INSTEAD = "convert the file to model.safetensors where it comes from"
CODE = re.compile("global|class|function|instance", re.IGNORECASE)  # what a refused pickle asks for, in torch's words
# What torch.load raises for a file that it refuses, that is cut, empty, of an older kind, or no pickle at all.
LOAD_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
)

Tensors = dict[str, np.ndarray]


def read_tensors(folder: Path) -> tuple[Tensors, list[str]]:
    """The folder's tensors as float32, without buffers, and remarks on what was changed.

    Safetensors are taken where there are some, else PyTorch's pickles, read safely. Raises FileNotFoundError for a
    folder without weights and for a missing shard, ValueError for a file that is not whole or of another kind.
    """
    for name, reader in ((SAFETENSORS_FILE, _read_safetensors), (TORCH_FILE, read_torch)):
        if (folder / name).is_file():
            return _widen(reader(folder / name), folder / name)
        if (folder / f"{name}{INDEX_SUFFIX}").is_file():
            index = folder / f"{name}{INDEX_SUFFIX}"
            return _widen(_read_shards(index, reader), index)
    found = [name for name in OTHER_FILES if (folder / name).is_file()]
    hint = f"; {found[0]} is of a format that is not read here" if found else ""
    raise FileNotFoundError(f"{folder}: has no weights, neither {SAFETENSORS_FILE} nor {TORCH_FILE}{hint}")


def _read_safetensors(path: Path) -> Tensors:
    require_fetched(path)
    return read_arrays(path)


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


def _widen(tensors: Mapping[str, np.ndarray], path: Path) -> tuple[Tensors, list[str]]:
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


def read_torch(path: Path) -> Tensors:
    """The tensors of a PyTorch file by name.

    Raises ValueError where torch is not installed, for a file that is not whole, and for one that holds anything
    but a mapping of tensors. Such a file is refused before any code that it names is run.
    """
    require_fetched(path)
    torch = _import_torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except LOAD_ERRORS as error:
        reason = _shorten_reason(error)
        if isinstance(error, pickle.UnpicklingError) and CODE.search(reason):
            raise ValueError(
                f"{path}: refused, it holds more than tensors and could run code when loaded ({reason}); {INSTEAD}"
            ) from error
        raise ValueError(
            f"{path}: not a whole PyTorch file of tensors ({reason}); fetch it again, or {INSTEAD}"
        ) from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a mapping from name to tensor; {INSTEAD}")
    return {str(name): _convert_tensor(torch, tensor, f"{path}: {name}") for name, tensor in content.items()}


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path}: reading a PyTorch file needs torch, which is not installed; "
            f'run: pip install "bertline[torch]", or {INSTEAD}'
        ) from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < SAFE_SINCE:
        raise ValueError(
            f"{path}: torch {torch.__version__} cannot read it safely; "
            f"install torch {'.'.join(map(str, SAFE_SINCE))} or newer, or {INSTEAD}"
        )
    return torch


def _convert_tensor(torch: Any, tensor: Any, what: str) -> np.ndarray:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{what} is a {type(tensor).__name__}, not a tensor; {INSTEAD}")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"{what} is a sparse or quantized tensor; {INSTEAD}, with plain tensors")
    dense = tensor.detach().contiguous()
    if dense.dtype == torch.bfloat16:  # which NumPy knows by ml_dtypes alone
        import ml_dtypes

        return np.asarray(dense.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(dense.numpy())


def _shorten_reason(error: BaseException) -> str:
    """The sentence of torch's message that names the trouble, without its advice to load the file unsafely."""
    lines = [line.rpartition(UNPICKLER)[2].strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line]
    named = [line for line in lines if line.startswith(("Trying to", "Unsupported"))]
    sentence = (named or lines or [""])[0].split(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {sentence}" if sentence else type(error).__name__
