"""Schedules on a local Kubeflow Pipelines, and lines for a crontab."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertline.pipelines.cli.main import main
from fakes.kfp_server import KfpServer, serving

RUN = ["tiny", "--dump=/mounted/a.xml", "--books=", "--task=", "--out=/mounted", "--image=bertline-python:1"]
WEEKLY = ["--schedule=weekly", "--cron=30 3 * * 1", "--time_zone=Europe/Berlin"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    with serving(tmp_path) as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        yield server


def test_a_schedule_is_made_listed_paused_resumed_and_deleted(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    window = ["--start=2027-01-01T00:00+01:00", "--end=2028-01-01T00:00+01:00", "--max_concurrent=2"]
    flags = [*WEEKLY, *window, "--only_if_newer", "--webhook=http://localhost:9/hook"]
    assert main(["schedule", *RUN, *flags, "--to=kfp"]) == 0
    shown = capsys.readouterr().out
    assert "scheduled: weekly, 0 30 1,2 * * 1\n" in shown
    assert "next runs: Mon 2027-01-04 03:30 CET, Mon 2027-01-11 03:30 CET, Mon 2027-01-18 03:30 CET\n" in shown
    (recurring,) = server.recurring.values()
    assert recurring["trigger"]["cron_schedule"] == {
        "cron": "0 30 1,2 * * 1",
        "start_time": "2026-12-31T23:00:00Z",
        "end_time": "2027-12-31T23:00:00Z",
    }
    assert (recurring["max_concurrency"], recurring["no_catchup"]) == (2, True)
    parameters = recurring["runtime_config"]["parameters"]
    assert parameters["moment"] == "[[ScheduledTime]]"
    assert (parameters["only_if_newer"], parameters["store"]) == (True, "/mounted/store")
    assert "run" not in parameters

    assert main(["schedule", *RUN, *WEEKLY, "--to=kfp"]) == 2
    assert "a schedule is called weekly already" in capsys.readouterr().err
    for flag, said in (("--pause=weekly", "weekly: disabled\n"), ("--resume=weekly", "weekly: enabled\n")):
        assert main(["schedules", "--to=kfp", flag]) == 0
        assert capsys.readouterr().out == said
    assert main(["schedules", "--to=kfp"]) == 0
    assert "0 30 1,2 * * 1" in capsys.readouterr().out
    assert main(["schedules", "--to=kfp", "--pause=weekl"]) == 2
    assert "no schedule is called weekl; did you mean weekly?" in capsys.readouterr().err
    assert main(["schedules", "--to=kfp", "--delete=weekly"]) == 0
    assert not server.recurring
    assert main(["schedules", "--to=kfp"]) == 0
    assert capsys.readouterr().out.endswith("no schedules\n")


def test_what_would_be_sent_is_shown(server: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", *RUN, *WEEKLY, "--to=kfp", "--dry_run"]) == 0
    sent = json.loads(capsys.readouterr().out.partition("next runs")[0])
    assert sent["arguments"]["schedule"]["cron"] == "30 3 * * 1"
    assert not server.requests


def test_a_crontab_gets_the_same_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["tiny", "--out=my out", "--steps_128=7", "--pretrain.weight_decay=0.1", "--task=mrpc=MRPC"]
    assert main(["schedule", *given, *WEEKLY, "--to=cron"]) == 0
    zone, line = capsys.readouterr().out.splitlines()
    assert zone == "CRON_TZ=Europe/Berlin"
    assert line.startswith("30 3 * * 1 flock --nonblock /tmp/bertline-weekly.lock cd ")
    words = shlex.split(line.partition("bertline run ")[2])
    assert sorted(words) == sorted(given)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--schedule=weekly", "--cron=0 0 3 * * 1", "--to=kfp"], "has 6 fields"),
        (["--schedule=weekly", "--cron=30 2 * * *", "--time_zone=Europe/Berlin", "--to=kfp"], "is skipped on"),
        ([*WEEKLY, "--to=cron", "--webhook=http://localhost"], "cron knows no --only_if_newer, --webhook"),
        ([*WEEKLY, "--to=kfp", "--host="], "--host is missing"),
    ],
)
def test_what_cannot_be_is_named(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", *RUN, *argv]) == 2
    assert said in capsys.readouterr().err
