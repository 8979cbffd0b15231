"""How fast a training goes, from the durations of its steps, and the FLOPs and the peak it is held against."""

from types import SimpleNamespace

import numpy as np
import pytest

from bertline.model.config import BertConfig, bert_config
from bertline.model.training.speed import (
    WINDOW,
    Rates,
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
    rates.add(0.2, batch(208))
    rates.add(0.8, batch(112), steps=3)
    assert rates.row() == pytest.approx(
        {
            "rate/sequences_per_second": 32.0,
            "rate/tokens_per_second": 8 * (208 + 3 * 112.0),
            "rate/model_flops_per_second": 4e9,
            "rate/share_of_peak": 0.5,
        }
    )
    assert rates.facts() == {"steps/s": "4", "sequences/s": "32.0", "tokens/s": "4,352", "FLOP/s": "4G (50% of peak)"}


def test_rates_are_those_of_the_last_calls() -> None:
    rates = Rates(lambda batch: StepWork(1, 1, 1), 1.0)
    for seconds in [1.0] + [0.1] * WINDOW:
        rates.add(seconds, batch())
    assert rates.row()["rate/sequences_per_second"] == pytest.approx(10.0)


def test_compilation_snapshots_and_scores_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 10.0, 20.0, 20.5])  # at the start, the first report, after a snapshot, the second report
    monkeypatch.setattr("bertline.model.training.speed.time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    rates = Rates(lambda batch: StepWork(1, 1, 1), 1.0)
    watch = Stopwatch(rates)
    watch.note_dispatch(((1, 8, 16),))  # compiled
    watch.note_dispatch(((1, 8, 16),))
    watch.note_report(batch(), 1)
    assert rates.row() == {}
    watch.restart()  # a snapshot was written
    watch.note_dispatch(((1, 8, 16),))
    watch.note_report(batch(), 1)
    assert rates.row()["rate/sequences_per_second"] == 2.0


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5"), (999.4, "999"), (999.6, "1k"), (31.24e9, "31.2G"), (4e14, "400T"), (2e21, "2e+03E")],
)
def test_prefixes(value: float, shown: str) -> None:
    assert format_with_prefix(value) == shown
