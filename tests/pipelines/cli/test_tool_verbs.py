"""Verbs beside the steps, from the command line."""

from pathlib import Path

import pytest
import yaml

from bertline.pipelines.cli.main import main

TRAINING = "--records=/bertline/records_128 --vocab=/bertline/vocab.txt --model=large --out=/bertline/checkpoint_128"


def test_a_training_on_several_machines_is_written_as_a_train_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTLINE_IMAGE", "registry/bertline-python:1")
    given = ["--resources.accelerator=tpu-v5e", "--resources.spot", "true", "--resources.retries=5", "--job=large"]
    flags = ["--platform=trainjob", "--hosts=4", *given, f"--out={tmp_path}", f"--pretrain={TRAINING} --seed 3"]
    assert main(["compile", *flags]) == 0
    assert f"next: kubectl apply -f {tmp_path}/large.yaml" in capsys.readouterr().out
    runtime, job = yaml.safe_load_all((tmp_path / "large.yaml").read_text())
    trainer = job["spec"]["trainer"]
    assert (trainer["image"], trainer["numNodes"]) == ("registry/bertline-python:1", 4)
    assert trainer["args"][: 1 + len(TRAINING.split())] == ["pretrain", *TRAINING.split()]
    assert trainer["args"][-2:] == ["--hosts=4", "--devices=16"]
    assert runtime["spec"]["template"]["spec"]["failurePolicy"]["maxRestarts"] == 5


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["compile", f"--out={tmp_path / 'file'}"]) == 2
    assert f"{tmp_path / 'file'}: a file is in the way" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], 'give --pretrain="--records=... --vocab=... --model=... --out=..."'),
        ([f"--pretrain={TRAINING} --train_batch=3"], "--train_batch=3; did you mean --train_batch_size?"),
        (["--pretrain=--vocab=v"], "required: --records, --out"),
        ([f"--pretrain={TRAINING}", "--hosts=1"], "hosts is 1; a TrainJob is for at least 2"),
        ([f"--pretrain={TRAINING}", "--resources.cpu=many"], "--resources.cpu: cpu must be a whole number"),
    ],
)
def test_a_train_job_that_cannot_be_is_refused(
    flags: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["compile", "--platform=trainjob", f"--out={tmp_path}", *flags])
    except SystemExit as ended:  # argparse's end
        code = int(str(ended.code))
    assert code == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
