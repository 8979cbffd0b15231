"""bertline.Tokenizer: made of a vocabulary, or found with a model of any format."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.formats.convert import ConvertConfig, write_proved
from bertline.model.formats.tokenizer import Tokenizer
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS

PIECES = [*SPECIAL_TOKENS, *["the", "man", "un", "##want", "##ed", "ca", "##fe", "'", "s"]]
TOKENIZER = Tokenizer(PIECES)


def test_pieces_and_ids_and_back() -> None:
    assert TOKENIZER.tokenize("The Unwanted Café") == ["the", "un", "##want", "##ed", "ca", "##fe"]
    encoding = TOKENIZER.encode("The man's Café")
    assert TOKENIZER.decode(encoding.input_ids) == "the man ' s cafe"
    assert TOKENIZER.decode(encoding.input_ids, skip_special_tokens=False) == "[CLS] the man ' s cafe [SEP]"
    assert TOKENIZER.decode([4, 1, 8, 0, 0]) == "[MASK] [UNK]want"
    assert TOKENIZER.decode([]) == ""
    assert TOKENIZER.decode(TOKENIZER.encode("The man")) == "the man"
    assert (len(TOKENIZER), TOKENIZER.vocabulary.mask_id, TOKENIZER.do_lower_case) == (14, 4, True)
    assert repr(TOKENIZER) == "<Tokenizer: 14 pieces, uncased>"


def test_a_vocabulary_is_a_path_or_entries(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(PIECES) + "\n")
    for vocab in (file, str(file), PIECES, TOKENIZER.vocabulary):
        assert Tokenizer(vocab).vocabulary == TOKENIZER.vocabulary
    assert Tokenizer(file, do_lower_case=False).tokenize("The the") == ["[UNK]", "the"]
    with pytest.raises(FileNotFoundError, match="no such vocabulary"):
        Tokenizer(tmp_path / "nothere.txt")
    with pytest.raises(ValueError, match=r"a folder; bertline\.Tokenizer\.load reads the tokenizer in it"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("vocab", "error", "says"),
    [
        (["a", "b"], ValueError, r"vocab: lacks \[PAD\]"),
        ({piece: 13 - number for number, piece in enumerate(PIECES)}, TypeError, "a dict; give .* in the order of"),
        (set(PIECES), TypeError, "a set; give the entries in the order of their ids"),
        ([*PIECES, 3], TypeError, "vocab 14 of 15 is of type int"),
        ([*PIECES, "a\nb"], ValueError, "entry 14 is 'a.nb'; an entry has no line break"),
        (None, TypeError, "vocab is of type NoneType"),
        (b"vocab.txt", TypeError, "vocab is of type bytes"),
    ],
)
def test_what_is_no_list_of_entries_is_refused(vocab: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Tokenizer(vocab)  # type: ignore[arg-type]


def test_the_case_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="do_lower_case is 'false'; it must be True or False"):
        Tokenizer(PIECES, "false")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "error", "says"),
    [
        ([[1, 2]], ValueError, "2 dimensions"),
        ([1.5], TypeError, "whole numbers"),
        ([14], ValueError, "the ids 0 to 13"),
        ([-1], ValueError, "the ids 0 to 13"),
        ([[1], [1, 2]], ValueError, "rows of unlike lengths; decode one row"),
        (TOKENIZER.encode(["the", "man"]), ValueError, "2 dimensions; decode one row"),
        (5, TypeError, "ids is 5; give a list"),
        ("the", TypeError, "ids is 'the'; give a list"),
    ],
)
def test_what_is_no_row_of_ids_is_refused(ids: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        TOKENIZER.decode(ids)  # type: ignore[arg-type]


def test_several_texts_are_not_tokenized_at_once() -> None:
    with pytest.raises(TypeError, match="tokenize takes one text"):
        TOKENIZER.tokenize(["the"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cased model whose pieces say nothing of it, in the formats that say it themselves."""
    folder = tmp_path_factory.mktemp("models")
    config = BertConfig(len(PIECES), 8, 1, 2, 16, max_position_embeddings=40)
    weights = initial_weights(pretraining_shapes(config), 0.1, seed=2)
    checkpoint = Checkpoint(config, weights, ("\n".join(PIECES) + "\n").encode(), False, {"step": 1})
    for name in ("bertline", "tf1", "huggingface", "sentence-transformers"):
        (folder / name).mkdir()
        write_proved(folder / name, checkpoint, ConvertConfig(to=name))
    (folder / "fast").mkdir()
    for file in (folder / "huggingface").iterdir():
        if file.name not in ("vocab.txt", "tokenizer_config.json"):
            (folder / "fast" / file.name).write_bytes(file.read_bytes())
    with zipfile.ZipFile(folder / "released.zip", "w") as archive:
        for file in (folder / "tf1").iterdir():
            archive.write(file, f"cased_L-1_H-8_A-2/{file.name}")
    (folder / "vocabulary").mkdir()
    (folder / "vocabulary" / "vocab.txt").write_text("\n".join([*PIECES, "The", "Man"]) + "\n")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "bertline",
        "tf1",
        "tf1/bert_model.ckpt",
        "tf1/vocab.txt",
        "released.zip",
        "huggingface",
        "fast",
        "sentence-transformers",
    ],
)
def test_the_tokenizer_of_any_model_has_its_vocabulary_and_case(models: Path, name: str) -> None:
    found = Tokenizer.load(models / name)
    assert (found.vocabulary, found.do_lower_case) == (TOKENIZER.vocabulary, False)
    assert Tokenizer.load(str(models / name), do_lower_case=True).do_lower_case is True


def test_pieces_say_the_case_where_no_file_does(models: Path) -> None:
    assert Tokenizer.load(models / "vocabulary").do_lower_case is False  # two of 16 pieces have capital letters
    (models / "plain.txt").write_text("\n".join(PIECES) + "\n")
    assert Tokenizer.load(models / "plain.txt").do_lower_case is True


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("nothere", FileNotFoundError, r"nothere: no such model; give .*, or a vocab\.txt"),
        (".", ValueError, r"no model in this folder; looked for .*, or a vocab\.txt"),
    ],
)
def test_what_holds_no_vocabulary_is_refused(models: Path, name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Tokenizer.load(models / name)


def test_a_tokenizer_is_read_without_the_weights_and_without_tensorflow(models: Path) -> None:
    script = "import sys, bertline; [bertline.Tokenizer.load(path) for path in sys.argv[1:]]; print(*sys.modules)"
    places = [str(models / name) for name in ("bertline", "tf1", "released.zip", "huggingface", "tf1/vocab.txt")]
    command = [sys.executable, "-c", script, *places]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not {"tensorflow", "keras", "jax"} & set(loaded)


def test_ids_may_be_an_array() -> None:
    rows = TOKENIZER.encode(["the", "the man"]).input_ids
    assert [TOKENIZER.decode(row) for row in rows] == ["the", "the man"]
    assert TOKENIZER.decode(np.array([5], np.uint16)) == "the"
