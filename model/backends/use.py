"""The choice of Keras's backend, which a process makes once, before anything loads Keras."""

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator

VARIABLE = "KERAS_BACKEND"
TENSORFLOW = "tensorflow"
# What TensorFlow says while it is loaded, before it heeds TF_CPP_MIN_LOG_LEVEL: of absent GPUs and of oneDNN.
CHATTER = (b"WARNING: All log messages before absl::InitializeLog()", b" cudart_stub.cc:", b" port.cc:")
STDERR = 2


def use_backend(name: str) -> None:
    """Let Keras compute with this backend; an empty name leaves the choice to the environment.

    Raises ValueError when the backend is not installed, or when Keras has been loaded with another one.
    """
    if name and "keras" in sys.modules:
        from bertline.model.backends.choice import in_use

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
    """Hold back what this process writes to its standard error, and pass on in the end all but CHATTER."""
    sys.stderr.flush()
    shown = os.dup(STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, STDERR)
            os.close(shown)
            held.seek(0)
            for line in held:
                if not any(chatter in line for chatter in CHATTER):
                    os.write(STDERR, line)
