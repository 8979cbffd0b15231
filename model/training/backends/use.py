"""The choice of Keras's backend, which a process makes once, before anything loads Keras."""

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

VARIABLE = "KERAS_BACKEND"
TENSORFLOW = "tensorflow"
# What TensorFlow says while it is loaded, before it heeds TF_CPP_MIN_LOG_LEVEL: of absent GPUs and of oneDNN.
CHATTER = (b"WARNING: All log messages before absl::InitializeLog()", b" cudart_stub.cc:", b" port.cc:")
FILTER = f"""
import sys
for line in sys.stdin.buffer:
    if not any(chatter in line for chatter in {CHATTER}):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""
STDERR = 2


def use_backend(name: str) -> None:
    """Let Keras compute with this backend; an empty name leaves the choice to the environment.

    Raises ValueError when the backend is not installed, or when Keras has been loaded with another one.
    """
    if name and "keras" in sys.modules:
        from bertline.model.training.backends.choice import in_use

        if in_use() != name:
            raise ValueError(f"backend is {name}, but this process computes with {in_use()} already; start another one")
    elif name:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"backend is {name}, which is not installed; pip install 'bertline[{name}]'")
        os.environ[VARIABLE] = name
    if os.environ.get(VARIABLE, TENSORFLOW) == TENSORFLOW and TENSORFLOW not in sys.modules:
        with _without_chatter():
            importlib.import_module(TENSORFLOW)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Pass on what this process writes to its standard error, but for CHATTER: by a process that outlives a crash."""
    sys.stderr.flush()
    shown = os.dup(STDERR)
    with subprocess.Popen([sys.executable, "-ISc", FILTER], stdin=subprocess.PIPE) as passing_on:
        assert passing_on.stdin is not None
        os.dup2(passing_on.stdin.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, STDERR)
            os.close(shown)
