"""The JSON lines of vectors: every number as Python spells it."""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bertline.model.features.text import LARGEST, json_line


def by_python(number: float) -> str:
    return json.dumps(round(float(np.float32(number)), 6))


def spell(number: float) -> str:
    """One number of a line of JSON."""
    line = json_line(0, ["a"], [-1], np.array([[[number]]], np.float32)).decode()
    return line.removeprefix(
        '{"linex_index": 0, "features": [{"token": "a", "layers": [{"index": -1, "values": ['
    ).removesuffix("]}]}]}\n")


def as_the_original(number: int, labels: list[str], layers: list[int], vectors: np.ndarray) -> bytes:
    """What extract_features.py does with its result."""
    features = [
        {
            "token": label,
            "layers": [
                {"index": layer, "values": [round(float(x), 6) for x in vectors[i, j]]}
                for j, layer in enumerate(layers)
            ],
        }
        for i, label in enumerate(labels)
    ]
    return (json.dumps({"linex_index": number, "features": features}) + "\n").encode()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1e-9, "0.0"),
        (-1e-9, "-0.0"),
        (1e-06, "1e-06"),
        (-5e-06, "-5e-06"),
        (1.2e-05, "1.2e-05"),
        (1e-05, "1e-05"),
        (9.9e-05, "9.9e-05"),
        (1e-04, "0.0001"),
        (0.1, "0.1"),
        (2.0, "2.0"),
        (-1.05579, "-1.05579"),
        (0.0000305, "3e-05"),
        (2**-7, "0.007812"),  # half of a millionth: to the even one
        (3 * 2**-7, "0.023438"),
        (999999936.0, "999999936.0"),
        (16777215.5, "16777216.0"),
    ],
)
def test_numbers_are_spelt_as_by_python(number: float, text: str) -> None:
    assert spell(number) == text == by_python(number)


@given(st.floats(width=32, min_value=-999999936.0, max_value=999999936.0))
@example(1.1754943508222875e-38)
def test_any_number_is_spelt_as_by_python(number: float) -> None:
    assert spell(number) == by_python(number)


def test_many_numbers_of_all_sizes_are_spelt_as_by_python() -> None:
    """A million more were compared once, and the ties; here some of each kind."""
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    halves = (generator.integers(-(2**22), 2**22, 20_000) + 0.5) / 1e6
    ties = generator.integers(-(2**20), 2**20, 20_000) / 2.0**7
    numbers = np.concatenate([generator.standard_normal(20_000), bits[np.abs(bits) < LARGEST], halves, ties])
    vectors = numbers.astype(np.float32)[: len(numbers) // 8 * 8].reshape(2, 4, -1)
    layers = [-1, -2, 3, -1]
    assert json_line(12, ["a", "b"], layers, vectors) == as_the_original(12, ["a", "b"], layers, vectors)


@pytest.mark.parametrize("odd", [1e9, -3.4e38, math.inf, -math.inf, math.nan])
def test_large_and_non_finite_numbers_are_written_too(odd: float) -> None:
    vectors = np.array([[[0.5, odd]]], np.float32)
    assert json_line(0, ["[CLS]"], [-1], vectors) == as_the_original(0, ["[CLS]"], [-1], vectors)


def test_tokens_are_escaped_as_by_python() -> None:
    labels = ['"', "\\", "é", "力", "##ing", "\U0001f600"]
    vectors = np.arange(12, dtype=np.float32).reshape(6, 1, 2)
    assert json_line(3, labels, [11], vectors) == as_the_original(3, labels, [11], vectors)
