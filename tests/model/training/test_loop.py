"""The loop: calls of several updates on a grid of steps, rests between them, a stop at what is no number."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from keras import ops

from bertline.model.training.loop import DivergedError, new_trainer, train
from bertline.model.training.optimizer_config import Schedule
from bertline.model.training.update import Objective, Update


def batch_at(step: int) -> dict[str, np.ndarray]:
    """Numbers of a step's own; steps 6 and 7 have longer rows."""
    width = 5 if step in (6, 7) else 3
    return {"x": np.random.default_rng(step).normal(size=(4, width)).astype(np.float32)}


def losses(weights: Mapping[str, Any], part: Mapping[str, Any], *rest: Any) -> dict[str, Any]:
    return {"loss": ops.sum(ops.square(weights["mean"] - ops.mean(part["x"], axis=1)))}


def trained(
    steps_per_call: int = 1,
    start: int = 0,
    stop: int = 11,
    batches: Callable[[int], dict[str, np.ndarray]] = batch_at,
    every: int = 1,
) -> tuple[list[tuple[int, float, int]], dict[int, np.ndarray]]:
    """For each update its number, loss, and how many rests were before it; the weights at every rest."""
    update = Update(Objective(lambda batch: {}, losses), Schedule(0.1, 20, 2))
    trainer = new_trainer({"mean": np.zeros(4, np.float32)}, None, update, jit_compile=False)
    rows: list[tuple[int, float, int]] = []
    rests: dict[int, np.ndarray] = {}
    train(
        trainer,
        batches,
        lambda step, metrics: rows.append((step, metrics["loss"], len(rests))),
        start_step=start,
        stop_step=stop,
        label="test",
        steps_per_call=steps_per_call,
        rests_at=lambda step: step % every == 0 or step == stop,
        at_rest=lambda step: rests.update({step: trainer.weights()["mean"]}),
    )
    return rows, rests


def test_a_rest_sees_the_weights_and_all_metrics_of_its_step() -> None:
    rows, rests = trained(every=5)
    assert [(step, before) for step, _, before in rows] == [
        *((step, 0) for step in range(1, 6)),
        *((step, 1) for step in range(6, 11)),
        (11, 2),
    ]
    for step, weights in rests.items():
        np.testing.assert_array_equal(weights, trained(stop=step)[1][step])


def test_calls_end_on_a_grid_of_steps_and_at_the_end() -> None:
    assert list(trained(4)[1]) == [4, 8, 11]
    assert list(trained(4, start=2)[1]) == [4, 8, 11]
    assert list(trained(4, start=4, stop=8)[1]) == [8]
    assert list(trained(20, start=2)[1]) == [11]


def test_calls_of_several_updates_change_nothing_rows_of_other_lengths_included() -> None:
    single, several = trained(), trained(4)
    assert [step for step, *_ in several[0]] == list(range(1, 12))
    np.testing.assert_allclose([row[1] for row in several[0]], [row[1] for row in single[0]], atol=1e-6)
    for step, weights in several[1].items():
        np.testing.assert_allclose(weights, single[1][step], atol=1e-6)


@pytest.mark.parametrize(("steps_per_call", "rests"), [(1, [1, 2, 3, 4, 5]), (4, [4])])
def test_what_is_no_number_stops_before_the_next_rest_with_its_step(steps_per_call: int, rests: list[int]) -> None:
    seen: list[int] = []

    def batches(step: int) -> dict[str, np.ndarray]:
        batch = {"x": np.full((4, 3), step, np.float32)}
        if step == 5:
            batch["x"][2, 1] = np.inf
        return batch

    update = Update(Objective(lambda batch: {}, losses), Schedule(0.1, 20, 2))
    trainer = new_trainer({"mean": np.zeros(4, np.float32)}, None, update, jit_compile=False)
    with pytest.raises(DivergedError, match=r"step 6: loss is inf, .*learning rate 0\.07; lower") as stopped:
        train(
            trainer,
            batches,
            lambda step, metrics: None,
            start_step=0,
            stop_step=11,
            label="test",
            steps_per_call=steps_per_call,
            rests_at=lambda step: True,
            at_rest=seen.append,
        )
    assert seen == rests
    assert stopped.value.step == 5


def test_an_error_of_the_reader_comes_out() -> None:
    def batches(step: int) -> dict[str, np.ndarray]:
        if step == 3:
            raise ValueError("part-00000: cut")
        return batch_at(step)

    with pytest.raises(ValueError, match="part-00000: cut"):
        trained(2, batches=batches)
