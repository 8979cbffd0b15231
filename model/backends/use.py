"""The choice of Keras's backend, which a process makes once, before anything loads Keras."""

import importlib.util
import os
import sys

VARIABLE = "KERAS_BACKEND"


def use_backend(name: str) -> None:
    """Let Keras compute with this backend; an empty name leaves the choice to the environment.

    Raises ValueError when the backend is not installed, or when Keras has been loaded with another one.
    """
    if not name:
        return
    if "keras" in sys.modules:
        from bertline.model.backends.choice import in_use

        if in_use() != name:
            raise ValueError(f"backend is {name}, but this process computes with {in_use()} already; start another one")
        return
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"backend is {name}, which is not installed; pip install 'bertline[{name}]'")
    os.environ[VARIABLE] = name
