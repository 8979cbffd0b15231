"""Hugging Face folders: what is read, bit for bit, and what is refused with which words."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertline.model.bert import initial_weights
from bertline.model.formats.huggingface.read import read_huggingface
from bertline.model.formats.huggingface.write import write_huggingface
from bertline.model.formats.loaded_model import ENCODER, head_shapes
from bertline.model.training.checkpoint import Checkpoint

VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##want\n##ed\nrunn\n##ing\n,\ncafe\n"
ENCODER_TENSORS = 5 + 2 * 16
EXTRAS = {"directionality": "bidi", "pooler_type": "first_token_transform", "our_own_key": [1, {"a": None}]}
LARGE = 1.0  # a standard deviation that no rounding hides


def checkpoint_of(toy, *heads: str, labels: int = 0, **fields: Any) -> Checkpoint:
    shape = dataclasses.replace(toy, vocab_size=12)
    shapes = {name: size for head in (ENCODER, *heads) for name, size in head_shapes(shape, labels)[head].items()}
    weights = initial_weights(shapes, LARGE, 1)
    biases = np.random.default_rng(0)
    weights = {
        name: array if array.any() and array.std() > 0 else biases.standard_normal(array.shape, np.float32)
        for name, array in weights.items()
    }
    return Checkpoint(shape, weights, VOCABULARY, fields.pop("do_lower_case", True), {"step": 0}, **fields)


PRETRAINED = ("pooler", "masked-LM head", "next-sentence head")


def written(checkpoint: Checkpoint, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write_huggingface(folder, checkpoint)
    return folder


def change(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; a key that is set to ... is removed."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not ...}))


def retensored(folder: Path, change) -> None:
    """Rewrite model.safetensors by a function of its tensors."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.fixture
def folder(toy, tmp_path: Path) -> Path:
    return written(checkpoint_of(toy, *PRETRAINED), tmp_path / "model")


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    assert sorted(found.weights) == sorted(expected.weights)
    for name, array in expected.weights.items():
        assert found.weights[name].dtype == np.float32
        assert found.weights[name].tobytes() == array.tobytes(), name
    assert found.bert_config == expected.bert_config
    assert found.vocabulary == expected.vocabulary
    assert found.do_lower_case == expected.do_lower_case
    assert found.config_extras == expected.config_extras


@pytest.mark.parametrize(
    "heads",
    [
        PRETRAINED,
        (),
        ("pooler",),
        ("masked-LM head",),
        ("pooler", "next-sentence head"),
        ("pooler", "answer-span head"),
        ("answer-span head",),
    ],
)
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_what_was_written_is_read_bit_for_bit(toy, tmp_path: Path, heads, do_lower_case: bool) -> None:
    checkpoint = checkpoint_of(toy, *heads, do_lower_case=do_lower_case, config_extras=EXTRAS)
    opened = read_huggingface(written(checkpoint, tmp_path / "model"))
    assert_same(opened.checkpoint, checkpoint)
    assert (opened.format, opened.heads, opened.unused, opened.remarks) == ("huggingface", heads, (), ())
    assert opened.checkpoint.state == {"step": 0}


@pytest.mark.parametrize("activation", ["gelu", "gelu_erf", "relu", "tanh", "linear"])
def test_every_activation_comes_back(toy, tmp_path: Path, activation: str) -> None:
    checkpoint = checkpoint_of(dataclasses.replace(toy, hidden_act=activation))
    assert read_huggingface(written(checkpoint, tmp_path / "m")).checkpoint.bert_config.hidden_act == activation


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("gelu", "gelu_erf"), ("gelu_python", "gelu_erf"), ("gelu_new", "gelu"), ("gelu_pytorch_tanh", "gelu")],
)
def test_their_gelu_is_the_exact_one(folder: Path, theirs: str, ours: str) -> None:
    change(folder / "config.json", hidden_act=theirs)
    assert read_huggingface(folder).checkpoint.bert_config.hidden_act == ours


def test_a_classifier_comes_with_its_labels(toy, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(toy, "pooler", "classifier", labels=3)
    named = dataclasses.replace(checkpoint, state={"step": 7, "labels": ["no", "maybe", "yes"]})
    opened = read_huggingface(written(named, tmp_path / "named"))
    assert opened.heads == ("pooler", "classifier")
    assert opened.checkpoint.state == {"step": 0, "labels": ["no", "maybe", "yes"]}
    unnamed = read_huggingface(written(checkpoint, tmp_path / "unnamed"))
    assert unnamed.checkpoint.state["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    change(tmp_path / "named" / "config.json", id2label={"0": "no", "1": "yes"})
    with pytest.raises(ValueError, match=r"id2label has 2 labels, classifier.weight 3 rows"):
        read_huggingface(tmp_path / "named")


def test_a_regression_stays_one(toy, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(toy, "pooler", "classifier", labels=1)
    folder = written(checkpoint, tmp_path / "model")
    change(folder / "config.json", problem_type="regression")
    again = read_huggingface(written(read_huggingface(folder).checkpoint, tmp_path / "again"))
    assert again.checkpoint.config_extras == {"problem_type": "regression"}
    assert json.loads((tmp_path / "again" / "config.json").read_text())["problem_type"] == "regression"


def test_a_classifier_of_tokens_is_told_by_the_architecture_and_stays_one(toy, tmp_path: Path) -> None:
    folder = written(checkpoint_of(toy, "classifier", labels=3), tmp_path / "model")
    change(folder / "config.json", architectures=["BertForTokenClassification"])
    opened = read_huggingface(folder)
    assert opened.remarks == ("a BertForTokenClassification: its classifier scores every token, not the whole text",)
    written(opened.checkpoint, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == [
        "BertForTokenClassification"
    ]


def test_an_encoder_saved_alone_has_no_prefix(folder: Path) -> None:
    expected = read_huggingface(folder).checkpoint.weights
    position_ids = {"embeddings.position_ids": np.arange(32)[None]}
    retensored(
        folder,
        lambda tensors: (
            {name.removeprefix("bert."): array for name, array in tensors.items() if not name.startswith("cls")}
            | position_ids
        ),
    )
    opened = read_huggingface(folder)
    assert (opened.heads, opened.unused) == (("pooler",), ())
    for name, array in opened.checkpoint.weights.items():
        assert array.tobytes() == expected[name].tobytes()


def test_old_names_of_layer_norms_are_read(folder: Path) -> None:
    expected = read_huggingface(folder).checkpoint
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    retensored(
        folder,
        lambda tensors: {
            next((name.replace(new, was) for new, was in old.items() if new in name), name): array
            for name, array in tensors.items()
        },
    )
    assert_same(read_huggingface(folder).checkpoint, expected)


def test_one_variable_under_two_names_is_refused(folder: Path) -> None:
    twice = "bert.embeddings.LayerNorm"
    retensored(folder, lambda tensors: tensors | {f"{twice}.gamma": tensors[f"{twice}.weight"]})
    with pytest.raises(ValueError, match=r"LayerNorm.* and .*LayerNorm.* are one variable"):
        read_huggingface(folder)


def test_an_equal_decoder_is_left_to_the_embeddings(folder: Path) -> None:
    expected = read_huggingface(folder).checkpoint
    retensored(
        folder,
        lambda tensors: (
            tensors
            | {
                "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
                "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
            }
        ),
    )
    opened = read_huggingface(folder)
    assert_same(opened.checkpoint, expected)
    assert (opened.unused, opened.remarks) == ((), ())


def test_a_bias_under_the_decoders_name_alone_is_taken(folder: Path) -> None:
    expected = read_huggingface(folder).checkpoint
    retensored(
        folder,
        lambda tensors: {
            name.replace("predictions.bias", "predictions.decoder.bias"): tensors[name] for name in tensors
        },
    )
    assert_same(read_huggingface(folder).checkpoint, expected)


@pytest.mark.parametrize("name", ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"])
def test_a_decoder_of_its_own_leaves_the_head_out_and_says_so(folder: Path, name: str) -> None:
    size = (12, 32) if name.endswith("weight") else (12,)
    retensored(folder, lambda tensors: tensors | {name: np.full(size, 0.5, np.float32)})
    opened = read_huggingface(folder)
    assert opened.heads == ("pooler", "next-sentence head")
    assert name in opened.unused
    assert "cls.predictions.transform.dense.weight" in opened.unused
    assert opened.remarks[0].startswith(f"{name} differs from ")


def test_tensors_that_are_no_part_of_a_bert_are_named(folder: Path) -> None:
    retensored(folder, lambda tensors: tensors | {"dense_2.kernel.weight": np.ones(3, np.float32)})
    opened = read_huggingface(folder)
    assert opened.unused == ("dense_2.kernel.weight",)
    assert len(opened.checkpoint.weights) == ENCODER_TENSORS + 2 + 5 + 2


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened_and_said(folder: Path, kind) -> None:
    full = load_file(folder / "model.safetensors")
    retensored(folder, lambda tensors: {name: array.astype(kind) for name, array in tensors.items()})
    opened = read_huggingface(folder)
    name = "bert.pooler.dense.bias"
    found = opened.checkpoint.weights["bert/pooler/dense/bias"]
    assert found.dtype == np.float32
    assert np.array_equal(found, full[name].astype(kind).astype(np.float32))
    assert opened.remarks == (f"46 of 46 tensors were {np.dtype(kind).name}, widened to float32 without loss",)


def test_quantized_weights_are_refused(folder: Path) -> None:
    retensored(folder, lambda tensors: tensors | {"bert.pooler.dense.weight": np.ones((32, 32), np.int8)})
    with pytest.raises(ValueError, match=r"bert.pooler.dense.weight holds int8; only floating-point weights"):
        read_huggingface(folder)


def test_shards_are_read_as_one(folder: Path) -> None:
    expected = read_huggingface(folder).checkpoint
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard)
    index = folder / "model.safetensors.index.json"
    places = {name: shard for shard, held in shards.items() for name in held}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_same(read_huggingface(folder).checkpoint, expected)
    index.write_text(json.dumps({"weight_map": places | {"bert.more": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(ValueError, match=r"bert.more is not in model-00002-of-00002.safetensors"):
        read_huggingface(folder)
    index.write_text(json.dumps({"weight_map": places | {"bert.more": "../elsewhere"}}))
    with pytest.raises(ValueError, match=r'names the shard "../elsewhere", which is not a file of this folder'):
        read_huggingface(folder)
    index.write_text(json.dumps({"weight_map": places}))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002.safetensors is missing, a shard"):
        read_huggingface(folder)


def test_a_cut_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors: not a whole safetensors file"):
        read_huggingface(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt", "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer_is_told_as_what_it_is(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 440473133\n")
    with pytest.raises(ValueError, match=rf'{name}: a git-lfs pointer.*run "git lfs pull"'):
        read_huggingface(folder)


def test_a_folder_without_weights_says_what_it_has(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor pytorch_model.bin$"):
        read_huggingface(folder)
    (folder / "tf_model.h5").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"tf_model.h5 is of a format that is not read here"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, r'model_type is "roberta"; only "bert" is read'),
        ({"model_type": "distilbert"}, r'model_type is "distilbert"; only "bert"'),
        ({"hidden_act": "silu"}, r'hidden_act is "silu"; known: gelu, '),
        ({"layer_norm_eps": 1e-05}, r"layer_norm_eps is 1e-05; only 1e-12 is read"),
        ({"position_embedding_type": "relative_key"}, r'position_embedding_type is "relative_key"; only "absolute"'),
        ({"is_decoder": True}, r"is_decoder is true; only false is read"),
        ({"add_cross_attention": True}, r"add_cross_attention is true; only false"),
        ({"pruned_heads": {"0": [1]}}, r'pruned_heads is {"0": \[1\]}; only {} is read'),
        ({"quantization_config": {"bits": 8}}, r"quantization_config is .*quantized weights are not read"),
        ({"num_attention_heads": 5}, r"config.json: hidden_size 32 is not a multiple of num_attention_heads 5"),
        ({"intermediate_size": 65}, r"has shape \[32, 64\], its configuration asks for \[32, 65\]"),
        ({"num_hidden_layers": 3}, r"the encoder is not whole, bert/encoder/layer_2/.* missing"),
        ({"hidden_size": "wide"}, r"hidden_size must be a whole number"),
    ],
)
def test_other_models_and_settings_are_refused_by_name(folder: Path, changes: dict[str, Any], message: str) -> None:
    change(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=message):
        read_huggingface(folder)


def test_more_layers_than_the_configuration_has_are_named(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=1)
    assert len(read_huggingface(folder).unused) == 16


def test_what_a_configuration_leaves_away_has_their_defaults(folder: Path) -> None:
    change(folder / "config.json", hidden_act=..., num_attention_heads=..., model_type=..., hidden_dropout_prob=0)
    with pytest.raises(ValueError, match="hidden_size 32 is not a multiple of num_attention_heads 12"):
        read_huggingface(folder)
    change(folder / "config.json", num_attention_heads=2)
    opened = read_huggingface(folder)
    assert opened.checkpoint.bert_config.hidden_act == "gelu_erf"
    assert opened.remarks == (
        "config.json names no model_type; read as Hugging Face reads a BERT's, where gelu is the exact form",
        "config.json lacks hidden_act; the defaults of transformers were taken",
    )


def test_the_vocabulary_can_come_from_tokenizer_json(folder: Path) -> None:
    (folder / "vocab.txt").unlink()
    assert read_huggingface(folder).checkpoint.vocabulary == VOCABULARY
    change(folder / "tokenizer.json", model={"type": "BPE", "vocab": {}})
    with pytest.raises(ValueError, match=r"tokenizer\.json: holds a BPE tokenizer; only WordPiece"):
        read_huggingface(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no vocabulary, neither vocab.txt nor tokenizer.json"):
        read_huggingface(folder)


def test_rows_beyond_the_vocabulary_get_names_that_no_text_yields(folder: Path) -> None:
    expected = read_huggingface(folder).checkpoint
    table, bias = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"
    retensored(
        folder,
        lambda tensors: (
            tensors
            | {
                table: np.pad(tensors[table], ((0, 4), (0, 0)), constant_values=3.0),
                bias: np.pad(tensors[bias], (0, 4)),
            }
        ),
    )
    change(folder / "config.json", vocab_size=16)
    (folder / "added_tokens.json").write_text('{"<entity>": 12}')
    opened = read_huggingface(folder)
    assert opened.checkpoint.vocabulary == VOCABULARY + b"<entity>\n[unused13]\n[unused14]\n[unused15]\n"
    assert np.array_equal(opened.checkpoint.weights["bert/embeddings/word_embeddings"][12:], np.full((4, 32), 3.0))
    assert opened.checkpoint.bert_config == dataclasses.replace(expected.bert_config, vocab_size=16)
    assert opened.remarks == (
        "vocab.txt has 12 entries for 16 rows; filled up with [unused...] entries",
        "added tokens (<entity>) keep their rows, but in a text they are split like other words",
    )


def test_more_entries_than_rows_are_refused(folder: Path) -> None:
    (folder / "vocab.txt").write_bytes(VOCABULARY + b"more\n")
    with pytest.raises(ValueError, match=r"vocab.txt: has 13 entries, but the configuration's vocab_size is 12"):
        read_huggingface(folder)


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_the_case_comes_from_the_first_file_that_names_it(toy, tmp_path: Path, do_lower_case: bool) -> None:
    folder = written(checkpoint_of(toy, do_lower_case=do_lower_case), tmp_path / "m")
    change(folder / "tokenizer_config.json", do_lower_case=...)
    assert read_huggingface(folder).checkpoint.do_lower_case == do_lower_case  # by the normalizer of tokenizer.json
    change(folder / "tokenizer_config.json", do_lower_case=not do_lower_case)
    assert read_huggingface(folder).checkpoint.do_lower_case != do_lower_case


def test_a_case_that_no_file_names_is_guessed_and_said(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    opened = read_huggingface(folder)
    assert opened.checkpoint.do_lower_case is True
    assert len(opened.remarks) == 1
    (folder / "vocab.txt").write_bytes(VOCABULARY.replace(b"cafe", b"Cafe").replace(b"runn", b"Runn"))
    assert read_huggingface(folder).checkpoint.do_lower_case is False


@pytest.mark.parametrize(
    ("settings", "remark"),
    [
        ({"strip_accents": False}, "its tokenizer keeps accents, ours strips them here"),
        ({"do_lower_case": False, "strip_accents": True}, "its tokenizer strips accents, ours keeps them here"),
        ({"tokenize_chinese_chars": False}, "its tokenizer does not split ideographs"),
        ({"do_basic_tokenize": False}, "its tokenizer does not split punctuation"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "its tokenizer is a BertJapaneseTokenizer"),
    ],
)
def test_other_rules_of_splitting_are_said(folder: Path, settings: dict[str, Any], remark: str) -> None:
    change(folder / "tokenizer_config.json", **settings)
    assert [each for each in read_huggingface(folder).remarks if each.startswith(remark)]


@pytest.mark.golden
def test_the_originals_checkpoint_comes_back_bit_for_bit(reference: Path, tmp_path: Path) -> None:
    from bertline.model.formats.tf1.checkpoint import read_tf1

    files = {name: reference / name for name in ("vocab.txt", "bert_config.json")}
    source = read_tf1(
        reference / "tf1_checkpoint" / "model.ckpt-40",
        vocab_file=files["vocab.txt"],
        bert_config_file=files["bert_config.json"],
    )
    opened = read_huggingface(written(source.checkpoint, tmp_path / "model"))
    assert opened.heads == source.heads == PRETRAINED
    assert_same(opened.checkpoint, source.checkpoint)
