"""Models go through every format and come back bit for bit; what would lose something is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, classifier_shapes, pretraining_shapes, span_shapes
from bertline.model.formats.convert import ConvertConfig, run
from bertline.model.formats.detect import read_model
from bertline.model.formats.loaded_model import LoadedModel
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint

TWELVE_LAYERS = BertConfig(40, 24, 12, 3, 48, max_position_embeddings=32)
MODELS: dict[str, Callable[[BertConfig], dict[str, tuple[int, ...]]]] = {
    "pretraining": pretraining_shapes,
    "classifier": lambda config: classifier_shapes(config, 3),
    "answer_spans": span_shapes,
}


@pytest.fixture
def model_of(toy_folder: Path) -> Callable[..., Checkpoint]:
    def make(config: BertConfig, kind: str, *, with_slots: bool = False) -> Checkpoint:
        weights = initial_weights(MODELS[kind](config), 0.1, seed=2)
        slots = {f"{name}/{slot}": array * 0.5 for name, array in weights.items() for slot in ("adam_m", "adam_v")}
        state = {"step": 7, **({"labels": ["0", "1", "2"]} if kind == "classifier" else {})}
        vocabulary = (toy_folder / "vocab.txt").read_bytes()
        return Checkpoint(config, weights, vocabulary, True, state, slots if with_slots else None)

    return make


def saved(folder: Path, checkpoint: Checkpoint) -> Path:
    folder.mkdir()
    write_checkpoint(folder, checkpoint)
    return folder


def converted(source: Path, out: Path, to: str, **settings: object) -> Path:
    out.mkdir()
    run(source, out, ConvertConfig(to=to, **settings))  # type: ignore[arg-type]
    return out


def assert_equal(read: Checkpoint, written: Checkpoint) -> None:
    assert read.bert_config == written.bert_config
    assert (read.vocabulary, read.do_lower_case) == (written.vocabulary, written.do_lower_case)
    assert set(read.weights) == set(written.weights)
    for name, array in written.weights.items():
        assert read.weights[name].dtype == np.float32
        np.testing.assert_array_equal(read.weights[name], array, err_msg=name)
    assert read.state.get("labels") == written.state.get("labels")


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("pretraining", 12),
        ("classifier", 2),
        ("answer_spans", 2),
        pytest.param("pretraining", 2, marks=pytest.mark.slow),
        pytest.param("classifier", 12, marks=pytest.mark.slow),
        pytest.param("answer_spans", 12, marks=pytest.mark.slow),
    ],
)
def test_tf1_to_ours_to_hugging_face_and_back_is_equal_bit_for_bit(
    kind: str, layers: int, toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    model = model_of(toy if layers == 2 else TWELVE_LAYERS, kind)
    first = converted(saved(tmp_path / "made", model), tmp_path / "tf1", "tf1")
    ours = converted(first, tmp_path / "ours", "bertline")
    there = converted(ours, tmp_path / "there", "huggingface")
    back = converted(there, tmp_path / "back", "bertline")
    last = converted(back, tmp_path / "again", "tf1")
    assert_equal(read_model(last).checkpoint, model)
    for name in ("bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index", "vocab.txt", "bert_config.json"):
        assert (last / name).read_bytes() == (first / name).read_bytes()


def test_slots_and_step_survive_tf1(toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    model = model_of(toy, "pretraining", with_slots=True)
    there = converted(saved(tmp_path / "made", model), tmp_path / "tf1", "tf1", with_slots=True)
    back = read_model(converted(there, tmp_path / "back", "bertline", with_slots=True)).checkpoint
    assert_equal(back, model)
    assert back.state["step"] == 7
    assert back.slots is not None
    assert model.slots is not None
    assert set(back.slots) == set(model.slots)
    assert all(np.array_equal(back.slots[name], array) for name, array in model.slots.items())


@pytest.mark.parametrize("to", [pytest.param("savedmodel", marks=pytest.mark.slow), "sentence-transformers"])
def test_other_formats_come_back_too(
    to: str, toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    model = model_of(toy, "pretraining")
    there = converted(saved(tmp_path / "made", model), tmp_path / "there", to)
    back = read_model(converted(there, tmp_path / "back", "bertline")).checkpoint
    kept = {name for name in model.weights if name in back.weights}
    assert {name for name in model.weights if "/encoder/" in name} <= kept
    assert all(np.array_equal(back.weights[name], model.weights[name]) for name in kept)


def test_the_largest_difference_of_each_output_is_counted(
    toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    told: list[LoadedModel] = []
    counts = run(
        saved(tmp_path / "made", model_of(toy, "pretraining")), out, ConvertConfig(to="huggingface"), tell=told.append
    )
    outputs = ("hidden_states", "last_hidden_state", "pooled_output", "masked_lm_logits", "next_sentence_logits")
    assert all(counts[f"difference.read_back.{name}"] == 0.0 for name in outputs)
    assert counts["difference.tokenizer_json.texts"] == 0.0
    assert [opened.format for opened in told] == ["bertline"]


def test_onnx_is_proved_by_running_it(toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    out.mkdir()
    counts = run(saved(tmp_path / "made", model_of(toy, "classifier")), out, ConvertConfig(to="onnx"))
    for name in ("last_hidden_state", "pooled_output", "classifier_logits"):
        assert 0 <= counts[f"difference.onnx.{name}"] < 1e-5


def test_a_difference_above_the_bound_is_an_error(
    toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    one_layer = dataclasses.replace(toy, num_hidden_layers=1)
    made = saved(tmp_path / "made", model_of(one_layer, "answer_spans"))
    with pytest.raises(ValueError, match=r"by onnx differ by .*, more than the bound of 1e-30"):
        converted(made, tmp_path / "out", "onnx", bound=1e-30)


def test_another_vocabulary_on_the_way(toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    model = model_of(toy, "pretraining")
    vocab = tmp_path / "grown.txt"
    vocab.write_bytes(model.vocabulary + b"word1word2\n")
    (tmp_path / "out").mkdir()
    counts = run(saved(tmp_path / "made", model), tmp_path / "out", ConvertConfig(), new_vocab=vocab)
    assert (counts["pieces.kept"], counts["pieces.new"], counts["pieces.dropped"]) == (40, 1, 0)
    assert read_model(tmp_path / "out").checkpoint.bert_config.vocab_size == 41


def test_the_case_can_be_set(toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    made = saved(tmp_path / "made", model_of(toy, "pretraining"))
    assert not read_model(converted(made, tmp_path / "out", "bertline", do_lower_case="false")).checkpoint.do_lower_case


def test_what_a_format_cannot_hold_is_refused(
    toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    made = saved(tmp_path / "made", model_of(toy, "pretraining"))
    with pytest.raises(ValueError, match="has no Adam slots to keep"):
        converted(made, tmp_path / "slots", "tf1", with_slots=True)
    with pytest.raises(ValueError, match="huggingface cannot hold Adam's slots"):
        ConvertConfig(to="huggingface", with_slots=True)
    with pytest.raises(ValueError, match='to is "pytorch"; known: bertline, '):
        ConvertConfig(to="pytorch")
    with pytest.raises(ValueError, match="pooling and normalize are of sentence-transformers alone"):
        ConvertConfig(to="tf1", pooling="cls")
    with pytest.raises(ValueError, match="bound is 0"):
        ConvertConfig(bound=0)


def test_heads_are_made_afresh_only_when_asked_for(
    toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    model = model_of(toy, "pretraining")
    bare = dataclasses.replace(model, weights={n: a for n, a in model.weights.items() if not n.startswith("cls/")})
    made = saved(tmp_path / "made", bare)
    assert read_model(converted(made, tmp_path / "as_is", "huggingface")).heads == ("pooler",)
    filled = read_model(converted(made, tmp_path / "filled", "huggingface", initialize="masked_lm"))
    assert filled.heads == ("pooler", "masked-LM head")


@pytest.mark.parametrize("content", ["not a model", ""])
def test_a_folder_without_a_model_is_refused_by_what_was_looked_for(content: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(content)
    with pytest.raises(ValueError, match=r"no model in this folder; looked for .*training_state.json.*config.json"):
        read_model(tmp_path)
    with pytest.raises(ValueError, match=r"notes\.txt: not a model; give"):
        read_model(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="no such model; give"):
        read_model(tmp_path / "missing")


def test_what_is_left_out_is_counted(toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    made = saved(tmp_path / "made", model_of(toy, "pretraining", with_slots=True))
    (tmp_path / "out").mkdir()
    counts = run(made, tmp_path / "out", ConvertConfig(to="huggingface"))
    assert counts["slots_left_out"] == 2 * len(pretraining_shapes(toy))


def test_the_exact_gelu_is_remarked_on_and_comes_back(
    toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = saved(tmp_path / "made", model_of(dataclasses.replace(toy, hidden_act="gelu_erf"), "pretraining"))
    there = converted(made, tmp_path / "tf1", "tf1")
    assert "has the tanh form of GELU alone" in capsys.readouterr().err
    assert read_model(there).checkpoint.bert_config.hidden_act == "gelu_erf"


def test_weights_can_be_read_by_others(toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = saved(tmp_path / "made", model_of(toy, "pretraining"))
    made.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir(mode=0o755)
    run(made, out, ConvertConfig(to="huggingface"))
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_another_vocabulary_than_the_one_beside_the_weights_is_remarked_on(
    toy: BertConfig, model_of: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    made = saved(tmp_path / "made", model_of(toy, "pretraining"))
    other = tmp_path / "other.txt"
    other.write_bytes((made / "vocab.txt").read_bytes().replace(b"word7\n", b"word77\n"))
    assert any("takes the place of vocab.txt" in remark for remark in read_model(made, vocab_file=other).remarks)
