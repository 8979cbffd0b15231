"""sentence-transformers folders: what is written is read again, and gives the same vectors there.

The tests of vectors run where the `check` extra (sentence-transformers) is installed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import encoder_shapes
from bertline.model.features.pooling import POOLINGS, embed_texts
from bertline.model.formats.export import ExportConfig, write_export
from bertline.model.formats.huggingface.read import read_huggingface
from bertline.model.formats.huggingface.sentence_transformers import write_sentence_transformers
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import WordPieceTokenizer, parse_vocabulary

TEXTS = ["word1", "Word2 WORD3 w\u00f3rd4 " * 20, "word5 \u529b word6, word7 word8.", "word9 word10 unknown"]


@pytest.fixture
def checkpoint(toy, toy_folder: Path) -> Checkpoint:
    weights = initial_weights(encoder_shapes(toy), 0.2, seed=5)
    return Checkpoint(toy, weights, (toy_folder / "vocab.txt").read_bytes(), True, {"step": 0})


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    write_sentence_transformers(path, checkpoint, "cls", normalize=False)
    return path


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def modules(*kinds: str) -> list[dict[str, Any]]:
    places = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize", "Dense": "2_Dense"}
    return [{"idx": n, "name": str(n), "path": places[kind], "type": f"package.{kind}"} for n, kind in enumerate(kinds)]


def test_the_files_say_how_texts_become_vectors(folder: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    names = [module["type"].rpartition(".")[2] for module in json.loads((folder / "modules.json").read_text())]
    assert names == ["Transformer", "Pooling"]
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert {key for key, value in pooling.items() if value is True} == {"pooling_mode_cls_token"}
    assert pooling["word_embedding_dimension"] == 32
    length = json.loads((folder / "sentence_bert_config.json").read_text())
    assert length == {"max_seq_length": 32, "do_lower_case": False}
    normalized = tmp_path / "normalized"
    normalized.mkdir()
    write_sentence_transformers(normalized, checkpoint, "max", normalize=True)
    assert [module["path"] for module in json.loads((normalized / "modules.json").read_text())] == [
        "",
        "1_Pooling",
        "2_Normalize",
    ]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_and_lengths_are_kept_when_written_again(
    checkpoint: Checkpoint, tmp_path: Path, pooling: str, normalize: bool
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    again.mkdir()
    write_sentence_transformers(first, checkpoint, pooling, normalize)
    write(first / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    write(first / "config_sentence_transformers.json", {"__version__": {}, "prompts": {"query": "word1 "}})
    opened = read_huggingface(first)
    assert (opened.format, opened.heads, opened.remarks) == ("sentence-transformers", ("pooler",), ())
    assert opened.checkpoint.state == {
        "step": 0,
        "pooling": pooling,
        "normalize": normalize,
        "max_seq_length": 24,
        "sentence_transformers": {"prompts": {"query": "word1 "}},
    }
    write_export(again, opened.checkpoint, ExportConfig(to="sentence-transformers"))
    assert read_huggingface(again).checkpoint.state == opened.checkpoint.state | {
        "sentence_transformers": {
            "prompts": {"query": "word1 "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        }
    }


def test_the_models_folder_is_where_modules_json_says(folder: Path) -> None:
    expected = read_huggingface(folder).checkpoint
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(inner / path.name)
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    write(folder / "modules.json", listed)
    opened = read_huggingface(folder)
    assert opened.path == folder
    assert opened.checkpoint.state == expected.state
    assert sorted(opened.checkpoint.weights) == sorted(expected.weights)


@pytest.mark.parametrize(("limit", "length"), [(20, 20), (1e30, None), (10**30, None), (None, None)])
def test_the_longest_input_may_stand_in_the_tokenizers_file(folder: Path, limit: Any, length: int | None) -> None:
    (folder / "sentence_bert_config.json").unlink()
    write(folder / "tokenizer_config.json", {"model_max_length": limit, "do_lower_case": True})
    assert read_huggingface(folder).checkpoint.state.get("max_seq_length") == length


def test_the_newer_form_of_pooling_is_read(folder: Path) -> None:
    write(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": "max"})
    assert read_huggingface(folder).checkpoint.state["pooling"] == "max"


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["cls", "mean"]}, "cls and mean"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode": "mean", "include_prompt": False}, "mean without the prompt"),
    ],
)
def test_poolings_that_are_not_ours_are_said(folder: Path, config: dict[str, Any], pooling: str) -> None:
    write(folder / "1_Pooling" / "config.json", config)
    opened = read_huggingface(folder)
    assert opened.remarks == (f"its pooling is {pooling}, which is not known here and was left out",)
    assert "pooling" not in opened.checkpoint.state


def test_modules_that_are_not_ours_are_said(folder: Path) -> None:
    write(folder / "modules.json", modules("Transformer", "Pooling", "Dense", "Normalize"))
    opened = read_huggingface(folder)
    assert opened.remarks == ("its Dense module was left out: vectors of texts are not those of this folder",)
    assert "pooling" not in opened.checkpoint.state
    write(folder / "modules.json", modules("Transformer"))
    assert read_huggingface(folder).remarks == ("it has no pooling module, so it gives no vectors of texts",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "expected a list of modules"),
        ({"a": 1}, "expected a list of modules"),
        (modules("Dense"), "begins with a Dense module; only Transformer is read"),
        ([{"type": "x.Transformer", "path": "../other"}], 'a module lies at "../other", outside of this folder'),
    ],
)
def test_other_lists_of_modules_are_refused(folder: Path, value: Any, message: str) -> None:
    write(folder / "modules.json", value)
    with pytest.raises(ValueError, match=message):
        read_huggingface(folder)


def our_vectors(checkpoint: Checkpoint, pooling: str, normalize: bool, length: int = 32) -> np.ndarray:
    tokenizer = WordPieceTokenizer(parse_vocabulary(checkpoint.vocabulary, "vocab.txt"), checkpoint.do_lower_case)
    return embed_texts(checkpoint, encode_pairs(tokenizer, TEXTS, None, length), pooling, normalize)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [True, False])
def test_the_library_computes_our_vectors(
    checkpoint: Checkpoint, tmp_path: Path, pooling: str, normalize: bool
) -> None:
    library = pytest.importorskip("sentence_transformers")
    write_export(tmp_path, checkpoint, ExportConfig("sentence-transformers", pooling, normalize))
    theirs = library.SentenceTransformer(str(tmp_path), device="cpu")
    assert theirs.max_seq_length == 32
    np.testing.assert_allclose(our_vectors(checkpoint, pooling, normalize), theirs.encode(TEXTS), atol=1e-5)


def test_a_folder_that_the_library_saved_is_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    write_export(tmp_path, checkpoint, ExportConfig("sentence-transformers", "max", normalize=True))
    model = library.SentenceTransformer(str(tmp_path), device="cpu")
    model.max_seq_length = 16
    model.save(str(tmp_path / "saved"))
    opened = read_huggingface(tmp_path / "saved")
    state = opened.checkpoint.state
    assert (state["pooling"], state["normalize"], state["max_seq_length"]) == ("max", True, 16)
    assert opened.checkpoint.do_lower_case is True
    vectors = our_vectors(opened.checkpoint, "max", normalize=True, length=16)
    np.testing.assert_allclose(vectors, model.encode(TEXTS), atol=1e-5)
