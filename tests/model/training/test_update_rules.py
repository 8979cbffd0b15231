"""The update against the formulas written in NumPy."""

import numpy as np
import pytest

from bertline.model.training.update import (
    Rule,
    Schedule,
    apply_gradients,
    clip_by_global_norm,
    is_decayed,
    learning_rate,
)

NAMES = ("bert/pooler/dense/kernel", "bert/pooler/dense/bias", "bert/embeddings/LayerNorm/gamma")


def test_learning_rate_follows_the_originals_formula() -> None:
    schedule = Schedule(learning_rate=1.0, num_train_steps=20, num_warmup_steps=5)
    rates = [float(learning_rate(schedule, update)) for update in (1, 2, 4, 5, 6, 19, 20, 21)]
    assert rates == pytest.approx([0.2, 0.4, 0.8, 0.75, 0.7, 0.05, 0.0, 0.0], abs=1e-6)


def test_no_warmup() -> None:
    assert float(learning_rate(Schedule(2.0, 10, 0), 1)) == pytest.approx(1.8)


def test_clip_scales_all_gradients_by_their_joint_norm() -> None:
    clipped, norm = clip_by_global_norm([np.float32([3.0]), np.float32([[4.0]])], 1.0)
    assert float(norm) == pytest.approx(5.0)
    assert [np.asarray(gradient).item() for gradient in clipped] == pytest.approx([0.6, 0.8])
    small, norm = clip_by_global_norm([np.float32([0.3]), np.float32([0.4])], 1.0)
    assert np.asarray(small[0]).item() == pytest.approx(0.3)


def test_decay_spares_biases_and_layer_normalisations() -> None:
    assert [is_decayed(name) for name in NAMES] == [True, False, False]
    assert not is_decayed("cls/predictions/output_bias")
    assert is_decayed("cls/seq_relationship/output_weights")


class Plain:
    """The formulas of each rule, in float64."""

    def __init__(self, rule: Rule, weights: dict[str, np.ndarray]) -> None:
        self.rule, self.weights = rule, {name: array.astype(np.float64) for name, array in weights.items()}
        self.m, self.v = ({name: np.zeros_like(array) for name, array in self.weights.items()} for _ in range(2))

    def update(self, gradients: dict[str, np.ndarray], rate: float, number: int) -> None:
        norm = np.sqrt(sum(np.sum(gradient.astype(np.float64) ** 2) for gradient in gradients.values()))
        for name, weight in self.weights.items():
            g = gradients[name] / max(norm, 1.0)
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g * g
            m, v = self.m[name], self.v[name]
            if self.rule.name != "bert_adam":
                m, v = m / (1 - 0.9**number), v / (1 - 0.999**number)
            step = m / (np.sqrt(v) + 1e-6)
            if name.endswith("kernel"):
                step = step + 0.01 * weight
                if self.rule.name == "lamb":
                    step = step * np.linalg.norm(weight) / np.linalg.norm(step)
            self.weights[name] = weight - rate * step


@pytest.mark.parametrize("name", ["bert_adam", "adamw", "lamb"])
def test_25_updates_equal_the_formulas(name: str) -> None:
    generator = np.random.default_rng(0)
    schedule, rule = Schedule(learning_rate=0.05, num_train_steps=30, num_warmup_steps=5), Rule(name)
    weights = {each: generator.standard_normal((4, 3)).astype(np.float32) for each in NAMES}
    slots = {each + slot: np.zeros((4, 3), np.float32) for each in NAMES for slot in ("/adam_m", "/adam_v")}
    plain = Plain(rule, weights)
    for number in range(1, 26):
        gradients = {each: generator.standard_normal((4, 3)).astype(np.float32) for each in NAMES}
        plain.update(gradients, 0.05 * number / 5 if number < 5 else 0.05 * (1 - number / 30), number)
        rate = learning_rate(schedule, number)
        weights, slots, _ = apply_gradients(rule, weights, slots, gradients, rate, number)
    for each in NAMES:
        np.testing.assert_allclose(np.asarray(weights[each]), plain.weights[each], rtol=0, atol=2e-6)


def test_linear_decay_falls_from_the_peak() -> None:
    schedule = Schedule(learning_rate=1.0, num_train_steps=20, num_warmup_steps=4, decay="linear")
    rates = [float(learning_rate(schedule, update)) for update in (1, 3, 4, 8, 12, 20, 21)]
    assert rates == pytest.approx([0.25, 0.75, 1.0, 0.75, 0.5, 0.0, 0.0], abs=1e-6)


def test_lamb_leaves_a_weight_of_zeros_to_the_plain_rate() -> None:
    zeros = {"a/kernel": np.zeros((2, 2), np.float32)}
    slots = {f"a/kernel/{slot}": np.zeros((2, 2), np.float32) for slot in ("adam_m", "adam_v")}
    gradients = {"a/kernel": np.full((2, 2), 0.1, np.float32)}
    moved, _, _ = apply_gradients(Rule("lamb"), zeros, slots, gradients, 0.5, 1)
    np.testing.assert_allclose(np.asarray(moved["a/kernel"]), -0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sgd"}, 'optimizer is "sgd"; known: bert_adam, adamw, lamb'),
        ({"beta_2": 1.0}, "beta_2 is 1.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
    ],
)
def test_impossible_rules_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**settings)  # type: ignore[arg-type]
