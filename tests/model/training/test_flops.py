"""Model FLOPs of a step, and the measured peak they are held against."""

import pytest

from bertline.model.config import BertConfig, bert_config
from bertline.model.training.flops import StepWork, forward_flops, measured_peak, pretraining_work

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
    peak = measured_peak(precision)
    assert 1e8 < peak < 1e16
    assert measured_peak(precision) == peak
