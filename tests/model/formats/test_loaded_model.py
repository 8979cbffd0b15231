"""Heads of a BERT: whole or not at all, and made afresh only where that is asked for."""

from pathlib import Path

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, classifier_shapes, encoder_shapes, pretraining_shapes, span_shapes
from bertline.model.formats.loaded_model import (
    ANSWER_SPANS,
    CLASSIFIER,
    MASKED_LM,
    NEXT_SENTENCE,
    POOLER,
    find_heads,
    find_unused,
    initialize_heads,
    parse_heads,
    require_heads,
)
from bertline.model.training.checkpoint import Checkpoint

CONFIG = BertConfig(7, 4, 1, 2, 8, max_position_embeddings=6)
WHERE = Path("some/model")


def weights_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return initial_weights(shapes, 0.02, seed=0)


@pytest.mark.parametrize(
    ("shapes", "heads"),
    [
        (pretraining_shapes(CONFIG), [POOLER, MASKED_LM, NEXT_SENTENCE]),
        (encoder_shapes(CONFIG), [POOLER]),
        (classifier_shapes(CONFIG, 3), [POOLER, CLASSIFIER]),
        (span_shapes(CONFIG), [POOLER, ANSWER_SPANS]),
    ],
)
def test_heads_are_told_by_their_variables(shapes: dict[str, tuple[int, ...]], heads: list[str]) -> None:
    assert sorted(find_heads(weights_of(shapes), CONFIG, WHERE)) == sorted(heads)


def test_an_encoder_without_a_pooler_is_whole() -> None:
    weights = weights_of({name: shape for name, shape in encoder_shapes(CONFIG).items() if "/pooler/" not in name})
    assert find_heads(weights, CONFIG, WHERE) == ()


def test_another_shape_is_refused_by_name_with_both_shapes() -> None:
    name = "bert/encoder/layer_0/output/dense/kernel"
    weights = weights_of(encoder_shapes(CONFIG)) | {name: np.zeros((8, 5), np.float32)}
    with pytest.raises(ValueError, match=rf"some/model: {name} has shape \[8, 5\], .* asks for \[8, 4\]"):
        find_heads(weights, CONFIG, WHERE)


def test_a_head_that_is_cut_is_refused_by_what_is_missing() -> None:
    weights = weights_of(pretraining_shapes(CONFIG))
    del weights["cls/predictions/output_bias"]
    with pytest.raises(ValueError, match="the masked-LM head is not whole, cls/predictions/output_bias missing"):
        find_heads(weights, CONFIG, WHERE)
    with pytest.raises(ValueError, match=r"the encoder is not whole, .* and \d+ more missing"):
        find_heads({}, CONFIG, WHERE)


def test_variables_that_a_bert_does_not_have_are_listed() -> None:
    weights = weights_of(encoder_shapes(CONFIG)) | {"crf/transitions": np.zeros((3, 3), np.float32)}
    assert find_unused(weights, CONFIG) == ["crf/transitions"]


def test_missing_heads_are_refused_with_the_flag_that_makes_them() -> None:
    bare = Checkpoint(CONFIG, weights_of(encoder_shapes(CONFIG)), b"", True, {"step": 0})
    with pytest.raises(ValueError, match=r"some/model: has no masked-LM head; .* --initialize=masked_lm"):
        require_heads(bare, (POOLER, MASKED_LM), WHERE)
    made = initialize_heads(bare, parse_heads("masked_lm, next_sentence"), seed=1, where=WHERE)
    require_heads(made, (POOLER, MASKED_LM, NEXT_SENTENCE), WHERE)
    assert all(made.weights[name] is array for name, array in bare.weights.items())


def test_fresh_heads_depend_on_the_seed_alone() -> None:
    bare = Checkpoint(CONFIG, weights_of(encoder_shapes(CONFIG)), b"", True, {"step": 0})
    first, again, other = (initialize_heads(bare, [MASKED_LM], seed, WHERE).weights for seed in (1, 1, 2))
    name = "cls/predictions/transform/dense/kernel"
    assert np.array_equal(first[name], again[name])
    assert not np.array_equal(first[name], other[name])
