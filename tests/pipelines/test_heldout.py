"""Held-out scores in pretraining as their user meets them, and the best weights as the input of other verbs."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bertline.components.pretraining_data.files import require_held_out
from bertline.components.store.artifacts import Provenance, publish
from bertline.components.store.manifests import read_manifest
from bertline.model.config import BertConfig
from bertline.model.pretraining.evaluate import EvaluateConfig
from bertline.model.records.canonical import encode_examples
from bertline.pipelines.cli.main import main

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(15))]
LENGTH, PREDICTIONS = 12, 2


@dataclass(frozen=True)
class NoConfig:
    pass


@dataclass(frozen=True)
class Part:
    part: str


def records(out: Path, kind: str, count: int, config: NoConfig | Part = NoConfig()) -> Path:
    """Random examples: those learned by heart say nothing of others, whose loss rises."""
    generator = np.random.default_rng(count)
    batch = {
        "input_ids": generator.integers(5, len(WORDS), (count, LENGTH)).astype(np.int32),
        "input_mask": np.ones((count, LENGTH), np.int32),
        "segment_ids": np.zeros((count, LENGTH), np.int32),
        "masked_lm_positions": generator.integers(1, LENGTH, (count, PREDICTIONS)).astype(np.int32),
        "masked_lm_ids": generator.integers(5, len(WORDS), (count, PREDICTIONS)).astype(np.int32),
        "masked_lm_weights": np.ones((count, PREDICTIONS), np.float32),
        "next_sentence_labels": generator.integers(0, 2, (count, 1)).astype(np.int32),
    }

    def write(folder: Path, _: Path) -> dict[str, int | float]:
        (folder / "part-00000-of-00001.tfrecord").write_bytes(encode_examples(batch))
        return {}

    return publish(out, Provenance(kind, "prepare", {}, config, []), write).path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.txt, bert_config.json, records_12 and heldout_12."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    shape = BertConfig(len(WORDS), 16, 1, 2, 32, max_position_embeddings=16)
    (folder / "bert_config.json").write_text(json.dumps(shape.to_mapping()))
    records(folder / "records_12", "records_12", 16)
    records(folder / "heldout_12", "records_heldout_12", 9)
    return folder


def pretrain(prepared: Path, out: Path, heldout: Path, *flags: str) -> int:
    return main(
        [
            *("pretrain", f"--records={prepared / 'records_12'}", f"--vocab={prepared / 'vocab.txt'}"),
            *(f"--model={prepared / 'bert_config.json'}", f"--max_seq_length={LENGTH}", "--train_batch_size=8"),
            *("--num_train_steps=40", "--num_warmup_steps=2", "--learning_rate=0.02", "--jit_compile=false"),
            *(f"--heldout={heldout}", "--eval_every_steps=4", f"--out={out}", *flags),
        ]
    )


def test_records_to_train_on_are_scored_only_where_that_is_asked_for(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(folder: Path, _: Path) -> dict[str, int | float]:
        (folder / "training_state.json").write_text("{}")
        return {}

    trained, other = prepared / "records_12", records(tmp_path / "other_12", "records_12", 16, Part("train"))
    made_from = Provenance("checkpoint_12", "pretrain", {"records": [trained]}, NoConfig(), [])
    checkpoint = publish(tmp_path / "checkpoint_12", made_from, write).path
    for folder in (trained, other):
        argv = ["evaluate", f"--checkpoint={checkpoint}", f"--records={folder}", f"--out={tmp_path / 'scores'}"]
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert f"{folder}: documents to train on, not held-out ones" in error
        assert "bertline prepare --part heldout" in error and "--trained_on" in error
        require_held_out(checkpoint, folder, EvaluateConfig(trained_on=True))
    for kind, part in (("records_12", "all"), ("records_heldout_12", "heldout")):
        require_held_out(checkpoint, records(tmp_path / part, kind, 9, Part(part)), EvaluateConfig())


@pytest.mark.slow
def test_the_best_weights_are_scored_exported_and_trained_on(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "checkpoint_12"
    assert pretrain(prepared, out, prepared / "heldout_12") == 0
    shown = capsys.readouterr().err
    assert "held-out records: 9 of 9 examples\n" in shown
    assert shown.count("held-out at step ") == 10
    assert {each["name"] for each in read_manifest(out)["inputs"]} == {"records", "vocabulary", "heldout"}
    best = json.loads((out / "best.json").read_text())
    assert (best["weights"], best["best"]["step"] < 40) == ("best", True)

    heldout, scores = f"--records={prepared / 'heldout_12'}", tmp_path / "scores"
    assert main(["evaluate", f"--checkpoint={out / 'best'}", heldout, f"--out={scores}", "--jit_compile=false"]) == 0
    found = json.loads((scores / "scores.json").read_text())
    assert found["masked_lm_loss"] == pytest.approx(best["best"]["masked_lm_loss"], rel=1e-5)
    (used,) = [each for each in read_manifest(scores)["inputs"] if each["name"] == "checkpoint"]
    assert used["part_of"] == read_manifest(out)["digest"]
    assert main(["export", f"--checkpoint={out / 'best'}", f"--out={tmp_path / 'exported'}"]) == 0

    more = ["pretrain", f"--records={prepared / 'records_12'}", f"--max_seq_length={LENGTH}", "--train_batch_size=8"]
    more += ["--num_train_steps=2", "--num_warmup_steps=1", f"--out={tmp_path / 'more'}", "--jit_compile=false"]
    capsys.readouterr()
    assert main([*more, f"--checkpoint={out / 'best'}"]) == 2
    assert "best: not a stage of pretraining, its schedule is unknown; give it as --initial" in capsys.readouterr().err
    assert main([*more, f"--initial={out / 'best'}"]) == 0


def test_records_that_are_trained_on_are_not_held_out(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(prepared, tmp_path / "out", prepared / "records_12") == 2
    assert "records_12: trained on, not held out; run" in capsys.readouterr().err
    assert pretrain(prepared, tmp_path / "out", prepared / "none") == 2
    assert "none: no such artifact" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
