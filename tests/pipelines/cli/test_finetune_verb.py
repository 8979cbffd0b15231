"""`bertline finetune` as its user meets it: SIGTERM ends with 75, and only the same command goes on."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from bertline.model.training.snapshots import snapshot_steps
from bertline.pipelines.cli.main import main


def sentences(seed: int) -> str:
    """A file of SST-2: ten sentences, whose label is whether the first word is one of the later ones."""
    rows = np.random.default_rng(seed).integers(0, 15, (10, 6))
    lines = [" ".join(f"word{number}" for number in row) + f"\t{int(row[0] >= 8)}" for row in rows]
    return "\n".join(["sentence\tlabel", *lines]) + "\n"


@pytest.mark.slow
def test_sigterm_ends_with_75_and_a_snapshot_from_which_only_the_same_input_goes_on(
    pretrain_arguments, started, signal_once, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate(after: int) -> str:
        """What it said, when it got SIGTERM at a snapshot `after` a step, and ended with 75."""
        process, work = started(command), tmp_path / "out.work"
        message = signal_once(process, signal.SIGTERM, lambda: max(snapshot_steps(work), default=0) > after)
        assert process.returncode == 75, message
        return message

    for name, seed in (("train", 1), ("dev", 2), ("other", 3)):
        (tmp_path / f"{name}.tsv").write_text(sentences(seed))
    assert main(pretrain_arguments(tmp_path / "pretrained", "--num_train_steps=2")) == 0
    files = [f"--train={tmp_path / 'train.tsv'}", f"--dev={tmp_path / 'dev.tsv'}", f"--out={tmp_path / 'out'}"]
    settings = ["--max_seq_length=16", "--train_batch_size=4", "--save_checkpoints_steps=1", "--jit_compile=false"]
    given = [f"--checkpoint={tmp_path / 'pretrained'}", "--task=sst2", *files, *settings]
    command = ["finetune", *given, "--num_train_epochs=4000", "--eval_every_steps=100000"]
    assert "by SIGTERM, all of it saved; the same command goes on from there" in terminate(after=0)
    assert not (tmp_path / "out").exists()
    reached = snapshot_steps(tmp_path / "out.work")[-1]

    assert main([*command, f"--train={tmp_path / 'other.tsv'}"]) == 2
    assert "out.work holds an interrupted run whose input train is " in capsys.readouterr().err
    assert "by SIGTERM" in terminate(after=reached)

    shutil.rmtree(tmp_path / "out.work")
    assert main([*command, "--num_train_epochs=2"]) == 0
    assert {"best.json", "training_log.jsonl", "scores.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert list((tmp_path / "out.tensorboard").iterdir())
