"""TF1 checkpoints: written and read equal bit for bit, found under every name, and refused with clear words."""

import dataclasses
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bertline.model.config import BertConfig, classifier_shapes, encoder_shapes, pretraining_shapes, span_shapes
from bertline.model.formats.detect import read_model
from bertline.model.formats.tf1.checkpoint import read_tf1, write_tf1
from bertline.model.formats.tf1.variables import open_variables, write_variables
from bertline.model.training.checkpoint import Checkpoint

VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##want\n##ed\nrunn\n##ing\n,\n"
CONFIG = BertConfig(11, 4, 2, 2, 8, max_position_embeddings=6)
MODELS: dict[str, Callable[[BertConfig], dict[str, tuple[int, ...]]]] = {
    "pretraining": pretraining_shapes,
    "encoder": encoder_shapes,
    "classifier": lambda config: classifier_shapes(config, 3),
    "answer_spans": span_shapes,
}
INDEX, DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
EXTRAS = {"pooler_type": "first_token_transform", "directionality": "bidi", "pooler_fc_size": 768}
POOLER = "bert/pooler/dense/bias"


def model_of(kind: str = "pretraining", *, with_slots: bool = False, **changes: Any) -> Checkpoint:
    """A model of random weights, none of them zero."""
    random = np.random.default_rng(3)
    weights = {name: random.standard_normal(shape, np.float32) for name, shape in MODELS[kind](CONFIG).items()}
    slots = {f"{name}/{slot}": array * 0.5 for name, array in weights.items() for slot in ("adam_m", "adam_v")}
    state = {"step": 7 if with_slots else 0, **({"labels": ["0", "1", "2"]} if kind == "classifier" else {})}
    model = Checkpoint(CONFIG, weights, VOCABULARY, True, state, slots if with_slots else None, EXTRAS)
    return dataclasses.replace(model, **changes)


def written(folder: Path, checkpoint: Checkpoint, name: str = "bert_model.ckpt") -> Path:
    folder.mkdir(exist_ok=True)
    write_tf1(folder, checkpoint, name)
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Change the variables of a written checkpoint."""
    with open_variables(folder / "bert_model.ckpt") as variables:
        arrays = {name: variables.read(name) for name in variables.shapes}
    change(arrays)
    write_variables(folder / "bert_model.ckpt", arrays)


def assert_arrays_equal(found: Any, expected: Any) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "model", model_of())


@pytest.mark.parametrize("with_slots", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_comes_back_bit_for_bit(kind: str, with_slots: bool, tmp_path: Path) -> None:
    model = model_of(kind, with_slots=with_slots)
    opened = read_tf1(written(tmp_path / "model", model))
    assert (opened.path, opened.format, opened.unused) == (tmp_path / "model", "tf1", ())
    assert_arrays_equal(opened.checkpoint.weights, model.weights)
    assert dataclasses.replace(opened.checkpoint, weights={}, slots={}) == dataclasses.replace(
        model, weights={}, slots={}
    )
    if model.slots is None:
        assert opened.checkpoint.slots is None
    else:
        assert_arrays_equal(opened.checkpoint.slots, model.slots)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = model_of(with_slots=True)
    turned = dataclasses.replace(model, weights=dict(reversed(model.weights.items())))
    first, second = written(tmp_path / "a", model), written(tmp_path / "b", turned)
    names = ["bert_config.json", DATA, INDEX, "checkpoint", "tokenizer_config.json", "vocab.txt"]
    assert sorted(file.name for file in first.iterdir()) == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_what_is_written_beside_the_weights(tmp_path: Path) -> None:
    folder = written(tmp_path / "model", model_of(with_slots=True), name="model.ckpt-7")
    assert json.loads((folder / "bert_config.json").read_text()) == EXTRAS | CONFIG.to_mapping()
    assert (folder / "vocab.txt").read_bytes() == VOCABULARY
    assert json.loads((folder / "tokenizer_config.json").read_text()) == {"do_lower_case": True}
    note = 'model_checkpoint_path: "model.ckpt-7"\nall_model_checkpoint_paths: "model.ckpt-7"\n'
    assert (folder / "checkpoint").read_text() == note
    with open_variables(folder / "model.ckpt-7") as variables:
        assert len(variables.shapes) == 3 * 46 + 1
        assert {name for name, kind in variables.types.items() if kind != "float32"} == {"global_step"}
        assert (variables.types["global_step"], variables.shapes["global_step"]) == ("int64", ())


def test_without_slots_there_is_no_step(folder: Path) -> None:
    with open_variables(folder / "bert_model.ckpt") as variables:
        assert sorted(variables.shapes) == sorted(model_of().weights)


@pytest.mark.parametrize("name", ["bert_model.ckpt", INDEX, DATA, "bert_model.ckpt.meta", ""])
def test_every_name_of_a_checkpoint_is_taken(name: str, folder: Path) -> None:
    opened = read_model(folder / name)
    assert opened.path == folder / name
    assert_arrays_equal(opened.checkpoint.weights, model_of().weights)


@pytest.mark.parametrize("inner", ["", "uncased_L-2_H-4_A-2/"])
def test_a_released_zip_is_read(inner: str, folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    path = tmp_path / "uncased_L-2_H-4_A-2.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{inner}{file.name}")
    opened = read_model(path)
    assert opened.path == path
    assert_arrays_equal(opened.checkpoint.weights, model_of().weights)
    assert opened.checkpoint.vocabulary == VOCABULARY
    remark = "text is lower-cased and stripped of accents: none of 11 pieces has a capital letter"
    assert opened.remarks == (remark,)


def test_errors_of_a_zip_name_the_zip(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in (INDEX, DATA, "vocab.txt"):
            archive.write(folder / name, f"inner/{name}")
    with pytest.raises(FileNotFoundError, match=r"/model\.zip/inner/bert_config\.json is missing") as raised:
        read_model(tmp_path / "model.zip")
    assert "bertline-" not in str(raised.value)


def test_names_with_letters_of_patterns_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "model [v2]*?", model_of())
    assert_arrays_equal(read_model(folder).checkpoint.weights, model_of().weights)


def test_the_trainers_note_chooses_among_several_checkpoints(folder: Path) -> None:
    newer = model_of(with_slots=True)
    written(folder, newer, name="model.ckpt-7")
    (folder / "checkpoint").write_text('model_checkpoint_path: "gs://bucket/run/model.ckpt-7"\n')
    assert read_model(folder).checkpoint.state["step"] == 7
    assert read_model(folder / "bert_model.ckpt").checkpoint.state["step"] == 0
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n')
    with pytest.raises(
        ValueError, match=r"several checkpoints, bert_model\.ckpt, model\.ckpt-7; .* names model\.ckpt-9, which is not"
    ):
        read_model(folder)
    (folder / "checkpoint").unlink()
    with pytest.raises(ValueError, match="it has no file checkpoint; give the name of one"):
        read_model(folder)


def test_vocabulary_and_configuration_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    for name in ("vocab.txt", "bert_config.json"):
        (folder / name).rename(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"model/bert_config\.json is missing, .* give it by bert_config_file"):
        read_model(folder)
    with pytest.raises(FileNotFoundError, match=r"model/vocab\.txt is missing, .* give it by vocab_file"):
        read_model(folder, bert_config_file=tmp_path / "bert_config.json")
    files = {"vocab_file": tmp_path / "vocab.txt", "bert_config_file": tmp_path / "bert_config.json"}
    assert read_model(folder, **files).checkpoint.config_extras == EXTRAS


def test_a_configuration_with_the_models_name_in_its_own_is_found(folder: Path) -> None:
    (folder / "bert_config.json").rename(folder / "bert_config_rbt3.json")
    assert read_model(folder).checkpoint.bert_config == CONFIG
    (folder / "bert_config_other.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"bert_config\.json is missing"):
        read_model(folder)


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_the_case_is_kept_beside_the_checkpoint(do_lower_case: bool, tmp_path: Path) -> None:
    folder = written(tmp_path / "model", model_of(do_lower_case=do_lower_case))
    opened = read_model(folder)
    assert (opened.checkpoint.do_lower_case, opened.remarks) == (do_lower_case, ())


def test_a_case_that_is_asked_for_wins_and_is_told(folder: Path) -> None:
    opened = read_model(folder, do_lower_case=False)
    assert not opened.checkpoint.do_lower_case
    assert [remark.partition(":")[0] for remark in opened.remarks] == [
        "do_lower_case is false in place of the model's own"
    ]
    assert read_model(folder, do_lower_case=True).remarks == ()


def test_the_exact_gelu_comes_back_and_the_original_reads_its_own(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, hidden_act="gelu_erf")
    folder = written(tmp_path / "model", model_of(bert_config=config))
    text = json.loads((folder / "bert_config.json").read_text())
    assert (text["hidden_act"], text["bertline_hidden_act"]) == ("gelu", "gelu_erf")
    checkpoint = read_model(folder).checkpoint
    assert (checkpoint.bert_config, checkpoint.config_extras) == (config, EXTRAS)
    (folder / "bert_config.json").write_text(json.dumps(text | {"hidden_act": "relu"}))
    with pytest.raises(ValueError, match='bertline_hidden_act is "gelu_erf" and hidden_act "relu"; remove the first'):
        read_model(folder)


def test_labels_of_a_classifier_come_back(tmp_path: Path) -> None:
    state = {"step": 0, "labels": ["no", "yes", "maybe"], "architecture": "BertForTokenClassification"}
    folder = written(tmp_path / "model", model_of("classifier", state=state))
    opened = read_model(folder)
    assert (opened.checkpoint.state, opened.checkpoint.config_extras, opened.remarks) == (state, EXTRAS, ())
    text = json.loads((folder / "bert_config.json").read_text())
    (folder / "bert_config.json").write_text(json.dumps(text | {"id2label": {"0": "no", "1": "yes"}}))
    with pytest.raises(ValueError, match="names 2 labels, but output_weights has 3 rows"):
        read_model(folder)


def test_labels_that_nothing_names_are_numbered(tmp_path: Path) -> None:
    folder = written(tmp_path / "model", model_of("classifier"))
    assert "id2label" not in json.loads((folder / "bert_config.json").read_text())
    opened = read_model(folder)
    assert opened.checkpoint.state["labels"] == ["0", "1", "2"]
    assert opened.remarks == ("a TF1 checkpoint does not name its classifier's 3 labels; they are numbered from 0",)


def test_a_classifier_without_labels_gets_numbers(tmp_path: Path) -> None:
    opened = read_model(written(tmp_path / "model", model_of("classifier", state={"step": 0})))
    assert opened.checkpoint.state["labels"] == ["0", "1", "2"]


def test_labels_of_another_count_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the model has 2 labels \(no, yes\), its classifier 3"):
        write_tf1(tmp_path, model_of("classifier", state={"step": 0, "labels": ["no", "yes"]}))
    assert list(tmp_path.iterdir()) == []


def test_variables_of_no_bert_are_listed_and_left_out(folder: Path) -> None:
    others = ("crf/transitions", "crf/transitions/adam_m", "beta1_power")
    rewritten(folder, lambda arrays: arrays.update({name: np.zeros(2, np.float32) for name in others}))
    opened = read_model(folder)
    assert opened.unused == ("beta1_power", "crf/transitions")
    assert_arrays_equal(opened.checkpoint.weights, model_of().weights)


def test_slots_that_are_not_whole_are_left_out_and_told(tmp_path: Path) -> None:
    folder = written(tmp_path / "model", model_of("encoder", with_slots=True))
    rewritten(folder, lambda arrays: arrays.pop(f"{POOLER}/adam_v"))
    opened = read_model(folder)
    assert opened.checkpoint.slots is None
    assert opened.checkpoint.state["step"] == 7
    assert opened.remarks == (f"only 77 of 78 Adam slots are there, {POOLER}/adam_v is not; they were left out",)


def test_slots_of_other_optimizers_are_told(folder: Path) -> None:
    more = {f"{POOLER}/{slot}": np.zeros(4, np.float32) for slot in ("lamb_m", "lamb_v")}
    rewritten(folder, lambda arrays: arrays.update(more))
    opened = read_model(folder)
    assert (opened.checkpoint.slots, opened.unused) == (None, ())
    assert opened.remarks == ("slots of another optimizer (lamb_m, lamb_v) were left out",)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_of_other_precisions_are_made_float32(kind: Any, folder: Path) -> None:
    rewritten(folder, lambda arrays: arrays.update({POOLER: np.array([1.5, -2, 0, 0.25], kind)}))
    opened = read_model(folder)
    assert opened.checkpoint.weights[POOLER].tolist() == [1.5, -2, 0, 0.25]
    assert opened.checkpoint.weights[POOLER].dtype == np.float32
    assert opened.remarks == (f"weights in {np.dtype(kind).name} were made float32",)


def test_a_weight_that_is_no_number_of_a_weight_is_refused(folder: Path) -> None:
    rewritten(folder, lambda arrays: arrays.update({POOLER: np.zeros(4, np.int32)}))
    with pytest.raises(ValueError, match=f"{POOLER} is int32, not a weight"):
        read_model(folder)


def test_a_vocabulary_of_another_model_is_refused_with_both_numbers(folder: Path) -> None:
    (folder / "vocab.txt").write_bytes(VOCABULARY + b"more\n")
    message = r"model/vocab\.txt has 12 entries, but vocab_size in .*model/bert_config\.json is 11"
    with pytest.raises(ValueError, match=message):
        read_model(folder)


def test_a_configuration_of_another_model_is_refused_with_both_shapes(folder: Path) -> None:
    text = json.loads((folder / "bert_config.json").read_text())
    (folder / "bert_config.json").write_text(json.dumps(text | {"intermediate_size": 9}))
    message = r"bert_model\.ckpt: bert/encoder/layer_0/\S+ has shape \[.*\], its configuration asks for \[.*9"
    with pytest.raises(ValueError, match=message):
        read_model(folder)


def test_another_model_is_refused_by_its_variables(folder: Path) -> None:
    def renamed(arrays: dict[str, np.ndarray]) -> None:
        for name in list(arrays):
            arrays[f"electra/{name}"] = arrays.pop(name)

    rewritten(folder, renamed)
    with pytest.raises(ValueError, match=r"holds no BERT, its 46 variables are electra/bert/.+, whose names begin"):
        read_model(folder)


def test_a_checkpoint_of_objects_is_refused(folder: Path) -> None:
    rewritten(folder, lambda arrays: arrays.update({"_CHECKPOINTABLE_OBJECT_GRAPH": np.array(b"graph")}))
    with pytest.raises(ValueError, match="a checkpoint of objects, as TensorFlow 2 saves them"):
        read_model(folder)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / DATA).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{DATA} is missing; a TF1 checkpoint is NAME\.index with"):
        read_model(folder)
    (folder / "bert_model.ckpt.data-00001-of-00003").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"bert_model\.ckpt\.data-00000-of-00003 is missing"):
        read_model(folder)
    (folder / INDEX).unlink()
    for name in (DATA, "bert_model.ckpt.meta"):
        with pytest.raises(FileNotFoundError, match=rf"{INDEX} is missing"):
            read_model(folder / name)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (INDEX, lambda content: content[:1000]),
        (INDEX, lambda content: b""),
        (INDEX, lambda content: b"<!DOCTYPE html>" * 200),
        (INDEX, lambda content: flipped(content, 500)),
        (DATA, lambda content: content[:1000]),
        (DATA, lambda content: b""),
        (DATA, lambda content: flipped(content, 1000)),
        (DATA, lambda content: flipped(content, len(content) - 1)),
    ],
)
def test_files_that_are_cut_changed_or_of_another_kind_are_refused(
    file: str, change: Callable[[bytes], bytes], folder: Path
) -> None:
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    message = r"model/bert_model\.ckpt: not a whole TF1 checkpoint \(.+\); copy or download the checkpoint's files"
    with pytest.raises(ValueError, match=message):
        read_model(folder)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("file", [INDEX, DATA, "vocab.txt", "bert_config.json"])
def test_pointers_of_git_lfs_are_told(file: str, folder: Path) -> None:
    (folder / file).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=rf"{file}: a git-lfs pointer, .*git lfs pull"):
        read_model(folder)


def test_what_is_not_whole_is_not_written(tmp_path: Path) -> None:
    model = model_of(with_slots=True)
    assert model.slots is not None
    short = {name: array for name, array in model.slots.items() if name != f"{POOLER}/adam_m"}
    with pytest.raises(ValueError, match=f"Adam's slots do not belong to these weights, {POOLER}/adam_m is missing"):
        write_tf1(tmp_path, dataclasses.replace(model, slots=short))
    with pytest.raises(ValueError, match=f"the pooler is not whole, {POOLER} missing"):
        weights = {name: array for name, array in model.weights.items() if name != POOLER}
        write_tf1(tmp_path, dataclasses.replace(model, weights=weights))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"bert_model\.ckpt: could not write [\d,]+ bytes"):
        write_tf1(tmp_path / "file", model_of())
