"""A loss that is not finite ends training, and what led to it is kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from bertline.model.pretraining.run import run
from bertline.model.records.reader import batch_indices, open_records
from bertline.model.records.rows import FEATURES
from bertline.model.training.snapshots import snapshot_steps


@pytest.mark.parametrize("steps_per_call", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_it_names_step_rate_and_norm_and_keeps_the_step_s_batch(
    steps_per_call: int, toy_folder: Path, stage_config, tmp_path: Path
) -> None:
    settings = {"learning_rate": 1e30, "num_warmup_steps": 0, "save_checkpoints_steps": 1}
    config = stage_config(**settings, steps_per_call=steps_per_call, keep_checkpoints=9)
    records, work = toy_folder / "records_16", tmp_path / "work"
    with pytest.raises(
        ValueError, match=r"step \d+: loss is .*, gradient norm .*, learning rate \d.*; lower learning_rate"
    ) as stopped:
        run(records, toy_folder / "vocab.txt", tmp_path, config, work=work)

    (folder,) = work.glob("failed-step-*")
    step = int(folder.name.removeprefix("failed-step-"))
    assert str(stopped.value).startswith(f"step {step}: ")
    assert str(folder) in str(stopped.value)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == {"step", "loss", "mlm_loss", "nsp_loss", "learning_rate", "grad_norm", "records"}
    assert metrics["step"] == step
    assert metrics["learning_rate"] == pytest.approx(1e30 * (1 - step / 96))
    assert "nan" in (metrics["loss"], metrics["grad_norm"]) or "inf" in (metrics["loss"], metrics["grad_norm"])

    numbers = batch_indices(24, 8, config.seed, step - 1)
    assert metrics["records"] == numbers.tolist()
    saved, batch = np.load(folder / "batch.npz"), open_records(records).batch(numbers)
    assert set(saved) == set(FEATURES)
    for name in FEATURES:
        np.testing.assert_array_equal(saved[name], batch[name], err_msg=name)

    assert snapshot_steps(work) == [end for end in range(1, step) if end % steps_per_call == 0]
