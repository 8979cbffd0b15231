"""One update: a batch in micro-batches is the batch, on every backend and on any number of devices."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.training.backends.choice import use_backend

TRAIN = """
import json, sys
from pathlib import Path
import numpy as np
from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig
from bertline.model.heads import pretraining_losses, pretraining_shapes, pretraining_whole
from bertline.model.training.backends.choice import new_trainer
from bertline.model.training.update import Objective, Rule, Schedule, Update

folder, request = Path(sys.argv[1]), json.loads(sys.argv[2])
rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), request["dropout"])
shape = {"max_position_embeddings": 32, "pre_layer_norm": request["pre_layer_norm"]}
config = BertConfig(40, 32, 3, 2, 64, **shape, **rates)
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
np.savez(sys.argv[3], **trainer.weights(), **trainer.slots())
Path(sys.argv[3]).with_suffix(".json").write_text(json.dumps(losses))
"""
PLAIN = {"micro_batches": 1, "devices": 1, "steps": 5, "recompute_layers": 0, "jit_compile": False}
PLAIN |= {"optimizer": "bert_adam", "precision": "float32", "dropout": 0.1, "pre_layer_norm": False}
PLAIN |= {"steps_per_call": 1}


@pytest.fixture(scope="module")
def batches(toy_batch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 batches of 16 examples, with masked positions that differ in number from example to example."""
    folder = tmp_path_factory.mktemp("batches")
    made = [toy_batch(16, seed=seed) for seed in range(50)]
    np.savez(folder / "batches.npz", **{name: np.stack([batch[name] for batch in made]) for name in made[0]})
    (folder / "train.py").write_text(TRAIN)
    return folder


def trained(batches: Path, name: str, backend: str = "tensorflow", **request: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Weights and slots after training in a process of its own, and the loss of every step."""
    out = batches / f"{name}.npz"
    if not out.exists():
        flags = f"--xla_force_host_platform_device_count={request.get('devices', 1)}"
        environment = os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, str(batches / "train.py"), str(batches), json.dumps(PLAIN | request), str(out)]
        subprocess.run(command, check=True, env=environment, timeout=300)
    losses = json.loads(out.with_suffix(".json").read_text())
    return dict(np.load(out)), np.array([[row["mlm_loss"], row["nsp_loss"], row["grad_norm"]] for row in losses])


def assert_alike(one: tuple[dict[str, Any], np.ndarray], other: tuple[dict[str, Any], np.ndarray], by: float) -> None:
    np.testing.assert_allclose(one[1][:, :2], other[1][:, :2], atol=by)
    assert set(one[0]) == set(other[0])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_batch_in_micro_batches_equals_the_batch_dropout_included(batches: Path, jit_compile: bool) -> None:
    whole = trained(batches, f"whole_{jit_compile}", steps=1, jit_compile=jit_compile)
    cut = trained(batches, f"micro_{jit_compile}", steps=1, micro_batches=4, jit_compile=jit_compile)
    assert_alike(cut, whole, 1e-6)
    for name, array in whole[0].items():
        np.testing.assert_allclose(cut[0][name], array, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_layers_computed_again_have_the_same_gradient(batches: Path, backend: str) -> None:
    kept = trained(batches, f"{backend}_bert_adam", backend)
    again = trained(batches, f"again_{backend}", backend, recompute_layers=2)  # of three: the last group has one
    np.testing.assert_allclose(again[1], kept[1], atol=1e-5)


@pytest.mark.parametrize(
    ("backend", "alone", "changes"),
    [
        ("tensorflow", "tensorflow_bert_adam", {}),
        ("tensorflow", "xla", {"jit_compile": True}),
        ("jax", "jax_bert_adam", {}),
        ("jax", "jax_2_micro", {"devices": 2, "micro_batches": 2}),
    ],
)
def test_several_updates_in_one_call_equal_one_at_a_time(
    batches: Path, backend: str, alone: str, changes: dict[str, Any]
) -> None:
    one = trained(batches, alone, backend, **changes)
    several = trained(batches, f"{alone}_several", backend, steps_per_call=3, **changes)  # five: three and two
    np.testing.assert_allclose(several[1], one[1], atol=1e-6)
    for name, array in one[0].items():
        np.testing.assert_allclose(several[0][name], array, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("optimizer", ["bert_adam", "adamw", "lamb"])
def test_both_backends_train_alike(batches: Path, optimizer: str) -> None:
    ours = trained(batches, f"tensorflow_{optimizer}", optimizer=optimizer)
    theirs = trained(batches, f"jax_{optimizer}", "jax", optimizer=optimizer)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


def test_attention_as_one_kernel_trains_alike(batches: Path) -> None:
    """Without dropout the JAX backend takes Keras's fused attention; here with layers that normalise what they read."""
    request = {"dropout": 0.0, "pre_layer_norm": True}
    ours = trained(batches, "tensorflow_pre", **request)
    theirs = trained(batches, "jax_pre", "jax", **request)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


@pytest.mark.slow
def test_one_two_and_eight_devices_have_equal_losses_over_50_steps(batches: Path) -> None:
    alone = trained(batches, "jax_1", "jax", steps=50)
    assert alone[1][-1, 0] < alone[1][0, 0] - 0.1
    for devices in (2, 8):
        several = trained(batches, f"jax_{devices}", "jax", steps=50, devices=devices)
        np.testing.assert_allclose(several[1][:, :2], alone[1][:, :2], atol=1e-5)
    both = trained(batches, "jax_2_micro_4", "jax", steps=50, devices=2, micro_batches=4)
    np.testing.assert_allclose(both[1][:, :2], alone[1][:, :2], atol=1e-5)


def test_bfloat16_sums_gradients_in_float32(batches: Path) -> None:
    whole = trained(batches, "bf16", precision="mixed_bfloat16")
    cut = trained(batches, "bf16_micro", precision="mixed_bfloat16", micro_batches=4)
    assert all(array.dtype == np.float32 for array in cut[0].values())
    np.testing.assert_allclose(cut[1][:, :2], whole[1][:, :2], atol=0.02)


def test_more_devices_than_there_are_or_than_a_backend_shares_are_refused(batches: Path) -> None:
    for backend, message in (("jax", "devices is 2, but JAX finds 1 here"), ("tensorflow", "on the jax backend only")):
        environment = os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": ""}
        command = [sys.executable, str(batches / "train.py"), str(batches), json.dumps(PLAIN | {"devices": 2}), "none"]
        process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert process.returncode == 1
        assert message in process.stderr


def test_another_backend_than_the_process_has_is_refused() -> None:
    import keras

    assert keras.backend.backend() == "tensorflow"
    use_backend("")
    use_backend("tensorflow")
    with pytest.raises(ValueError, match="backend is jax, but this process computes with tensorflow already"):
        use_backend("jax")
