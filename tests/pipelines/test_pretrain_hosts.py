"""Two hosts, here two processes, train one model: as one process does, from start or after one was taken away."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertline.model.training.checkpoint import LOG_FILE, read_checkpoint, rows_of
from bertline.model.training.snapshots import snapshot_steps
from bertline.pipelines.cli.main import main

SECONDS = 600  # that anything waited for may take, on a busy machine
# Eight rows a batch: two devices of each host have two.
SETTINGS = ["--backend=jax", "--devices=4", "--train_batch_size=8", "--num_train_steps=30", "--log_every_steps=1"]

# A host is dead once JAX has not heard of it for 100 s; here it waits less.
IMPATIENT = """
import functools, sys
import jax
from bertline.pipelines.cli.main import main

jax.distributed.initialize = functools.partial(jax.distributed.initialize, heartbeat_timeout_seconds=20)
sys.exit(main(sys.argv[1:]))
"""

Hosts = Callable[..., "list[subprocess.Popen[str]]"]


@pytest.fixture
def hosts(pretrain_arguments, started) -> Hosts:
    """Starts two hosts, with flags of both, and of each; by `bertline` or another `program`."""

    def start(
        out: Path, *flags: str, each: tuple[list[str], list[str]] = ([], []), program: str = ""
    ) -> "list[subprocess.Popen[str]]":
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        together = ["--hosts=2", f"--coordinator=127.0.0.1:{port}"]
        return [
            started(
                pretrain_arguments(out, *SETTINGS, *together, f"--host={number}", *flags, *own),
                program,
                XLA_FLAGS="--xla_force_host_platform_device_count=2",
            )
            for number, own in enumerate(each)
        ]

    return start


def ended(processes: "list[subprocess.Popen[str]]") -> list[tuple[int, str]]:
    """Exit codes and messages."""
    messages = [process.communicate(timeout=SECONDS)[1] for process in processes]
    return [(process.returncode, message) for process, message in zip(processes, messages, strict=True)]


def rows(out: Path) -> list[dict[str, float]]:
    return rows_of((out / LOG_FILE).read_text())


@pytest.mark.slow
def test_two_hosts_train_as_one_with_as_many_devices(
    hosts: Hosts, pretrain_inputs: Path, pretrain_arguments, started, tmp_path: Path
) -> None:
    scored = [f"--heldout={pretrain_inputs / 'heldout'}", "--eval_every_steps=5", "--learning_rate=0.01"]
    flags = "--xla_force_host_platform_device_count=4"
    alone = started(pretrain_arguments(tmp_path / "alone", *SETTINGS, *scored), XLA_FLAGS=flags)
    assert alone.wait(SECONDS) == 0
    for _ in range(2):  # once more, it is found made
        for code, message in ended(hosts(tmp_path / "both", *scored)):
            assert code == 0, message
    for one, other in zip(rows(tmp_path / "alone"), rows(tmp_path / "both"), strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    left, right = (read_checkpoint(tmp_path / name).weights for name in ("alone", "both"))
    for name in left:
        np.testing.assert_allclose(left[name], right[name], atol=1e-5, err_msg=name)
    best = [json.loads((tmp_path / name / "best.json").read_text())["best"]["step"] for name in ("alone", "both")]
    assert best[0] == best[1]
    events, speed = sorted((tmp_path / "both.tensorboard").iterdir())  # of the host that writes
    assert (events.name.partition(".")[0], speed.name) == ("events", "training_speed.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "alone",
        "alone.tensorboard",
        "both",
        "both.tensorboard",
    ]


@pytest.mark.slow
def test_when_one_host_is_taken_away_all_save_the_same_step_and_go_on(hosts: Hosts, tmp_path: Path) -> None:
    """First the host that writes, and by which all find each other, then by Ctrl-C the other one."""
    steps = ["--num_train_steps=80", "--log_every_steps=20", "--save_checkpoints_steps=2"]  # some seconds
    for code, message in ended(hosts(tmp_path / "uninterrupted", *steps)):
        assert code == 0, message
    work = tmp_path / "out.work"
    for taken_away, number, codes in ((0, signal.SIGTERM, [75, 75]), (1, signal.SIGINT, [75, 130])):
        reached = max(snapshot_steps(work), default=0)
        processes, deadline = hosts(tmp_path / "out", *steps), time.monotonic() + SECONDS
        while max(snapshot_steps(work), default=0) <= reached:
            assert all(process.poll() is None for process in processes)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        processes[taken_away].send_signal(number)
        ends = ended(processes)
        assert [code for code, _ in ends] == codes, ends
        steps_said = {re.search(r"ended at step (\d+) by ", message).group(1) for _, message in ends}  # type: ignore[union-attr]
        assert steps_said == {str(snapshot_steps(work)[-1])}
    for code, message in ended(hosts(tmp_path / "out", *steps)):
        assert code == 0, message
    for name in ("model.safetensors", "optimizer.safetensors", LOG_FILE):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "uninterrupted" / name).read_bytes()


@pytest.mark.slow
def test_when_one_host_dies_the_other_ends_and_the_same_command_goes_on(hosts: Hosts, tmp_path: Path) -> None:
    processes, deadline = hosts(tmp_path / "out", program=IMPATIENT), time.monotonic() + SECONDS
    while not snapshot_steps(tmp_path / "out.work"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    processes[1].kill()
    assert processes[0].wait(SECONDS) not in (0, 2)
    assert not (tmp_path / "out").exists()
    for code, message in ended(hosts(tmp_path / "out")):
        assert code == 0, message


@pytest.mark.slow
def test_an_error_of_one_host_is_said(hosts: Hosts, tmp_path: Path) -> None:
    """Only the first host writes, so that it alone fails."""
    (tmp_path / "file").write_text("no folder")
    (code, message), (other_code, _) = ended(hosts(tmp_path / "file" / "out"))
    assert code != 0
    assert other_code != 0
    assert f"host 0: {tmp_path / 'file'}: a file is in the way; give another output folder" in message


@pytest.mark.slow
def test_hosts_without_one_store_are_refused(hosts: Hosts, tmp_path: Path) -> None:
    folders = [f"--out={tmp_path / name}" for name in ("one", "other")]
    for code, message in ended(hosts(tmp_path / "out", each=([folders[0]], [folders[1]]))):
        assert code == 2, message
        assert re.search(
            "mark of the first host is [0-9a-f]+ on host 0, not in .*/other.work on host 1; all hosts", message
        )


@pytest.mark.slow
def test_hosts_with_other_settings_than_each_other_are_refused(hosts: Hosts, tmp_path: Path) -> None:
    for code, message in ended(hosts(tmp_path / "out", each=([], ["--seed=1", "--save_checkpoints_steps=7"]))):
        assert code == 2, message
        assert (
            "seed is 12345 on host 0, 1 on host 1; save_checkpoints_steps is 1 on host 0, 7 on host 1; all" in message
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_hosts_with_other_inputs_than_each_other_are_refused(
    hosts: Hosts, pretrain_inputs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "vocab.txt"
    other.write_text((pretrain_inputs / "vocab.txt").read_text().replace("\n", " \n"))
    for code, message in ended(hosts(tmp_path / "out", each=([], [f"--vocab={other}"]))):
        assert code == 2, message
        assert re.search(r"input vocabulary is \['sha256:\w+'\] on host 0, \['sha256:\w+'\] on host 1; all", message)
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hosts=2"], "devices is 1, not a multiple of hosts, 2"),
        (["--hosts=2", "--devices=2", "--host=2"], "host is 2; it must be at least 0 and below hosts, 2, or -1"),
        (["--hosts=2", "--devices=2", "--backend=tensorflow"], "hosts share a batch on the jax backend only"),
        (["--hosts=0"], "hosts is 0; it must be at least 1"),
    ],
)
def test_impossible_hosts_are_refused(
    flags: list[str], message: str, pretrain_arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(pretrain_arguments(tmp_path / "out", *flags)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "hosts do not find each other"),
        (["--coordinator=here", "--host=0"], 'coordinator is "here"; give ADDRESS:PORT of host 0'),
    ],
)
def test_hosts_that_cannot_be_found_are_refused(
    flags: list[str], message: str, pretrain_arguments, started, tmp_path: Path
) -> None:
    settings = ["--hosts=2", "--devices=2", "--backend=jax"]
    [(code, said)] = ended([started(pretrain_arguments(tmp_path / "out", *settings, *flags))])
    assert code == 2, said
    assert message in said
    assert not list(tmp_path.iterdir())
