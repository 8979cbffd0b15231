"""The stage: calls of several updates on a grid of steps, saves between them, a stop at a loss that is not finite."""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

from bertline.model.config import BertConfig
from bertline.model.training.backends.choice import Hosts
from bertline.model.training.checkpoint import Checkpoint, TrainingLog
from bertline.model.training.diverged import DivergedError
from bertline.model.training.snapshots import Snapshots
from bertline.model.training.speed import StepWork
from bertline.model.training.stage import Stage, Training
from bertline.model.training.update import Objective, Schedule, Update

Saves = dict[int, tuple[np.ndarray, int]]  # the weights of a step, and how many updates were logged then
Batches = Callable[[int], dict[str, np.ndarray]]


def batch_at(step: int) -> dict[str, np.ndarray]:
    """Numbers of a step's own; steps 6 and 7 have longer rows."""
    width = 5 if step in (6, 7) else 3
    return {"x": np.random.default_rng(step).normal(size=(4, width)).astype(np.float32)}


class Numbers:
    """The data of a stage."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def batch_at(self, step: int, hosts: Hosts) -> dict[str, np.ndarray]:
        return self._batches(step)

    def examples_at(self, step: int) -> np.ndarray:
        return np.arange(4 * step, 4 * step + 4)


SLOW_SECONDS = 0.05


def slow_losses(weights: Mapping[str, Any], batch: Mapping[str, Any], *rest: Any) -> dict[str, Any]:
    """The same, but an update takes a known time at least."""
    import tensorflow as tf

    pause = tf.stop_gradient(tf.numpy_function(lambda: np.float32(time.sleep(SLOW_SECONDS) or 0), [], tf.float32))
    return {"loss": losses(weights, batch)["loss"] + tf.reshape(pause, ())}


def losses(weights: Mapping[str, Any], batch: Mapping[str, Any], *rest: Any) -> dict[str, Any]:
    return {"loss": ops.sum(ops.square(weights["mean"] - ops.mean(batch["x"], axis=1)))}


@pytest.fixture
def train(toy: BertConfig, tmp_path: Path) -> Callable[..., tuple[list[dict[str, float]], Saves]]:
    """Trains four numbers; returns the curve, and what was saved on the way, with the end."""

    def run(
        steps_per_call: int = 1,
        start: int = 0,
        stop: int = 11,
        batches: Batches = batch_at,
        every: int = 1,
        saves: Saves | None = None,
        losses: Callable[..., Any] = losses,
        log_dir: Path | None = None,
    ) -> tuple[list[dict[str, float]], Saves]:
        saved: Saves = {} if saves is None else saves

        def note(checkpoint: Checkpoint, log: TrainingLog, identity: Mapping[str, Any]) -> Callable[[Path], None]:
            saved[checkpoint.state["step"]] = checkpoint.weights["mean"], len(log.rows)
            return lambda folder: None

        stage = Stage(
            label="test",
            update=Update(Objective(lambda batch: {}, losses), Schedule(0.1, 20, 2)),
            data=Numbers(batches),
            first_step=0,
            last_step=stop,
            work_of=lambda batch: StepWork(4, 4, 1),
            identity={},
            save_checkpoints_steps=every,
            steps_per_call=steps_per_call,
            jit_compile=False,
        )
        begun = Checkpoint(toy, {"mean": np.zeros(4, np.float32)}, b"", True, {"step": start})
        snapshots = Snapshots(tmp_path, save=lambda step, write: None)
        log = TrainingLog(1)
        final = Training(stage, begun, log, tmp_path, log_dir=log_dir, snapshots=snapshots, writer=note).run()
        note(final, log, {})
        return log.rows, saved

    return run


def test_a_snapshot_holds_the_weights_and_all_metrics_of_its_step(train) -> None:
    saves = train(every=5)[1]
    assert {step: logged for step, (_, logged) in saves.items()} == {5: 5, 10: 10, 11: 11}
    for step, (weights, _) in saves.items():
        np.testing.assert_array_equal(weights, train(stop=step)[1][step][0])


@pytest.mark.parametrize("options", [{"stop": 3}, {}, {"steps_per_call": 2, "every": 4}])
def test_no_speed_is_logged_that_the_updates_cannot_have_had(train, options: dict[str, int], tmp_path: Path) -> None:
    """Of three steps, with lengths that are compiled later, of several updates a call with snapshots on the way."""
    rows, _ = train(losses=slow_losses, log_dir=tmp_path, **({"every": 20} | options))
    speeds = [json.loads(line) for line in (tmp_path / "training_speed.jsonl").read_text().splitlines()]
    assert [row["step"] for row in speeds] == [row["step"] for row in rows]
    assert "steps_per_second" not in speeds[0]
    rates = [row["steps_per_second"] for row in speeds if "steps_per_second" in row]
    assert rates
    assert max(rates) <= 1 / SLOW_SECONDS
    assert all(0 < row["share_of_peak"] <= 1 for row in speeds if "share_of_peak" in row)
    assert all(before["seconds"] <= after["seconds"] for before, after in itertools.pairwise(speeds))


def test_calls_end_on_a_grid_of_steps_and_at_the_end(train) -> None:
    assert list(train(4)[1]) == [4, 8, 11]
    assert list(train(4, start=2)[1]) == [4, 8, 11]
    assert list(train(4, start=4, stop=8)[1]) == [8]
    assert list(train(20, start=2)[1]) == [11]


def test_calls_of_several_updates_change_nothing_rows_of_other_lengths_included(train) -> None:
    single, several = train(), train(4)
    assert [row["step"] for row in several[0]] == list(range(1, 12))
    np.testing.assert_allclose([row["loss"] for row in several[0]], [row["loss"] for row in single[0]], atol=1e-6)
    for step, (weights, _) in several[1].items():
        np.testing.assert_allclose(weights, single[1][step][0], atol=1e-6)


@pytest.mark.parametrize(("steps_per_call", "saved"), [(1, [1, 2, 3, 4, 5]), (4, [4])])
def test_a_loss_that_is_not_finite_stops_before_the_next_snapshot(train, steps_per_call: int, saved: list[int]) -> None:
    def batches(step: int) -> dict[str, np.ndarray]:
        batch = {"x": np.full((4, 3), step, np.float32)}
        if step == 5:
            batch["x"][2, 1] = np.inf
        return batch

    saves: Saves = {}
    with pytest.raises(DivergedError, match=r"step 6: loss is inf, .*learning rate 0\.07; lower") as stopped:
        train(steps_per_call, batches=batches, saves=saves)
    assert list(saves) == saved
    assert stopped.value.step == 5


def test_an_error_of_the_reader_comes_out(train) -> None:
    def batches(step: int) -> dict[str, np.ndarray]:
        if step == 3:
            raise ValueError("part-00000: cut")
        return batch_at(step)

    with pytest.raises(ValueError, match="part-00000: cut"):
        train(2, batches=batches)


def test_what_comes_every_so_many_steps_comes_at_the_ends_of_calls(train) -> None:
    assert list(train(4, stop=16, every=5)[1]) == [8, 12, 16]
