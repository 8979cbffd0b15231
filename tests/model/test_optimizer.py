"""The update against the formulas written in NumPy."""

import numpy as np
import pytest

from bertline.model.optimizer import Schedule, adam_update, clip_by_global_norm, is_decayed, learning_rate

NAMES = ("bert/pooler/dense/kernel", "bert/pooler/dense/bias", "bert/embeddings/LayerNorm/gamma")


def test_learning_rate_follows_the_originals_formula() -> None:
    schedule = Schedule(learning_rate=1.0, num_train_steps=20, num_warmup_steps=5)
    rates = [float(learning_rate(schedule, update)) for update in (1, 2, 4, 5, 6, 19, 20, 21)]
    assert rates == pytest.approx([0.2, 0.4, 0.8, 0.75, 0.7, 0.05, 0.0, 0.0], abs=1e-6)


def test_no_warmup() -> None:
    assert float(learning_rate(Schedule(2.0, 10, 0), 1)) == pytest.approx(1.8)


def test_clip_scales_all_gradients_by_their_joint_norm() -> None:
    clipped, norm = clip_by_global_norm([np.float32([3.0]), np.float32([[4.0]])])
    assert float(norm) == pytest.approx(5.0)
    assert [np.asarray(gradient).item() for gradient in clipped] == pytest.approx([0.6, 0.8])
    small, norm = clip_by_global_norm([np.float32([0.3]), np.float32([0.4])])
    assert np.asarray(small[0]).item() == pytest.approx(0.3)


def test_decay_spares_biases_and_layer_normalisations() -> None:
    assert [is_decayed(name) for name in NAMES] == [True, False, False]
    assert not is_decayed("cls/predictions/output_bias")
    assert is_decayed("cls/seq_relationship/output_weights")


def test_25_updates_equal_the_formulas() -> None:
    generator = np.random.default_rng(0)
    schedule = Schedule(learning_rate=0.05, num_train_steps=30, num_warmup_steps=5)
    plain = {name: generator.standard_normal((4, 3)) for name in NAMES}
    plain_m, plain_v = ({name: np.zeros((4, 3)) for name in NAMES} for _ in range(2))
    ours = {
        name: (array.astype(np.float32), np.zeros((4, 3), "f4"), np.zeros((4, 3), "f4"))
        for name, array in plain.items()
    }
    for update in range(1, 26):
        gradients = {name: generator.standard_normal((4, 3)).astype(np.float32) for name in NAMES}
        rate = 0.05 * update / 5 if update < 5 else 0.05 * (1 - update / 30)
        norm = np.sqrt(sum(np.sum(gradient.astype(np.float64) ** 2) for gradient in gradients.values()))
        clipped, _ = clip_by_global_norm(list(gradients.values()))
        for name, gradient in zip(NAMES, clipped, strict=True):
            g = gradients[name] / max(norm, 1.0)
            plain_m[name] = 0.9 * plain_m[name] + 0.1 * g
            plain_v[name] = 0.999 * plain_v[name] + 0.001 * g * g
            step = plain_m[name] / (np.sqrt(plain_v[name]) + 1e-6)
            step += 0.01 * plain[name] if name.endswith("kernel") else 0.0
            plain[name] = plain[name] - rate * step
            weight, m, v = ours[name]
            ours[name] = adam_update(weight, gradient, m, v, learning_rate(schedule, update), decay=is_decayed(name))
    for name in NAMES:
        np.testing.assert_allclose(np.asarray(ours[name][0]), plain[name], rtol=0, atol=2e-6)
