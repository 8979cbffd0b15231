"""Snapshots: whole or not at all, written while training goes on, and as few as asked for."""

import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from bertline.model.config import BertConfig
from bertline.model.training.checkpoint import Checkpoint, TrainingLog
from bertline.model.training.snapshots import (
    Snapshots,
    choose_kept,
    lay_beside,
    newest_snapshot,
    restore,
    snapshot_writer,
)


def names(work: Path) -> list[str]:
    return sorted(path.name for path in work.iterdir())


def save(snapshots: Snapshots, *steps: int) -> None:
    for step in steps:
        snapshots.save(step, lambda folder, step=step: (folder / "step").write_text(str(step)) and None)


def step_in(folder: Path) -> str:
    """What `save` wrote; a reader that refuses a cut file."""
    text = (folder / "step").read_text()
    if not text:
        raise ValueError("step is empty")
    return text


def fail(folder: Path) -> None:
    (folder / "half").write_text("half")
    raise OSError("no space left on device")


def test_the_newest_are_kept_and_others_by_their_steps(tmp_path: Path) -> None:
    with Snapshots(tmp_path / "two") as snapshots:
        save(snapshots, 5, 10, 15)
    assert names(tmp_path / "two") == ["snapshot-000000010", "snapshot-000000015"]
    assert newest_snapshot(tmp_path / "two", step_in) == "15"
    with Snapshots(tmp_path / "more", 1, 20) as snapshots:
        save(snapshots, *range(6, 70, 6))
    # 24, 42 and 60 are the first at or after 20, 40 and 60.
    assert [int(name[-9:]) for name in names(tmp_path / "more")] == [24, 42, 60, 66]


def test_drafts_are_swept_from_a_folder_of_their_own_only(tmp_path: Path) -> None:
    for folder in ("work", "users"):
        (tmp_path / folder / ".snapshot-1.7.tmp").mkdir(parents=True)
    with Snapshots(tmp_path / "work"), Snapshots(tmp_path / "users", save=lambda step, write: None):
        assert names(tmp_path / "work") == []
        assert names(tmp_path / "users") == [".snapshot-1.7.tmp"]


def test_those_of_every_so_many_steps_are_laid_beside_the_work(tmp_path: Path) -> None:
    work, folder = tmp_path / "work", tmp_path / "snapshots"
    with Snapshots(work, 2, 20) as snapshots:
        save(snapshots, *range(6, 70, 6))
    for name in ("snapshot-000000024", "snapshot-000000050", ".snapshot-000000042.7.tmp"):  # of an earlier run
        (folder / name / "other").mkdir(parents=True)
    lay_beside(folder, work, 20)
    assert [int(name[-9:]) for name in names(folder)] == [24, 42, 60]
    assert not list(folder.glob("*/other"))
    assert newest_snapshot(folder, step_in) == "60"
    assert newest_snapshot(work, step_in) == "66"  # a run that is killed now goes on as if nothing had been done


def test_kept_steps() -> None:
    assert choose_kept([], 2, 10) == set()
    assert choose_kept([3], 2, 0) == {3}
    assert choose_kept([3, 6], 0, 5) == {6}
    assert choose_kept([3, 6, 9], 2, 0) == {6, 9}
    assert choose_kept([10, 20, 21, 30], 1, 10) == {10, 20, 30}
    assert choose_kept([95, 99], 1, 10) == {95, 99}  # the first of a stage that begins at 90, and the newest


def test_a_damaged_snapshot_gives_way_to_the_one_before_and_goes(tmp_path: Path, capsys) -> None:
    with Snapshots(tmp_path, 1, 10) as snapshots:
        save(snapshots, 10, 25)
    (tmp_path / "snapshot-000000025" / "step").write_text("")
    assert newest_snapshot(tmp_path, step_in) == "10"
    assert "snapshot-000000025: damaged, going back to the one before (step is empty)" in capsys.readouterr().err
    with Snapshots(tmp_path) as snapshots:
        save(snapshots, 12)
    assert names(tmp_path) == ["snapshot-000000010", "snapshot-000000012"]


def test_a_damaged_snapshot_is_replaced_by_a_whole_one_of_its_step(tmp_path: Path) -> None:
    with Snapshots(tmp_path) as snapshots:
        save(snapshots, 5, 10)
        snapshots.wait()
        (tmp_path / "snapshot-000000010" / "step").write_text("")
        save(snapshots, 10)
    assert newest_snapshot(tmp_path, step_in) == "10"


def test_leftovers_of_a_killed_writer_are_never_read_and_go_at_the_next_start(tmp_path: Path) -> None:
    for leftover in (".snapshot-000000005.7.tmp", ".snapshot-000000003.deleted.tmp"):  # half written, half deleted
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "step").write_text("5")
    assert newest_snapshot(tmp_path, step_in) is None
    with Snapshots(tmp_path):
        assert names(tmp_path) == []


def test_work_goes_on_while_a_snapshot_is_written_and_the_next_waits_for_it(tmp_path: Path) -> None:
    go, order = threading.Event(), []

    def slow(folder: Path) -> None:
        assert go.wait(timeout=600)
        order.append("first")

    with Snapshots(tmp_path) as snapshots:
        snapshots.save(1, slow)
        snapshots.check()  # nothing has failed, and nothing is waited for
        assert names(tmp_path) in ([], [f".snapshot-000000001.{os.getpid()}.tmp"])
        threading.Timer(0.1, go.set).start()
        snapshots.save(2, lambda folder: order.append("second"))
        assert "snapshot-000000001" in names(tmp_path)  # whatever there is of the second
    assert order == ["first", "second"]
    assert names(tmp_path) == ["snapshot-000000001", "snapshot-000000002"]


def test_a_failure_comes_out_at_the_next_check_snapshot_or_end_and_leaves_the_one_before(tmp_path: Path) -> None:
    message = "no space left on device; the snapshot of step 5 is lost, the one before stays"
    with Snapshots(tmp_path) as snapshots:
        save(snapshots, 4)
        snapshots.save(5, fail)
        with pytest.raises(OSError, match=message):
            save(snapshots, 6)
        snapshots.save(5, fail)
        with pytest.raises(OSError, match=message):
            while True:
                snapshots.check()
    with pytest.raises(OSError, match=message), Snapshots(tmp_path) as snapshots:
        snapshots.save(5, fail)
    assert names(tmp_path) == ["snapshot-000000004"]


def test_a_failure_is_said_where_another_error_is_on_its_way(tmp_path: Path, capsys) -> None:
    with pytest.raises(KeyboardInterrupt), Snapshots(tmp_path) as snapshots:
        snapshots.save(5, fail)
        raise KeyboardInterrupt
    assert "the snapshot of step 5 is lost" in capsys.readouterr().err
    assert names(tmp_path) == []


@dataclasses.dataclass(frozen=True)
class Settings:
    seed: int = 1
    log_every_steps: int = 5


START = Checkpoint(
    BertConfig(8, 4, 1, 1, 8, max_position_embeddings=4), {"weight": np.ones(2, np.float32)}, b"[PAD]\n", True, {}
)


def identity(**changes: object) -> dict[str, object]:
    code = {"fingerprint": "1", "modules": {"bertline.model.bert": "1"}}
    return {**dataclasses.asdict(Settings()), "code": code, **changes}


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A work folder as a store names it, with the snapshot of step 3."""
    work = tmp_path / "checkpoint_128" / f"{'0' * 16}.work"
    reached = dataclasses.replace(START, slots={"weight/adam_m": np.zeros(2, np.float32)}, state={"step": 3})
    with Snapshots(work) as snapshots:
        snapshots.save(3, snapshot_writer(reached, TrainingLog(5, []), identity()))
    return work


OTHER_RUNS = [
    (START, identity(seed=2), "whose seed is 1 there and 2 here"),
    (
        START,
        identity(code={"fingerprint": "2", "modules": {"bertline.model.bert": "2"}}),
        "of other code: bertline.model.bert changed since",
    ),
    (
        dataclasses.replace(START, bert_config=dataclasses.replace(START.bert_config, hidden_dropout_prob=0.5)),
        identity(),
        "of another model, whose hidden_dropout_prob is 0.1 there and 0.5 here",
    ),
]


@pytest.mark.parametrize(("start", "here", "message"), OTHER_RUNS)
def test_a_snapshot_of_another_run_is_refused_and_what_is_other_is_named(
    interrupted: Path, start: Checkpoint, here: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"{interrupted} holds an interrupted run {message}; repeat that run"):
        restore(interrupted, start, [], here, Settings())
    assert restore(interrupted, START, [], identity(), Settings())[0].state["step"] == 3


@pytest.mark.parametrize(("start", "here", "message"), OTHER_RUNS)
def test_in_a_store_a_run_that_starts_afresh_says_why_it_does_not_go_on(
    interrupted: Path, start: Checkpoint, here: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(interrupted.with_name(f"{'1' * 16}.work"), start, [], here, Settings())[0] is start
    said = capsys.readouterr().err
    assert f"{interrupted} holds an interrupted run {message}; this one starts afresh, beside it" in said
    assert restore(interrupted.with_name("mine.work"), start, [], here, Settings())[0] is start
    assert not capsys.readouterr().err
