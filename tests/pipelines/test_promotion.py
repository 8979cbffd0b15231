"""A run's model takes the place of the one before only where the rule allows it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bertline.components.declaration import make
from bertline.components.promotion import Comparison, compare, decide, promote
from bertline.components.step_table import EVALUATE
from bertline.components.store.artifacts import Provenance, Store, publish
from bertline.components.store.refs import LATEST, read_history
from bertline.pipelines.cli.main import main


@dataclass(frozen=True)
class Config:
    number: int  # makes artifacts differ


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def end_run(store: Store, run: str, **artifacts: Path) -> None:
    """Leave the notes of a run that has ended well."""
    for task, path in artifacts.items():
        store.write_note(f"runs/{run}/{task}.json", json.dumps({"task": task, "path": str(path)}))


@pytest.fixture
def tune(store: Store, tmp_path: Path) -> Callable[..., Path]:
    """What a fine-tuning leaves, of this accuracy."""
    numbers: Iterator[int] = iter(range(100))

    def publish_tuned(accuracy: float, examples: int = 1000, dev: str = "a\t1\n") -> Path:
        file = tmp_path / f"dev-{dev[0]}.tsv"
        file.write_text(dev)

        def write(out: Path, work: Path) -> dict[str, Any]:
            (out / "model").write_text(str(accuracy))
            return {"accuracy": accuracy, "examples.dev": examples}

        config = Config(next(numbers))
        return publish(store, Provenance("finetuned_mrpc", "finetune", {"dev": [file]}, config, []), write).path

    return publish_tuned


def latest(store: Store) -> str:
    return read_history(store.objects, LATEST)[-1].artifacts["finetune_mrpc"]


@pytest.mark.parametrize(
    ("rule", "accuracy", "moved", "reason"),
    [
        ("always", 0.1, True, "no rule is to be kept"),
        ("no_worse", 0.79, True, "worse in nothing"),  # two standard errors of the difference are 3.6 points
        ("no_worse", 0.75, False, "worse in accuracy, mrpc"),
        ("no_worse", 0.85, True, "better in accuracy, mrpc"),
        ("better", 0.82, False, "better in nothing"),
        ("better", 0.85, True, "better in accuracy, mrpc"),
    ],
)
def test_a_score_must_differ_by_more_than_chance(
    rule: str, accuracy: float, moved: bool, reason: str, store: Store, tune: Callable[..., Path]
) -> None:
    champion, challenger = tune(0.8), tune(accuracy)
    end_run(store, "first", finetune_mrpc=champion)
    assert promote(store, "first", rule).reason == "the first model"
    end_run(store, "second", finetune_mrpc=challenger)
    decision = promote(store, "second", rule)
    assert (decision.moved, decision.reason) == (moved, reason)
    assert latest(store) == str(challenger if moved else champion)
    noted = json.loads((store.root / "runs" / "second" / "promotion" / "decision.json").read_text())
    assert noted["moved"] == moved


def test_what_cannot_be_compared_is_left_out_and_said(store: Store, tune: Callable[..., Path]) -> None:
    end_run(store, "first", finetune_mrpc=tune(0.8))
    promote(store, "first", "no_worse")
    end_run(store, "second", finetune_mrpc=tune(0.9, dev="b\t1\n"), finetune_sst2=tune(0.9))
    decision = promote(store, "second", "no_worse")
    assert (decision.moved, decision.reason) == (False, "nothing can be compared with what it leads to")
    assert decision.left_out == (
        "finetune_mrpc: scored on other examples",
        "finetune_sst2: the champion has no finetune_sst2",
    )


def test_what_says_no_score_is_left_out(store: Store, tune: Callable[..., Path], tmp_path: Path) -> None:
    def write(out: Path, work: Path) -> dict[str, Any]:
        (out / "model").write_text("of another version")
        return {}

    for inputs, said in (({}, "it has no dev"), ({"dev": [tmp_path / "dev-a.tsv"]}, "it has no accuracy")):
        scored = tune(0.8)
        other = publish(store, Provenance("finetuned_mrpc", "finetune", inputs, Config(100), []), write).path
        _, left_out = compare(store, {"finetune_mrpc": str(scored)}, {"finetune_mrpc": str(other)})
        assert left_out == [f"finetune_mrpc: {said}"]


def test_one_worse_score_outweighs_better_ones() -> None:
    comparisons = [Comparison("loss", 1.0, 2.0, "better"), Comparison("accuracy", 0.1, 0.9, "worse")]
    assert not decide("better", comparisons, []).moved


@pytest.mark.parametrize(
    ("rule", "run", "said"), [("maybe", "first", 'promotion is "maybe"'), ("better", "none", "made nothing")]
)
def test_bad_input_is_named(rule: str, run: str, said: str, store: Store) -> None:
    with pytest.raises(ValueError, match=said):
        promote(store, run, rule)


@pytest.mark.slow
def test_the_champion_is_scored_on_the_challengers_held_out_records(
    store: Store, pretrain_inputs: Path, pretrain_arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    heldout = pretrain_inputs / "heldout"
    config = {"jit_compile": False}
    for run, steps in (("few", 2), ("many", 30)):
        flags = [f"--num_train_steps={steps}", "--save_checkpoints_steps=100", "--learning_rate=1e-2"]
        assert main(pretrain_arguments(tmp_path / run, *flags)) == 0
        scored = make(EVALUATE, store, _evaluation(**config), {"checkpoint": tmp_path / run, "records": heldout}).path
        end_run(store, run, pretrain_512=tmp_path / run, heldout_512=heldout, evaluate_512=scored)
    assert promote(store, "few", "no_worse").moved
    decision = promote(store, "many", "no_worse")
    assert [each.score for each in decision.comparisons] == [
        "masked_lm_loss, 512",
        "masked_lm_accuracy, 512",
        "next_sentence_accuracy, 512",
    ]
    assert decision.comparisons[0].challenger != decision.comparisons[0].champion


def _evaluation(**settings: Any) -> Any:
    from bertline.model.pretraining.evaluate import EvaluateConfig

    return EvaluateConfig(**settings)
