"""SavedModels are read without being run: our own, and encoders in the names of TensorFlow Model Garden."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.formats.detect import read_model
from bertline.model.formats.savedmodel.write import write_savedmodel
from bertline.model.heads import encode_batch
from bertline.model.training.checkpoint import Checkpoint

tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def model(toy: BertConfig, toy_folder: Path) -> Checkpoint:
    weights = initial_weights(pretraining_shapes(toy), 0.2, seed=6)
    vocabulary = (toy_folder / "vocab.txt").read_bytes()
    return Checkpoint(toy, weights, vocabulary, False, {"step": 5}, config_extras={"pooler_type": "first_token"})


def as_older(name: str) -> str:
    """The older modules' name of a variable, from the newer one's."""
    for new, old in {
        "position_embedding/embeddings": "embedding_postprocessor/position_embeddings",
        "type_embeddings/embeddings": "embedding_postprocessor/type_embeddings",
        "embeddings/layer_norm": "embedding_postprocessor/layer_norm",
        "self_attention/attention_output": "self_attention_output",
        "transformer/": "encoder/",
    }.items():
        name = name.replace(new, old)
    return f"bert_model/{name}"


def garden_array(name: str, array: np.ndarray, config: BertConfig) -> np.ndarray:
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    if "/attention/self/" in name:
        return array.reshape((-1, heads, size) if name.endswith("kernel") else (heads, size))
    return array.reshape(heads, size, -1) if name.endswith("attention/output/dense/kernel") else array


@pytest.fixture
def garden_model(
    model: Checkpoint, garden_name: Callable[[str], str], save_garden: Callable[..., Path], tmp_path: Path
) -> Callable[..., Path]:
    """Makes a SavedModel of the encoder and the masked-LM head, as TF Hub's are made."""

    def make(*, is_older: bool = False, lower: bool | None = None) -> Path:
        kept = {name: array for name, array in model.weights.items() if "seq_relationship" not in name}
        arrays = {
            as_older(garden_name(name)) if is_older else garden_name(name): garden_array(name, array, model.bert_config)
            for name, array in kept.items()
        }
        case = {"do_lower_case": tf.Variable(lower, trainable=False, name="do_lower_case")} if lower is not None else {}
        return save_garden(tmp_path / "hub", model.vocabulary, arrays, **case)

    return make


@pytest.mark.parametrize("is_older", [False, True])
def test_model_garden_s_encoders_compute_what_ours_does(
    is_older: bool, garden_model: Callable[..., Path], model: Checkpoint, toy_batch: Callable[..., Any]
) -> None:
    opened = read_model(garden_model(is_older=is_older, lower=False))
    assert opened.format == "savedmodel"
    assert opened.heads == ("pooler", "masked-LM head")
    assert opened.unused == ()
    read = opened.checkpoint
    assert read.bert_config == model.bert_config
    assert (read.vocabulary, read.do_lower_case) == (model.vocabulary, False)
    assert all(np.array_equal(array, model.weights[name]) for name, array in read.weights.items())
    batch = toy_batch(3)
    ours, theirs = (encode_batch(each.weights, each.bert_config, batch) for each in (model, read))
    np.testing.assert_array_equal(np.asarray(ours.sequence), np.asarray(theirs.sequence))
    assert any("tanh form of GELU" in remark for remark in opened.remarks)


def test_the_case_is_seen_in_the_vocabulary_where_no_variable_says_it(garden_model: Callable[..., Path]) -> None:
    opened = read_model(garden_model())
    assert opened.checkpoint.do_lower_case
    assert len(opened.remarks) == 2


@pytest.fixture(scope="module")
def written(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_savedmodel(folder, model)
    return folder


@pytest.fixture
def own(written: Path, tmp_path: Path) -> Path:
    """A copy of our own SavedModel, to be damaged."""
    return shutil.copytree(written, tmp_path / "own")


def test_our_own_come_back_bit_for_bit(own: Path, model: Checkpoint) -> None:
    opened = read_model(own)
    assert opened.heads == ("pooler", "masked-LM head", "next-sentence head")
    assert opened.checkpoint.bert_config == model.bert_config
    assert (opened.checkpoint.vocabulary, opened.checkpoint.do_lower_case) == (model.vocabulary, False)
    assert opened.checkpoint.config_extras == {"pooler_type": "first_token"}
    assert set(opened.checkpoint.weights) == set(model.weights)
    assert all(np.array_equal(opened.checkpoint.weights[name], array) for name, array in model.weights.items())


def test_damage_and_missing_files_are_named(own: Path, tmp_path: Path) -> None:
    data = own / "variables" / "variables.data-00000-of-00001"
    content = data.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-40] + bytes(40)):
        data.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"variables: cut short or changed .*; copy or download the folder again"):
            read_model(own)
    data.write_bytes(content)
    (own / "assets" / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"assets/vocab\.txt is missing"):
        read_model(own)
    (own / "variables" / "variables.index").unlink()
    with pytest.raises(FileNotFoundError, match=r"variables\.index: missing"):
        read_model(own)


def test_another_kind_of_model_is_refused_by_what_it_holds(model: Checkpoint, tmp_path: Path) -> None:
    root: Any = tf.Module()
    root.kernel = tf.Variable(np.zeros((3, 3), np.float32), name="mobilenet/conv/kernel")
    (tmp_path / "vocab.txt").write_bytes(model.vocabulary)
    root.vocab_file = tf.saved_model.Asset(str(tmp_path / "vocab.txt"))
    tf.saved_model.save(root, str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"not a BERT encoder; word embeddings .* variables, mobilenet/conv/kernel"):
        read_model(tmp_path / "other")


def test_a_vocabulary_of_another_size_is_refused(garden_model: Callable[..., Path], model: Checkpoint) -> None:
    folder = garden_model(lower=True)
    (folder / "assets" / "vocab.txt").write_bytes(model.vocabulary + b"more\n")
    with pytest.raises(ValueError, match=r"vocab\.txt has 41 entries, the model 40 embeddings"):
        read_model(folder)


def test_a_graph_that_was_cut_is_refused(own: Path) -> None:
    graph = own / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"saved_model\.pb: not a whole SavedModel"):
        read_model(own)
