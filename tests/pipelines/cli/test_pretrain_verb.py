"""`bertline pretrain` as its user meets it: bad input ends with 2 and leaves nothing, SIGTERM with 75."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from bertline.components.store.manifests import read_manifest
from bertline.pipelines.cli.main import main

SECONDS = 600  # that anything waited for may take, on a busy machine


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_seq_length=12"], "max_seq_length is 16, this stage needs 12"),
        (["--train_batch_size=11"], "10 examples are fewer than one batch of 11"),
        (
            ["--vocab=INPUTS/fewer_vocab.txt", "--model=INPUTS/fewer_bert_config.json"],
            "but the vocabulary has 12 entries",
        ),
        (["--model=INPUTS/fewer_bert_config.json"], "vocab_size is 12, but the vocabulary has 20"),
        (["--gradient_accumulation_steps=3"], "not a multiple of gradient_accumulation_steps"),
        (["--devices=2"], "several devices share a batch on the jax backend only"),
        (["--steps_per_call=0"], "steps_per_call is 0; it must be at least 1"),
        (["--keep_checkpoints=0"], "keep_checkpoints is 0; it must be at least 1"),
        (
            ["--checkpoint=INPUTS/records"],
            'holds "records_16" where "checkpoint" is wanted; checkpoint takes the stage before',
        ),
        (["--checkpoint=INPUTS/none"], "none: no such artifact"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(
    flags: list[str],
    message: str,
    pretrain_inputs: Path,
    pretrain_arguments,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [flag.replace("INPUTS", str(pretrain_inputs)) for flag in flags]
    assert main(pretrain_arguments(tmp_path / "out", *flags)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()


@pytest.mark.parametrize(
    ("records", "heldout"),
    [
        (("train", 0.15), ("heldout", 0.3)),
        (("heldout", 0.2), ("train", 0.15)),
        (("all", 0.0), ("heldout", 0.15)),
        (("train", 0.15), ("train", 0.3)),
    ],
)
def test_held_out_records_with_documents_that_are_trained_on_are_refused(
    records: tuple[str, float],
    heldout: tuple[str, float],
    pretrain_inputs: Path,
    pretrain_arguments,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = {"name": "sentences", "kind": "sentences", "digest": "sha256:0", "file": "sentences"}
    for name, (part, share) in (("records", records), ("heldout", heldout)):
        manifest = shutil.copytree(pretrain_inputs / name, tmp_path / name) / "MANIFEST.json"
        noted = {"inputs": [text], "parameters": {"part": part, "heldout_share": share}}
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | noted))
    places = [f"--records={tmp_path / 'records'}", f"--heldout={tmp_path / 'heldout'}"]
    assert main(pretrain_arguments(tmp_path / "out", *places)) == 2
    said = capsys.readouterr().err
    assert f'/heldout: part "{heldout[0]}" with heldout_share {heldout[1]}, ' in said
    assert f'/records: part "{records[0]}" with heldout_share {records[1]} of the same text' in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_more_devices_than_there_are_end_with_2(pretrain_arguments, started, tmp_path: Path) -> None:
    flags = "--xla_force_host_platform_device_count=2"
    process = started(pretrain_arguments(tmp_path / "out", "--backend=jax", "--devices=4"), XLA_FLAGS=flags)
    message = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 2, message
    assert "devices is 4, but JAX finds 2 here" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_backend_that_the_environment_chooses_is_in_the_manifest(
    pretrain_arguments, started, tmp_path: Path
) -> None:
    process = started(pretrain_arguments(tmp_path / "out", "--num_train_steps=2"), KERAS_BACKEND="jax")
    message = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 0, message
    assert read_manifest(tmp_path / "out")["parameters"]["backend"] == "jax"


def test_snapshots_that_were_asked_for_are_models_beside_the_finished_stage(pretrain_arguments, tmp_path: Path) -> None:
    settings = ["--num_train_steps=6", "--keep_checkpoints=1", "--keep_checkpoints_every_steps=2"]
    assert main(pretrain_arguments(tmp_path / "out", *settings)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.snapshots", "out.tensorboard"]
    snapshots = sorted((tmp_path / "out.snapshots").iterdir())
    assert [path.name for path in snapshots] == ["snapshot-000000002", "snapshot-000000004"]
    assert main(["inspect", str(snapshots[0])]) == 0


@pytest.mark.slow
def test_sigterm_ends_with_75_before_the_first_step_too(
    pretrain_arguments, started, signal_once, tmp_path: Path
) -> None:
    process = started(pretrain_arguments(tmp_path / "out"))
    # Its files are being made; TensorFlow is not loaded yet.
    message = signal_once(process, signal.SIGTERM, lambda: list(tmp_path.glob(".out.*.tmp")))
    assert process.returncode == 75, message
    assert "bertline pretrain: ended by SIGTERM; the same command begins at the start" in message
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.slow
def test_sigterm_ends_with_75_and_a_snapshot_from_which_only_the_same_input_goes_on(
    pretrain_inputs: Path, pretrain_arguments, started, signal_once, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = started(pretrain_arguments(tmp_path / "out"))
    message = signal_once(process, signal.SIGTERM, lambda: list(tmp_path.glob("out.work/snapshot-*")))
    assert process.returncode == 75, message
    assert "by SIGTERM, all of it saved; the same command goes on from there" in message
    assert not (tmp_path / "out").exists()
    other = shutil.copytree(pretrain_inputs / "heldout", tmp_path / "other")  # as many examples, of the same length
    before = files_of(tmp_path / "out.work")
    assert main(pretrain_arguments(tmp_path / "out", f"--records={other}")) == 2
    assert "out.work holds an interrupted run whose input records is ['sha256:" in capsys.readouterr().err
    assert files_of(tmp_path / "out.work") == before


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
