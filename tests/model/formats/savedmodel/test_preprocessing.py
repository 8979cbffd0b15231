"""The tokenizer as a TensorFlow graph gives the ids of our tokenizer, whatever the text."""

import random
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.formats.savedmodel.preprocessing import write_preprocessing
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer, parse_vocabulary

tf = pytest.importorskip("tensorflow")

PIECES = (
    "un ##want ##ed runn ##ing run ##n the , . ' ! cafe caf ##e 使 用 σ ##σ ##ς ς α ##α ##´ ´ … 각 ᄀ ##ᅡ ##ᆨ a ##a b ##b"
)
ASSIGNED = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")]
MARKS = [char for char in ASSIGNED if unicodedata.combining(char)]
TRICKY = list("ΣςσΑα'.:·a…´ﬃİẞé使﨎각 \t\n\r\0\u00ad\u0301\u0345\u2028\u3000\u302e\ufffd\ufeff\U0001d165\U0001d16d")


@pytest.fixture(scope="module")
def made(toy, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str], bool], Any]:
    """Writes and loads the graph of a vocabulary and a case, and makes the tokenizer beside it."""

    def make(pieces: Sequence[str], do_lower_case: bool) -> tuple[Any, WordPieceTokenizer]:
        vocabulary = "".join(f"{piece}\n" for piece in [*SPECIAL_TOKENS, *pieces]).encode()
        folder = tmp_path_factory.mktemp("preprocessing")
        write_preprocessing(folder, Checkpoint(toy, {}, vocabulary, do_lower_case, {"step": 0}))
        return tf.saved_model.load(str(folder)), WordPieceTokenizer(parse_vocabulary(vocabulary, "test"), do_lower_case)

    return make


@pytest.fixture(scope="module")
def uncased(made: Callable[[Sequence[str], bool], Any]) -> tuple[Any, WordPieceTokenizer]:
    return made(PIECES.split(), True)


@pytest.fixture(scope="module")
def cased(made: Callable[[Sequence[str], bool], Any]) -> tuple[Any, WordPieceTokenizer]:
    return made([*PIECES.split(), "Σ", "##Σ", "é", "##é"], False)


def ids_of(model: Any, sentences: Sequence[str | bytes]) -> list[list[int]]:
    return model.tokenize(tf.constant(sentences)).merge_dims(1, 2).to_list()


def assert_same(pair: tuple[Any, WordPieceTokenizer], texts: Sequence[str]) -> None:
    model, tokenizer = pair
    found = model.tokenize(tf.constant([text.encode() for text in texts])).merge_dims(1, 2)
    ids, offsets = tokenizer.encode_lines(texts)
    if not np.array_equal(found.row_splits, offsets) or not np.array_equal(found.values, ids):
        wrong = [text for text, row in zip(texts, found.to_list()) if row != tokenizer.encode(text)]
        pytest.fail(f"{len(wrong)} of {len(texts)} differ: {wrong[:5]!a}")


def random_text(generator: random.Random) -> str:
    source = generator.choice([TRICKY, MARKS + TRICKY, ASSIGNED, [chr(code) for code in range(32, 0x250)]])
    return "".join(generator.choice(source) for _ in range(generator.randrange(60)))


def test_ids_are_grouped_by_word(uncased: tuple[Any, WordPieceTokenizer]) -> None:
    model, tokenizer = uncased
    found = model.tokenize(tf.constant(["UNwanted, running!", "", "xyz Café"])).to_list()
    pieces = [[[tokenizer.vocabulary.tokens[number] for number in word] for word in sentence] for sentence in found]
    assert pieces == [
        [["un", "##want", "##ed"], [","], ["runn", "##ing"], ["!"]],
        [],
        [["[UNK]"], ["cafe"]],
    ]
    assert model.tokenize(tf.constant([], tf.string)).to_list() == []


def test_what_other_tokenizers_get_wrong(
    uncased: tuple[Any, WordPieceTokenizer], cased: tuple[Any, WordPieceTokenizer]
) -> None:
    texts = [
        "a…a ´ a´",
        "ΑΣ ΑΣ. ΑΣΑ Σ ΣΑ ΑΣ'Α ΑΣ' Α\u0301Σ\u0301 ΑΣ使 使ΣΑ",  # a sigma at the end of a word is another letter
        "각 가 \u302e\u0301\U0001d165a a\U0001d165\U0001d16d\u0301",  # marks that stay, in canonical order
        "a\u00adb a\u200bb a\u2028b a\u3000b a\x85b a\ufeffb \ufffd",
        "[MASK] [CLS] ##a #",
    ]
    assert_same(uncased, texts)
    assert_same(cased, texts)


@pytest.mark.parametrize("length", [199, 200, 201])
@pytest.mark.parametrize("letter", ["a", "Ä", "각"])
def test_words_of_more_than_200_letters_are_unknown(
    length: int, letter: str, uncased: tuple[Any, WordPieceTokenizer], cased: tuple[Any, WordPieceTokenizer]
) -> None:
    assert_same(uncased, [letter * length, f"b {letter * length} b"])  # 각 is three letters when lower-cased
    assert_same(cased, [letter * length, f"b {letter * length} b"])
    if letter == "a":
        assert len(ids_of(uncased[0], ["a" * length])[0]) == (length if length <= 200 else 1)


def test_any_text(uncased: tuple[Any, WordPieceTokenizer], cased: tuple[Any, WordPieceTokenizer]) -> None:
    generator = random.Random(1)
    texts = [random_text(generator) for _ in range(5_000)]
    assert_same(uncased, texts)
    assert_same(cased, texts)


def test_bytes_that_are_no_utf_8_are_left_out(uncased: tuple[Any, WordPieceTokenizer]) -> None:
    generator = random.Random(2)
    sentences = [generator.randbytes(generator.randrange(30)) for _ in range(2_000)]
    sentences += [text[:cut] for text in ("使用é".encode(), "a😀a".encode()) for cut in range(len(text))]
    texts = [sentence.decode("utf-8", "ignore") for sentence in sentences]
    assert ids_of(uncased[0], sentences) == [uncased[1].encode(text) for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_every_character_in_every_place(made: Callable[[Sequence[str], bool], Any], do_lower_case: bool) -> None:
    """With a vocabulary of all letters, so that no difference hides in an [UNK]."""
    pieces = {char for char in ASSIGNED if not char.isspace()}
    pair = made([*sorted(pieces), *(f"##{char}" for char in sorted(pieces))], do_lower_case)
    assert_same(pair, ASSIGNED)
    if do_lower_case:
        assert_same(pair, [f"a{chr(code)}b" for code in range(0x110000) if not 0xD800 <= code < 0xE000])
        assert_same(pair, [f"Α{char}Σ ΑΣ{char}Α" for char in ASSIGNED])
    generator = random.Random(3)
    assert_same(pair, [random_text(generator) for _ in range(20_000)])


@pytest.mark.parametrize("length", [5, 6, 7, 12, 64])
def test_packs_as_our_encoder_of_pairs(length: int, uncased: tuple[Any, WordPieceTokenizer]) -> None:
    model, tokenizer = uncased
    generator = random.Random(length)
    words = ["unwanted", "running", "the", "Café", ",", "xyz"]
    first, second = ([" ".join(generator.choices(words, k=generator.randrange(12))) for _ in range(50)] for _ in "ab")
    for texts in ([first], [first, second]):
        expected = encode_pairs(tokenizer, texts[0], texts[1] if len(texts) > 1 else None, length)
        found = model.bert_pack_inputs([model.tokenize(tf.constant(each)) for each in texts], seq_length=length)
        names = {"input_word_ids": "input_ids", "input_mask": "input_mask", "input_type_ids": "segment_ids"}
        assert set(found) == set(names)
        for theirs, ours in names.items():
            assert found[theirs].dtype == tf.int32
            np.testing.assert_array_equal(found[theirs], expected[ours], err_msg=theirs)


def test_the_interface_is_tf_hub_s(uncased: tuple[Any, WordPieceTokenizer]) -> None:
    model, tokenizer = uncased
    sentences = tf.constant(["unwanted running", "the"])
    inputs = model(sentences)
    longest = 32  # the toy model's positions
    assert {name: tuple(each.shape) for name, each in inputs.items()} == {
        "input_word_ids": (2, longest),
        "input_mask": (2, longest),
        "input_type_ids": (2, longest),
    }
    served = model.signatures["serving_default"](sentences=sentences)
    flat = model.bert_pack_inputs([model.tokenize(sentences).merge_dims(1, 2)])  # ids without words, default length
    mapped = next(iter(tf.data.Dataset.from_tensors(sentences).map(model)))
    for other in (served, flat, mapped):
        assert all(np.array_equal(inputs[name], other[name]) for name in inputs)
    assert {name: int(number) for name, number in model.tokenize.get_special_tokens_dict().items()} == {
        "vocab_size": len(tokenizer.vocabulary),
        "padding_id": 0,
        "start_of_sequence_id": 2,
        "end_of_segment_id": 3,
        "mask_id": 4,
    }


@pytest.mark.slow
def test_same_vocabulary_same_bytes(toy, tmp_path: Path) -> None:
    vocabulary = "\n".join([*SPECIAL_TOKENS, *PIECES.split()]).encode()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_preprocessing(tmp_path / name, Checkpoint(toy, {}, vocabulary, True, {"step": 0}))
    files = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file()]
    assert Path("saved_model.pb") in files
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
