"""PyTorch's pickled state dicts (pytorch_model.bin) -> arrays, without executing what the file asks for."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

SAFE_SINCE = (2, 6)  # before it, weights_only could be got round (CVE-2025-32434)
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


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file by name.

    Raises ValueError where torch is not installed, for a file that is not whole, and for one that holds anything
    but a mapping of tensors. Such a file is refused before any code that it names is run.
    """
    torch = _torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except LOAD_ERRORS as error:
        reason = _reason(error)
        if isinstance(error, pickle.UnpicklingError) and CODE.search(reason):
            raise ValueError(
                f"{path}: refused, it holds more than tensors and could run code when loaded ({reason}); {INSTEAD}"
            ) from error
        raise ValueError(
            f"{path}: not a whole PyTorch file of tensors ({reason}); fetch it again, or {INSTEAD}"
        ) from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a mapping from name to tensor; {INSTEAD}")
    return {str(name): _array(torch, tensor, f"{path}: {name}") for name, tensor in content.items()}


def _torch(path: Path) -> Any:
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


def _array(torch: Any, tensor: Any, what: str) -> np.ndarray:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{what} is a {type(tensor).__name__}, not a tensor; {INSTEAD}")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"{what} is a sparse or quantized tensor; {INSTEAD}, with plain tensors")
    dense = tensor.detach().contiguous()
    if dense.dtype == torch.bfloat16:  # which NumPy knows by ml_dtypes alone
        import ml_dtypes

        return np.asarray(dense.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(dense.numpy())


def _reason(error: BaseException) -> str:
    """The sentence of torch's message that names the trouble, without its advice to load the file unsafely."""
    lines = [line.rpartition(UNPICKLER)[2].strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line]
    named = [line for line in lines if line.startswith(("Trying to", "Unsupported"))]
    sentence = (named or lines or [""])[0].split(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {sentence}" if sentence else type(error).__name__
