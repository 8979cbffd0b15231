"""bertline.load_model: vectors, words for [MASK], next sentences, and models in other formats."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, encoder_shapes, pretraining_shapes
from bertline.model.features.pooling import embed_texts
from bertline.model.features.run import FeaturesConfig
from bertline.model.features.run import run as extract_features
from bertline.model.inference import Model, load_model
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint
from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS

WORDS = [*SPECIAL_TOKENS, "word", "##s", "|", *(f"##{letter}" for letter in "abc"), *"abcdefgh."]
CONFIG = BertConfig(len(WORDS), 16, 2, 2, 32, max_position_embeddings=16)
TEXTS = ["a b c.", "words", "", "e ||| f", "a b c d e f g h"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained model, and the encoder of it alone."""
    folder = tmp_path_factory.mktemp("models")
    weights = initial_weights(pretraining_shapes(CONFIG), 0.5, seed=3)
    vocabulary = ("\n".join(WORDS) + "\n").encode()
    encoder = {name: weights[name] for name in encoder_shapes(CONFIG) if "pooler" not in name}
    for name, kept in (("model", weights), ("encoder", encoder)):
        (folder / name).mkdir()
        write_checkpoint(folder / name, Checkpoint(CONFIG, kept, vocabulary, True, {"step": 1}))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder / "model")


def directly(model: Model, texts: Sequence[str], pooling: str) -> np.ndarray:
    """Without batches of equal lengths and without a compiled graph."""
    rows = encode_pairs(model.tokenizer.wordpiece, texts, None, CONFIG.max_position_embeddings)
    return embed_texts(model.loaded.checkpoint, rows, pooling, normalize=False)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_those_of_the_layers_outputs(model: Model, pooling: str) -> None:
    found = model.encode(TEXTS, pooling=pooling)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 16)
    np.testing.assert_allclose(found, directly(model, TEXTS, pooling), atol=2e-6)


def test_one_text_has_one_vector_and_no_texts_have_none(model: Model) -> None:
    assert model.encode("a b c.").shape == (16,)
    np.testing.assert_allclose(model.encode("a b c."), model.encode(["a b c.", "b"])[0], atol=1e-6)
    assert model.encode([]).shape == (0, 16)
    assert model.encode(np.array(["a", "b"])).shape == (2, 16)
    np.testing.assert_array_equal(model.encode(TEXTS), model.encode(TEXTS))


def test_layers_are_averaged_and_lengths_are_normalized_on_demand(model: Model) -> None:
    first, last = model.encode(TEXTS, layers=0), model.encode(TEXTS, layers=[-1])
    assert not np.allclose(first, last)
    np.testing.assert_allclose(model.encode(TEXTS, layers=[0, 1]), (first + last) / 2, atol=1e-6)
    np.testing.assert_array_equal(model.encode(TEXTS, layers=np.int64(0)), first)
    lengths = np.linalg.norm(model.encode(TEXTS, normalize=True), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_vectors_are_those_of_extract_features(model: Model, folder: Path, tmp_path: Path) -> None:
    text, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    plain = [each for each in TEXTS if "|||" not in each]
    text.write_text("\n".join(plain) + "\n")
    extract_features(folder / "model", str(text), out, FeaturesConfig("-1", 16, pooling="mean"))
    lines = [json.loads(line)["features"][0]["layers"][0]["values"] for line in out.read_text().splitlines()]
    np.testing.assert_allclose(model.encode(plain), np.array(lines), atol=1e-6)


@pytest.mark.golden
def test_vectors_are_those_that_the_original_wrote(reference: Path) -> None:
    files = {"vocab_file": reference / "vocab.txt", "bert_config_file": reference / "bert_config.json"}
    original = load_model(reference / "tf1_checkpoint" / "model.ckpt-40", **files, do_lower_case=True)
    lines = (reference / "extract_features_input.txt").read_text().splitlines()
    written = map(json.loads, (reference / "extract_features_output.jsonl").read_text().splitlines())
    expected = {
        line: [feature["layers"][0]["values"] for feature in row["features"]]
        for line, row in zip(lines, written)
        if "|||" not in line
    }
    assert len(expected) > 1
    found = original.encode(list(expected), pooling="cls")
    np.testing.assert_allclose(found, [tokens[0] for tokens in expected.values()], atol=2e-6)
    found = original.encode(list(expected))
    np.testing.assert_allclose(found, [np.mean(tokens, axis=0) for tokens in expected.values()], atol=2e-6)


def test_long_texts_are_cut_with_a_warning_that_counts_them(model: Model) -> None:
    long = "a b c d e f g h " * 3
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 16 tokens and lost their ends"):
        found = model.encode([long, "a"])
    np.testing.assert_array_equal(found[0], model.encode(long, max_seq_length=16))
    with pytest.raises(ValueError, match="the model has 16 positions"):
        model.encode(long, max_seq_length=17)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"pooling": "sum"}, ValueError, 'pooling is "sum"; known: mean, cls, max'),
        ({"layers": 2}, ValueError, "names 2, but .* has 2 layers; give 0 to 1"),
        ({"layers": []}, ValueError, "give a layer or more"),
        ({"layers": "-1"}, TypeError, "layers is '-1'; it must be a whole number"),
        ({"layers": [0.0]}, TypeError, "layers is 0.0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 2.0}, TypeError, "batch_size is 2.0"),
        ({"max_seq_length": 2}, ValueError, "at least 3"),
        ({"max_seq_length": "8"}, TypeError, "max_seq_length is '8'; it must be a whole number"),
        ({"texts": ["a", 3]}, TypeError, "texts 1 of 2 is of type int"),
        ({"texts": None}, TypeError, "texts is of type NoneType"),
    ],
)
def test_impossible_settings_are_refused(
    model: Model, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        model.encode(**{"texts": TEXTS, **settings})


def numpy_probabilities(model: Model, text: str) -> np.ndarray:
    """Of every piece at every [MASK], [masks, vocabulary]: the head in NumPy, on the encoder's output."""
    from bertline.model.heads import encode_batch

    weights = model.loaded.checkpoint.weights
    encoding = model.tokenizer.encode(text, split_special_tokens=False)
    batch = {name: getattr(encoding, name)[None] for name in ("input_ids", "input_mask", "segment_ids")}
    hidden = np.asarray(encode_batch(weights, CONFIG, batch).sequence)[0][encoding.input_ids == 4].astype(np.float64)
    head = "cls/predictions/transform"
    x = hidden @ weights[f"{head}/dense/kernel"] + weights[f"{head}/dense/bias"]
    x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    x = x * weights[f"{head}/LayerNorm/gamma"] + weights[f"{head}/LayerNorm/beta"]
    logits = x @ weights["bert/embeddings/word_embeddings"].T + weights["cls/predictions/output_bias"]
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_masks_are_filled_with_the_most_probable_pieces(model: Model) -> None:
    text = "a [MASK] c[MASK]."
    expected = numpy_probabilities(model, text)
    found = model.fill_mask(text, top_k=3)
    assert [len(of_mask) for of_mask in found] == [3, 3]
    for of_mask, probabilities in zip(found, expected):
        best = np.argsort(-probabilities)[:3]
        assert [piece.token for piece in of_mask] == [WORDS[number] for number in best]
        np.testing.assert_allclose([piece.probability for piece in of_mask], probabilities[best], rtol=1e-4)
    (of_all,) = model.fill_mask("[MASK]", top_k=100)
    assert len(of_all) == len(WORDS)
    assert sum(piece.probability for piece in of_all) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "settings", "error", "says"),
    [
        ("a b", {}, ValueError, r"has no \[MASK\]"),
        ("[MASK] " + "a " * 14, {}, ValueError, "17 tokens, the model 16 positions; shorten"),
        (["[MASK]"], {}, TypeError, "one text .str., not list"),
        ("[MASK]", {"top_k": 0}, ValueError, "top_k is 0"),
        ("[MASK]", {"top_k": 2.0}, TypeError, "top_k is 2.0; it must be a whole number"),
    ],
)
def test_texts_that_cannot_be_filled_are_refused(
    model: Model, text: Any, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        model.fill_mask(text, **settings)


def test_the_next_sentence_has_a_probability(model: Model) -> None:
    from bertline.model.heads import encode_batch

    weights = model.loaded.checkpoint.weights
    pooled = np.asarray(
        encode_batch(weights, CONFIG, encode_pairs(model.tokenizer.wordpiece, ["a"], ["b c"], 16)).pooled
    )
    logits = pooled[0] @ weights["cls/seq_relationship/output_weights"].T + weights["cls/seq_relationship/output_bias"]
    expected = 1 / (1 + np.exp(logits[1] - logits[0]))
    assert model.next_sentence("a", "b c") == pytest.approx(expected, rel=1e-4)
    with pytest.warns(UserWarning, match="together longer than 16 tokens"):
        model.next_sentence("a " * 20, "b")
    with pytest.raises(TypeError, match="two texts"):
        model.next_sentence("a", ["b"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "needs"),
    [
        (lambda model: model.fill_mask("[MASK]"), "fill_mask needs a masked-LM head"),
        (lambda model: model.next_sentence("a", "b"), "next_sentence needs a next-sentence head and a pooler"),
    ],
)
def test_a_missing_head_is_named(folder: Path, call: Callable[[Model], Any], needs: str) -> None:
    encoder = load_model(folder / "encoder")
    with pytest.raises(ValueError, match=rf"encoder: {needs}, and this model has none \(it has: the encoder alone\)"):
        call(encoder)
    assert encoder.encode("a").shape == (16,)


@pytest.mark.parametrize("to", ["huggingface", "tf1"])
def test_a_saved_model_comes_back_with_the_same_vectors(model: Model, to: str, tmp_path: Path) -> None:
    counts = model.save(tmp_path / "new" / to, to)
    assert counts["difference.read_back.masked_lm_logits"] == 0.0
    back = load_model(str(tmp_path / "new" / to))
    np.testing.assert_array_equal(back.encode(TEXTS), model.encode(TEXTS))
    assert back.fill_mask("a [MASK]") == model.fill_mask("a [MASK]")
    assert (back.config, back.loaded.format) == (model.config, to)


def test_a_sentence_transformers_folder_has_its_own_vectors(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "sentences", "sentence-transformers")
    back = load_model(tmp_path / "sentences")
    np.testing.assert_allclose(back.encode(TEXTS), model.encode(TEXTS, normalize=True), atol=1e-6)
    np.testing.assert_allclose(back.encode(TEXTS, normalize=False), model.encode(TEXTS), atol=1e-6)


def test_nothing_is_written_over_and_unknown_formats_are_named(model: Model, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(FileExistsError, match="already holds something"):
            model.save(place)
    with pytest.raises(ValueError, match='format is "pytorch"; known: bertline, huggingface'):
        model.save(tmp_path / "out", "pytorch")
    with pytest.raises(ValueError, match=r'format is "hugging"; did you mean huggingface\? known: '):
        model.save(tmp_path / "out", "hugging")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_model_says_what_it_is(model: Model, folder: Path) -> None:
    parameters = sum(np.prod(shape) for shape in pretraining_shapes(CONFIG).values())
    assert repr(model) == (
        f"<Model {folder / 'model'} (bertline): 2 layers of 16, {parameters:,} parameters, <Tokenizer: 20 pieces, "
        "uncased>, heads: pooler, masked-LM head, next-sentence head>"
    )
    assert model.config == CONFIG


def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothere: no such model; give a bertline checkpoint"):
        load_model(tmp_path / "nothere")
    with pytest.raises(ValueError, match="no model in this folder"):
        load_model(str(tmp_path))


def test_what_takes_the_place_of_the_models_own_is_checked(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothere: no such file; give the path of a bert_config\.json"):
        load_model(folder / "model", bert_config_file="nothere")
    with pytest.raises(TypeError, match="do_lower_case is 'false'; it must be True or False"):
        load_model(folder / "model", do_lower_case="false")  # type: ignore[arg-type]


def test_what_is_not_there_is_refused_before_tensorflow_is_loaded(tmp_path: Path) -> None:
    """Which takes seconds."""
    script = """
import sys, bertline
for read in (bertline.load_model, bertline.read_records, bertline.Tokenizer.load):
    for name in ("nothere", "nothere.zip", "nothere.ckpt.index", "."):
        try:
            read(name)
        except (FileNotFoundError, ValueError) as error:
            print(error)
print("tensorflow" in sys.modules or "keras" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert len(lines) == 13
    assert all("no such" in line or "missing" in line or " in " in line for line in lines[:-1])
    assert lines[-1] == "False"
