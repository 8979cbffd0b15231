import pytest

from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.start import shape_of


def test_a_stage_takes_its_model_s_initial_range_and_dropout_unless_it_names_its_own() -> None:
    shape = shape_of(PretrainConfig(model="tiny"), 100)
    assert (shape.initializer_range, shape.hidden_dropout_prob, shape.attention_probs_dropout_prob) == (0.02, 0.1, 0.1)
    shape = shape_of(PretrainConfig(model="tiny", initializer_range=0.09, dropout=0.0), 100)
    assert (shape.initializer_range, shape.hidden_dropout_prob, shape.attention_probs_dropout_prob) == (0.09, 0.0, 0.0)


@pytest.mark.parametrize(("name", "value"), [("dropout", 1.0), ("dropout", -0.5), ("initializer_range", -0.1)])
def test_impossible_ones_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        PretrainConfig(**{name: value})
