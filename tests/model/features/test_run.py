"""Text to the vectors of its tokens: the same numbers whatever is computed together, in every format."""

import io
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from bertline.model import bert
from bertline.model.bert import encode, initial_weights
from bertline.model.config import BertConfig, encoder_shapes
from bertline.model.features import run as features
from bertline.model.features.run import FeaturesConfig, run
from bertline.model.features.vectors import cut_batches
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary, WordPieceTokenizer

PIECES = (
    *SPECIAL_TOKENS,
    *[
        "the",
        "man",
        "went",
        "to",
        "store",
        ".",
        "john",
        "johan",
        "##son",
        "'",
        "s",
        "house",
        "un",
        "##want",
        "##ed",
        "é",
    ],
)
SHAPE = BertConfig(
    vocab_size=len(PIECES),
    hidden_size=8,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=14,
)
TEXT = (
    "The man went to the store.\n\nJohn Johanson's house ||| the unwanted\nunwanted " + "the man " * 20 + "\nthe store"
)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return initial_weights(encoder_shapes(SHAPE), 0.5, seed=3)


@pytest.fixture(scope="module")
def model(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    vocabulary = "".join(f"{piece}\n" for piece in PIECES).encode()
    write_checkpoint(folder, Checkpoint(SHAPE, weights, vocabulary, True, {"step": 1}))
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def config_of(**changes: Any) -> FeaturesConfig:
    return FeaturesConfig(**{"layers": "-1,0", "max_seq_length": 12, "batch_size": 2, **changes})


def extracted(model: Path, text: Path, **changes: Any) -> list[dict[str, Any]]:
    out = text.with_name("out.jsonl")
    run(model, str(text), out, config_of(**changes))
    return [json.loads(line) for line in out.read_text().splitlines()]


def values_of(lines: list[dict[str, Any]]) -> np.ndarray:
    """Float [vectors, layers, hidden]."""
    return np.array(
        [[layer["values"] for layer in feature["layers"]] for line in lines for feature in line["features"]]
    )


def tokens_of(lines: list[dict[str, Any]]) -> list[list[str]]:
    return [[feature["token"] for feature in line["features"]] for line in lines]


def test_every_token_has_the_vectors_of_the_layers_asked_for(
    model: Path, weights: dict[str, np.ndarray], text: Path
) -> None:
    lines = extracted(model, text, layers="-1,0,-1,1")
    assert [line["linex_index"] for line in lines] == [0, 1, 2, 3, 4]
    assert tokens_of(lines) == [
        ["[CLS]", "the", "man", "went", "to", "the", "store", ".", "[SEP]"],
        ["[CLS]", "[SEP]"],
        ["[CLS]", "john", "johan", "##son", "'", "s", "[SEP]", "the", "un", "##want", "##ed", "[SEP]"],
        ["[CLS]", "un", "##want", "##ed", "the", "man", "the", "man", "the", "man", "the", "[SEP]"],
        ["[CLS]", "the", "store", "[SEP]"],
    ]
    indexes = [[layer["index"] for layer in feature["layers"]] for line in lines for feature in line["features"]]
    assert indexes == [[-1, 0, -1, 1]] * 39
    expected = []
    for tokens in tokens_of(lines):
        ids = np.array([[PIECES.index(token) for token in tokens]], np.int32)
        first_end = tokens.index("[SEP]")
        segments = (np.arange(len(tokens)) > first_end).astype(np.int32)[None]
        layers = encode(weights, SHAPE, ids, np.ones_like(ids), segments).layers
        expected.append(np.stack([np.asarray(layers[number])[0] for number in (2, 0, 2, 1)], axis=1))
    np.testing.assert_allclose(values_of(lines), np.concatenate(expected), rtol=0, atol=5e-6)


def test_what_is_computed_together_changes_no_vector(model: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = extracted(model, text, batch_size=32)
    monkeypatch.setattr(features, "WINDOW_BYTES", 1)  # a line a window
    alone = extracted(model, text, batch_size=1)
    assert tokens_of(alone) == tokens_of(together)
    np.testing.assert_allclose(values_of(alone), values_of(together), rtol=0, atol=5e-6)


def test_no_layer_above_the_wanted_ones_is_computed(model: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed, layer = [], bert._layer

    def noted(*arguments: Any) -> Any:
        computed.append(arguments[2])
        return layer(*arguments)

    monkeypatch.setattr(bert, "_layer", noted)
    extracted(model, text, layers="-2")
    assert computed == [0, 1]


@pytest.mark.parametrize(
    ("lengths", "batch_size", "expected"),
    [
        ([3, 9, 2, 9, 4], 2, [[1, 3], [4, 0], [2]]),
        ([128] * 5 + [90] * 3, 32, [[0, 1, 2, 3, 4], [5, 6, 7]]),  # padding of 38 in 128 is too much
        ([128] * 3 + [90] * 3, 32, [[0, 1, 2, 3], [4, 5]]),  # but not before 512 positions are there
        ([128] * 5 + [127] * 3, 32, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ([7], 32, [[0]]),
    ],
)
def test_lines_of_about_equal_length_are_computed_together(
    lengths: list[int], batch_size: int, expected: list[list[int]]
) -> None:
    assert [lines.tolist() for lines in cut_batches(np.array(lengths), batch_size)] == expected


def test_counts_say_what_was_there(model: Path, text: Path) -> None:
    counts = run(model, str(text), text.with_name("out.jsonl"), config_of())
    assert counts == {
        "lines": 5,
        "cut lines": 2,
        "tokens": 39,
        "vectors": 39,
        "computed positions": 2 * 12 + 2 * 9 + 2,
        "lines of up to 2 tokens": 1,
        "lines of up to 4 tokens": 1,
        "lines of up to 16 tokens": 3,
    }


def test_words_have_the_mean_or_the_first_of_their_pieces(model: Path, text: Path) -> None:
    text.write_text("John Johanson's house\n\u0301 unwanted \u0301\n")
    pieces = values_of(extracted(model, text, max_seq_length=14))
    words = extracted(model, text, align="words", max_seq_length=14)
    assert tokens_of(words) == [
        ["[CLS]", "John", "Johanson's", "house", "[SEP]"],
        ["[CLS]", "\u0301", "unwanted", "\u0301", "[SEP]"],
    ]
    groups = [[0], [1], [2, 3, 4, 5], [6], [7], [8], [9], [9, 10, 11], [12], [12]]
    means = np.array([pieces[group].mean(axis=0) for group in groups])
    np.testing.assert_allclose(values_of(words), means, rtol=0, atol=5e-6)
    first = extracted(model, text, align="words", word_vectors="first", max_seq_length=14)
    assert (values_of(first) == pieces[[group[0] for group in groups]]).all()
    basic = extracted(model, text, align="basic_words", max_seq_length=14)
    assert tokens_of(basic)[0] == ["[CLS]", "John", "Johanson", "'", "s", "house", "[SEP]"]


def test_a_line_may_have_one_vector(model: Path, text: Path) -> None:
    tokens = extracted(model, text)
    bounds = np.cumsum([0, *map(len, tokens_of(tokens))])
    of_lines = [values_of(tokens)[begin:end] for begin, end in pairwise(bounds)]
    mean, first = extracted(model, text, pooling="mean"), extracted(model, text, pooling="cls")
    assert tokens_of(mean) == [["[MEAN]"]] * 5
    np.testing.assert_allclose(values_of(mean), [of_line.mean(axis=0) for of_line in of_lines], rtol=0, atol=5e-6)
    assert tokens_of(first) == [["[CLS]"]] * 5
    assert (values_of(first) == [of_line[0] for of_line in of_lines]).all()


def test_npz_and_parquet_hold_the_same(model: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = extracted(model, text)
    monkeypatch.setattr(features, "WINDOW_BYTES", 1)  # several pieces of each array
    for file_format in ("npz", "parquet"):
        run(model, str(text), text.with_name(f"out.{file_format}"), config_of(format=file_format))
    values, tokens = values_of(lines), tokens_of(lines)
    flat = [token for of_line in tokens for token in of_line]
    of_line = [number for number, of_line in enumerate(tokens) for _ in of_line]
    with np.load(text.with_name("out.npz")) as archive:
        assert set(archive) == {"layer_-1", "layer_0", "lines", "offsets", "tokens"}
        assert archive["tokens"].tobytes().decode().split("\n")[:-1] == flat
        assert archive["lines"].tolist() == of_line
        assert archive["offsets"].tolist() == [0, 9, 11, 23, 35, 39]
        for place, name in enumerate(("layer_-1", "layer_0")):
            assert archive[name].dtype == np.float32
            np.testing.assert_allclose(archive[name], values[:, place], rtol=0, atol=5e-6)
    table = parquet.read_table(text.with_name("out.parquet"))
    assert table.column_names == ["line", "position", "token", "layer_-1", "layer_0"]
    assert table["token"].to_pylist() == flat
    assert table["line"].to_pylist() == of_line
    assert table["position"].to_pylist() == [place for of_line in tokens for place in range(len(of_line))]
    for place, name in enumerate(("layer_-1", "layer_0")):
        np.testing.assert_allclose(table[name].to_pylist(), values[:, place], rtol=0, atol=5e-6)


def test_bfloat16_is_close(model: Path, text: Path) -> None:
    exact, rounded = (values_of(extracted(model, text, precision=p)) for p in ("float32", "mixed_bfloat16"))
    assert 0 < np.abs(exact - rounded).max() < 0.3


def test_standard_input_is_read(model: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    out = text.with_name("from_stdin.jsonl")
    run(model, "-", out, config_of())
    assert tokens_of([json.loads(line) for line in out.read_text().splitlines()]) == tokens_of(extracted(model, text))


@pytest.mark.slow
def test_on_jax_the_vectors_are_the_same(model: Path, text: Path) -> None:
    pytest.importorskip("jax")
    expected = extracted(model, text)
    program = (
        "import sys; from pathlib import Path; from bertline.model.features.run import FeaturesConfig, run;"
        "run(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]),"
        "FeaturesConfig(layers='-1,0', max_seq_length=12, batch_size=2))"
    )
    out = text.with_name("jax.jsonl")
    arguments = [sys.executable, "-c", program, str(model), str(text), str(out)]
    subprocess.run(arguments, check=True, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert tokens_of(found) == tokens_of(expected)
    np.testing.assert_allclose(values_of(found), values_of(expected), rtol=0, atol=5e-6)


def failing(model: Path, text: Path, message: str, **changes: Any) -> None:
    """Fails with the message; the old output stays, and nothing else is left."""
    out = text.with_name("out.jsonl")
    out.write_text("an earlier run's")
    before = sorted(text.parent.iterdir())
    with pytest.raises(ValueError, match=message):
        run(model, str(text), out, config_of(**changes))
    assert out.read_text() == "an earlier run's"
    assert sorted(text.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "-4"}, r"names -4, but .* has 3 layers; give 0 to 2, or -1 \(the last\) to -3"),
        ({"layers": "3"}, "names 3, but .* has 3 layers"),
        ({"max_seq_length": 15}, "the model has 14 positions"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(model: Path, text: Path, changes: dict[str, Any], message: str) -> None:
    failing(model, text, message, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "-1,last"}, 'layers is "-1,last"; give whole numbers'),
        ({"layers": ""}, 'layers is ""'),
        ({"layers": "-1,-1", "format": "npz"}, "name it once"),
        ({"max_seq_length": 2}, "max_seq_length is 2; it must be at least 3"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"format": "csv"}, 'format is "csv"; known: jsonl, npz, parquet'),
        ({"align": "letters"}, 'align is "letters"; known: pieces, words, basic_words'),
        ({"pooling": "mean", "align": "words"}, "take one"),
        ({"precision": "float16"}, "precision"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(**changes)


def test_a_line_that_is_not_utf8_is_named_and_nothing_is_written(model: Path, text: Path) -> None:
    text.write_bytes(b"the man\nthe \xff\n")
    failing(model, text, r"text\.txt:2: not UTF-8")


def test_an_empty_file_is_refused(model: Path, text: Path) -> None:
    text.write_bytes(b"")
    failing(model, text, r"text\.txt: no line")


def test_a_vocabulary_of_another_size_is_refused(model: Path, text: Path, tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("".join(f"{piece}\n" for piece in PIECES[:-1]))
    with pytest.raises(ValueError, match=rf"vocab\.txt: the vocabulary has {len(PIECES) - 1} entries, but the model"):
        run(model, str(text), tmp_path / "out.jsonl", config_of(), vocab_file=vocab)


def test_missing_files_are_named(model: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file"):
        run(model, str(tmp_path / "none.txt"), out, config_of())
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        run(model, str(text), tmp_path / "none" / "out.jsonl", config_of())
    with pytest.raises(FileNotFoundError, match="none: no such model"):
        run(tmp_path / "none", str(text), out, config_of())
    with pytest.raises(IsADirectoryError, match="is a folder"):
        run(model, str(text), tmp_path, config_of())
    with pytest.raises(ValueError, match="is the input, too"):
        run(model, str(text), text, config_of())
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_the_tokenizer_is_the_models(model: Path, text: Path) -> None:
    """Lower-casing, unless another case is asked for."""
    text.write_text("É the\n")
    out = text.with_name("out.jsonl")
    run(model, str(text), out, config_of(), do_lower_case=False)
    cased = WordPieceTokenizer(Vocabulary(PIECES), do_lower_case=False)
    assert tokens_of([json.loads(out.read_text())]) == [["[CLS]", *cased.tokenize("É the"), "[SEP]"]]
