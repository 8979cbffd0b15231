"""The choice of the backend, in processes of their own: it is made once."""

import os
import subprocess
import sys

import pytest

LOADED = """
import os, sys
from bertline.model.training.backends.choice import use_backend, _without_chatter
with _without_chatter():
    os.write(2, b"I0000 00:00:1.2 3 cudart_stub.cc:31] Could not find cuda drivers\\nW0000 another warning\\n")
use_backend(sys.argv[1])
import keras
print(keras.config.backend())
try:
    use_backend("torch" if len(sys.argv) > 2 else sys.argv[1])
except ValueError as error:
    print(error)
"""


def loaded(*argv: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    command = [sys.executable, "-c", LOADED, *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "tensorflow"])
def test_tensorflow_is_loaded_without_its_chatter_and_nothing_else_is_lost(name: str) -> None:
    ended = loaded(name)
    assert ended.stdout == "tensorflow\n"
    assert ended.stderr == "W0000 another warning\n"


@pytest.mark.slow
def test_a_second_choice_is_refused() -> None:
    assert "backend is torch, but this process computes with tensorflow already" in loaded("tensorflow", "other").stdout
