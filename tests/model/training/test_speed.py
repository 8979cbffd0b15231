"""How fast a training goes, from the durations of its steps, and the FLOPs and the peak it is held against."""

import json
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bertline.model.config import BertConfig, bert_config
from bertline.model.training.speed import (
    WINDOW,
    Rates,
    SpeedLog,
    StepWork,
    Stopwatch,
    classification_work,
    format_with_prefix,
    forward_flops,
    measure_peak,
    pretraining_work,
)

TINY = BertConfig(11, 4, 2, 2, 7, max_position_embeddings=8)


def test_a_tiny_shape_by_hand() -> None:
    """3 sequences of 5 tokens, 2 predictions each; hidden 4 in 2 heads of 2, feed-forward 7, vocabulary 11."""
    projections = 4 * (2 * 15 * 4 * 4)  # query, key, value, output: [15, 4] x [4, 4]
    scores = 3 * 2 * (2 * 5 * 2 * 5)  # of 3 sequences x 2 heads: [5, 2] x [2, 5]
    context = 3 * 2 * (2 * 5 * 5 * 2)  # [5, 5] x [5, 2]
    feed_forward = 2 * 15 * 4 * 7 + 2 * 15 * 7 * 4
    pooler, next_sentence = 2 * 3 * 4 * 4, 2 * 3 * 4 * 2
    transform, output = 2 * 6 * 4 * 4, 2 * 6 * 4 * 11
    by_hand = 2 * (projections + scores + context + feed_forward) + pooler + next_sentence + transform + output
    assert by_hand == 10464
    assert forward_flops(TINY, batch=3, length=5, predictions=2) == by_hand
    assert pretraining_work(TINY, batch=3, length=5, predictions=2) == StepWork(3, 15, 3 * by_hand)


def test_base_is_known_to_need_22_5_billion_for_128_tokens() -> None:
    """Jiao et al. 2020 (TinyBERT), table 1: BERT-Base 22.5 B, BERT-Tiny of 4 layers of 312 1.2 B."""
    assert forward_flops(bert_config("base", 30522), 1, 128, 0) == pytest.approx(22.5e9, rel=0.01)
    small = BertConfig(30522, 312, 4, 12, 1200)
    assert forward_flops(small, 1, 128, 0) == pytest.approx(1.2e9, rel=0.05)


def test_without_attention_a_step_is_six_operations_a_parameter_and_token() -> None:
    shape = bert_config("large", 30522)
    per_layer = 4 * 1024**2 + 2 * 1024 * 4096
    work = pretraining_work(shape, 2, 128, 0)
    attention = 3 * 24 * 2 * (2 * 2 * 128 * 128 * 1024)
    pooler = 3 * 2 * 2 * 1024 * 1026
    assert work.flops - attention - pooler == 6 * (24 * per_layer) * 2 * 128


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_peak_is_measured_once(precision: str) -> None:
    peak = measure_peak(precision)
    assert 1e8 < peak < 1e16
    assert measure_peak(precision) == peak


def test_a_classifier_has_its_labels_in_the_place_of_both_pretraining_heads() -> None:
    both = pretraining_work(TINY, 3, 5, predictions=0)
    assert classification_work(TINY, 3, 5, labels=2) == both
    assert classification_work(TINY, 3, 5, labels=5).flops - both.flops == 3 * (2 * 3 * 4 * 3)


def batch(length: int = 16) -> dict[str, np.ndarray]:
    return {"input_ids": np.zeros((8, length), np.int32)}


def test_rates_are_sequences_tokens_and_operations_of_the_steps_noted() -> None:
    def work_of(batch) -> StepWork:
        return StepWork(8, 8 * batch["input_ids"].shape[1], 10**9)

    rates = Rates(work_of, peak_flops=8e9)
    assert rates.row() == rates.facts() == {}
    rates.add(rates.time(0.2, batch(208)))
    rates.add(rates.time(0.8, batch(112), steps=3))
    assert rates.row() == pytest.approx(
        {
            "rate/steps_per_second": 4.0,
            "rate/sequences_per_second": 32.0,
            "rate/tokens_per_second": 8 * (208 + 3 * 112.0),
            "rate/model_flops_per_second": 4e9,
            "rate/share_of_peak": 0.5,
        }
    )
    assert rates.facts() == {
        "steps/s": 4.0,
        "sequences/s": 32.0,
        "tokens/s": 4352.0,
        "FLOP/s": "4G",
        "share of peak": "50%",
    }


def test_rates_are_those_of_the_last_calls() -> None:
    rates = Rates(lambda batch: StepWork(1, 1, 1), 1.0)
    for seconds in [1.0] + [0.1] * WINDOW:
        rates.add(rates.time(seconds, batch()))
    assert rates.row()["rate/sequences_per_second"] == pytest.approx(10.0)


def test_no_training_is_faster_than_the_peak_and_none_is_shown_that_took_no_time() -> None:
    rates = Rates(lambda batch: StepWork(1, 1, 434), peak_flops=1.0)
    rates.add(rates.time(0.0, batch()))
    assert rates.row() == rates.facts() == {}
    rates.add(rates.time(2.0, batch()))
    assert rates.facts()["share of peak"] == "100%"


class Device:
    """A clock that stands still but for a device's work: a call compiles for 60 seconds, then takes 0.5 a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, by_itself: bool) -> None:
        """`by_itself`: dispatching returns at once, once all is compiled; it waits for the results otherwise."""
        self.now, self._free, self._by_itself = 0.0, 0.0, by_itself
        self._compiled: set[int] = set()
        self._computing: deque[tuple[int, int, float]] = deque()
        monkeypatch.setattr("bertline.model.training.speed.time", SimpleNamespace(perf_counter=lambda: self.now))
        self.rates = Rates(lambda batch: StepWork(8, 8 * batch["input_ids"].shape[1], 1), 1.0)
        self.watch = Stopwatch(self.rates)
        self.shown: list[float] = []  # steps a second, after each report

    def train(self, calls: list[int], steps: int = 1) -> None:
        """Calls of rows of such lengths, as the stage dispatches and reports them, up to a pause of 30 seconds."""
        self.watch.restart()
        for length in calls:
            compiles = not self.watch.is_compiled(length)
            if compiles:
                self._report(0)
            self._dispatch(length, steps)
            self._report(0 if compiles else 1)
        self._report(0)
        self.now += 30.0

    def _dispatch(self, length: int, steps: int) -> None:
        if length not in self._compiled:
            self._compiled.add(length)
            self.now += 60.0
        self._free = max(self._free, self.now) + 0.5 * steps
        if not self._by_itself:
            self.now = self._free
        self._computing.append((length, steps, self._free))

    def _report(self, waiting: int) -> None:
        while len(self._computing) > waiting:
            length, steps, ready = self._computing.popleft()
            self.now = max(self.now, ready)
            self.watch.note_report(length, batch(length), steps, is_last=not self._computing)
            self.shown += [rate for name, rate in self.rates.row().items() if name == "rate/steps_per_second"]


@pytest.mark.parametrize("by_itself", [True, False])
@pytest.mark.parametrize("steps", [1, 10])
def test_rates_are_right_from_the_first_one_shown(by_itself: bool, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of stages of two or three calls, of evaluations after each one, of lengths that come later, of a long stage."""
    device = Device(monkeypatch, by_itself=by_itself)
    device.train([16], steps)
    assert device.shown == []
    for calls in ([16], [16] * 2, [16] * 3, [16, 16, 32, 16, 32, 32], [64, 16], [16] * 3 * WINDOW, [16] * 2):
        device.train(calls, steps)
        assert device.shown == pytest.approx([2.0] * len(device.shown))
        assert device.rates.row()["rate/sequences_per_second"] == pytest.approx(16.0)


def test_a_log_of_speed_goes_on_where_training_does(tmp_path: Path) -> None:
    log = SpeedLog(tmp_path / "events", step=0)
    log.add(10, {})
    log.add(20, {"rate/steps_per_second": 2.34567})
    log.add(30, {"rate/steps_per_second": 2.0})
    file = tmp_path / "events" / "training_speed.jsonl"
    first, second, _ = map(json.loads, file.read_text().splitlines())
    assert first.keys() == {"step", "seconds"}
    assert second == {"step": 20, "seconds": second["seconds"], "steps_per_second": 2.346}
    file.write_text(file.read_text().replace(f'"seconds": {second["seconds"]}', '"seconds": 1000.5') + '{"step": 4')
    SpeedLog(tmp_path / "events", step=25).add(30, {})
    rows = list(map(json.loads, file.read_text().splitlines()))
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[2]["seconds"] >= 1000.5
    SpeedLog(tmp_path / "events", step=0)
    assert file.read_text() == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5"), (999.4, "999"), (999.6, "1k"), (31.24e9, "31.2G"), (4e14, "400T"), (2e21, "2e+03E")],
)
def test_prefixes(value: float, shown: str) -> None:
    assert format_with_prefix(value) == shown
