"""One update: a batch in micro-batches is the batch, on every backend and on any number of devices."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.training.backends.choice import use_backend


def train(folder: Path, request: dict[str, Any], out: Path) -> None:
    """Train with the backend of this process; write the weights, the slots and every step's losses."""
    from bertline.model.bert import initial_weights
    from bertline.model.config import BertConfig, pretraining_shapes
    from bertline.model.heads import pretraining_losses, pretraining_whole
    from bertline.model.training.backends.choice import new_trainer
    from bertline.model.training.update import Objective, Rule, Schedule, Update

    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), request["dropout"])
    shape = {"max_position_embeddings": 32, "pre_layer_norm": request["pre_layer_norm"]}
    config = BertConfig(40, 32, request["layers"], 2, 64, **shape, **rates)
    recompute = request["recompute_layers"]
    update = Update(
        Objective(pretraining_whole, lambda weights, *rest: pretraining_losses(weights, config, *rest, recompute)),
        Schedule(5e-3, 60, 5),
        Rule(request["optimizer"]),
        seed=7,
        precision=request["precision"],
        micro_batches=request["micro_batches"],
    )
    weights = initial_weights(pretraining_shapes(config), 0.1, seed=3)
    trainer = new_trainer(weights, None, update, jit_compile=request["jit_compile"], devices=request["devices"])
    batches = np.load(folder / "batches.npz")
    losses, steps, several = [], request["steps"], request["steps_per_call"]
    for step in range(0, steps, several):
        if several == 1:
            rows = [trainer.update(step, {name: batches[name][step] for name in batches})]
        else:
            stop = min(step + several, steps)
            metrics = trainer.updates(step, {name: batches[name][step:stop] for name in batches})
            rows = [{name: values[place] for name, values in metrics.items()} for place in range(stop - step)]
        losses += [{name: float(value) for name, value in row.items()} for row in rows]
    np.savez(out, **trainer.weights(), **trainer.slots())
    out.with_suffix(".json").write_text(json.dumps(losses))


PLAIN = {"layers": 1, "micro_batches": 1, "devices": 1, "steps": 5, "recompute_layers": 0, "jit_compile": False}
PLAIN |= {"optimizer": "bert_adam", "precision": "float32", "dropout": 0.1, "pre_layer_norm": False}
PLAIN |= {"steps_per_call": 1}


@pytest.fixture(scope="module")
def batches(toy_batch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 batches of 16 examples, with masked positions that differ in number from example to example."""
    folder = tmp_path_factory.mktemp("batches")
    made = [toy_batch(16, seed=seed) for seed in range(50)]
    np.savez(folder / "batches.npz", **{name: np.stack([batch[name] for batch in made]) for name in made[0]})
    return folder


@pytest.fixture(scope="module")
def on_jax(batches: Path) -> Iterator[Callable[[dict[str, Any], Path], None]]:
    """`train` in a process that computes with JAX on up to eight devices: one for all, as its start takes longest."""
    flags = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, __file__], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:

        def ask(request: dict[str, Any], out: Path) -> None:
            print(json.dumps([str(batches), request, str(out)]), file=process.stdin, flush=True)
            assert process.stdout.readline() == "trained\n"

        yield ask
        process.stdin.close()


Trained = Callable[..., tuple[dict[str, Any], np.ndarray]]


@pytest.fixture
def trained(batches: Path, request: pytest.FixtureRequest) -> Trained:
    """Trains unless a test before did; returns weights and slots by name, and the losses of every step."""

    def result(name: str, backend: str = "tensorflow", **changes: Any) -> tuple[dict[str, Any], np.ndarray]:
        out = batches / f"{name}.npz"
        if not out.exists() and backend == "jax":
            request.getfixturevalue("on_jax")(PLAIN | changes, out)
        elif not out.exists():
            train(batches, PLAIN | changes, out)
        losses = json.loads(out.with_suffix(".json").read_text())
        return dict(np.load(out)), np.array([[row["mlm_loss"], row["nsp_loss"], row["grad_norm"]] for row in losses])

    return result


def assert_same(one: tuple[dict[str, Any], np.ndarray], other: tuple[dict[str, Any], np.ndarray]) -> None:
    np.testing.assert_allclose(one[1], other[1], atol=1e-5)
    assert set(one[0]) == set(other[0])
    for name, array in other[0].items():
        np.testing.assert_allclose(one[0][name], array, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_batch_in_micro_batches_equals_the_batch_dropout_included(trained: Trained, jit_compile: bool) -> None:
    whole = trained("xla" if jit_compile else "tensorflow_alone", jit_compile=jit_compile)
    cut = trained(f"micro_{jit_compile}", micro_batches=4, jit_compile=jit_compile)
    assert_same(cut, whole)


def test_an_optimizer_compiled_within_a_graph_moves_alike(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    of_few = trained("tensorflow_alone")
    monkeypatch.setattr("bertline.model.training.backends.tensorflow.FEW_PARAMETERS", 0)
    assert_same(trained("of_many"), of_few)


def test_a_layer_computed_again_has_the_same_gradient(trained: Trained) -> None:
    assert_same(trained("again", recompute_layers=1), trained("tensorflow_alone"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_groups_of_layers_computed_again_have_the_same_gradient(trained: Trained, backend: str) -> None:
    kept = trained(f"{backend}_of_three", backend, layers=3, steps=2)
    again = trained(f"{backend}_again", backend, layers=3, steps=2, recompute_layers=2)  # the last group has one
    np.testing.assert_allclose(again[1], kept[1], atol=1e-5)


@pytest.mark.parametrize(
    ("backend", "alone", "changes"),
    [
        ("tensorflow", "tensorflow_alone", {}),
        pytest.param("tensorflow", "xla", {"jit_compile": True}, marks=pytest.mark.slow),
        pytest.param("jax", "jax_alone", {}, marks=pytest.mark.slow),
        pytest.param("jax", "jax_2_micro", {"devices": 2, "micro_batches": 2}, marks=pytest.mark.slow),
    ],
)
def test_several_updates_in_one_call_equal_one_at_a_time(
    trained: Trained, backend: str, alone: str, changes: dict[str, Any]
) -> None:
    one = trained(alone, backend, **changes)
    several = trained(f"{alone}_several", backend, steps_per_call=3, **changes)  # five: three and two
    assert_same(several, one)


def test_two_devices_micro_batches_and_calls_of_several_updates_together_train_alike(trained: Trained) -> None:
    """On JAX, against one device, one batch and one update at a time on TensorFlow."""
    together = trained("together", "jax", steps=2, devices=2, micro_batches=2, steps_per_call=2)
    ours = trained("tensorflow_alone")
    np.testing.assert_allclose(together[1], ours[1][:2], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("of_three", {"layers": 3, "steps": 2}),
        ("adamw", {"optimizer": "adamw"}),
        ("lamb", {"optimizer": "lamb"}),
    ],
)
def test_both_backends_train_alike(trained: Trained, name: str, changes: dict[str, Any]) -> None:
    ours = trained(f"tensorflow_{name}", **changes)
    theirs = trained(f"jax_{name}", "jax", **changes)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


@pytest.mark.slow
def test_attention_as_one_kernel_trains_alike(trained: Trained) -> None:
    """Without dropout the JAX backend takes Keras's fused attention; here with layers that normalise what they read."""
    request = {"dropout": 0.0, "pre_layer_norm": True, "steps": 2}
    ours = trained("tensorflow_pre", **request)
    theirs = trained("jax_pre", "jax", **request)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


@pytest.mark.slow
def test_one_two_and_eight_devices_have_equal_losses_over_50_steps(trained: Trained) -> None:
    alone = trained("jax_1", "jax", steps=50)
    assert alone[1][-1, 0] < alone[1][0, 0] - 0.1
    for devices in (2, 8):
        several = trained(f"jax_{devices}", "jax", steps=50, devices=devices)
        np.testing.assert_allclose(several[1][:, :2], alone[1][:, :2], atol=1e-5)
    both = trained("jax_2_micro_4", "jax", steps=50, devices=2, micro_batches=4)
    np.testing.assert_allclose(both[1][:, :2], alone[1][:, :2], atol=1e-5)


def test_bfloat16_sums_gradients_in_float32(trained: Trained) -> None:
    whole = trained("bf16", precision="mixed_bfloat16", steps=2)
    cut = trained("bf16_micro", precision="mixed_bfloat16", steps=2, micro_batches=4)
    assert all(array.dtype == np.float32 for array in cut[0].values())
    np.testing.assert_allclose(cut[1][:, :2], whole[1][:, :2], atol=0.02)


def test_more_devices_than_a_backend_shares_are_refused(batches: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on the jax backend only"):
        train(batches, PLAIN | {"devices": 2}, tmp_path / "none.npz")


def test_another_backend_than_the_process_has_is_refused() -> None:
    import keras

    assert keras.backend.backend() == "tensorflow"
    use_backend("")
    use_backend("tensorflow")
    with pytest.raises(ValueError, match="backend is jax, but this process computes with tensorflow already"):
        use_backend("jax")


if __name__ == "__main__":  # the process that computes with JAX: it trains what it is asked to, line by line
    for line in sys.stdin:
        folder, request, out = json.loads(line)
        train(Path(folder), request, Path(out))
        print("trained", flush=True)
