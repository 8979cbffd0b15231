"""What the user sees of long work: on a terminal one line that fits it, with messages above; plain lines elsewhere."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertline import progress
from bertline.progress import MARK_VARIABLE, Progress, say, working_on

MESSAGE = "held-out at step {}: masked-LM loss 7.1234 nats (perplexity 1,234.56, 5.3% right), the best so far (1.2 s)"
# A training, but for the training; in the middle it waits for the end of its input.
TRAINING = f"""
import sys, time
from bertline import progress
from bertline.progress import Progress, say
progress.SECONDS_BETWEEN_DRAWINGS = 0.0
rates = {{"steps/s": 9.1, "sequences/s": 81.66, "tokens/s": 10445.3, "FLOP/s": "31.2G", "share of peak": "34%"}}
say("records_128: 1,024 examples")
with Progress("pretrain 128", 1200, "steps", measures_rate=False) as bar:
    bar.doing("compiling")
    for step in range(100, 1201, 100):
        bar.advance(100, loss=9.123456, **(rates if step > 100 else {{}}), learning_rate=1e-4)
        if step % 400 == 0:
            say({MESSAGE!r}.format(step))
        if step == 600:
            sys.stdin.read()
"""
# What kfp.local does with a step, between a run's own lines.
RUN = f"""
import sys
from kfp.local.subprocess_task_handler import run_local_subprocess
from bertline.pipelines.run_local import _join_steps
from bertline.progress import say
say("run tiny: artifacts in store")
with open(sys.argv[1], "a") as log, _join_steps(log, 14):
    code = run_local_subprocess([sys.executable, "-c", {TRAINING!r} + sys.argv[2]])
say(f"the step ended with {{code}}")
"""
WORDS_OF_MESSAGES = ["records_128: 1,024 examples", *(MESSAGE.format(step) for step in (400, 800, 1200))]
LAST_LINES = {
    80: "pretrain 128: 1,200/1,200 steps, loss 9.123, 9.1 steps/s, 0:00",
    120: "pretrain 128: 1,200/1,200 steps, loss 9.123, 9.1 steps/s, 0:00, 81.66 sequences/s, 10,445 tokens/s, "
    "31.2G FLOP/s",
}


def assert_only_messages(lines: list[str], messages: list[str]) -> None:
    """Each begins a line of its own, which goes on in lines that are set in; nothing else is there."""
    joined = "\n".join(lines).replace("\n  ", " ")
    assert joined.splitlines() == messages


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_one_line_that_fits_and_messages_above(terminal: Callable[..., Any], columns: int) -> None:
    shown = terminal([sys.executable, "-c", TRAINING], columns)
    assert shown.exit_code == 0
    assert_only_messages(shown.lines, [*WORDS_OF_MESSAGES, LAST_LINES[columns]])
    assert max(map(len, [*shown.lines, *shown.drawn])) < columns
    assert "pretrain 128: [..........] 0% 0/1,200 steps, compiling" in shown.drawn
    assert all(line.startswith("pretrain 128: ") for line in shown.drawn)


def test_facts_are_left_out_whole_and_the_important_ones_last(terminal: Callable[..., Any]) -> None:
    line = {columns: terminal([sys.executable, "-c", TRAINING], columns).drawn[8] for columns in (24, 40, 80, 120, 200)}
    assert line == {
        24: "600/1,200 steps",
        40: "pretrain 128: 600/1,200 steps",
        80: "pretrain 128: 600/1,200 steps, loss 9.123, 9.1 steps/s, ETA 1:05",
        120: "pretrain 128: [#####.....] 50% 600/1,200 steps, loss 9.123, 9.1 steps/s, ETA 1:05, 81.66 sequences/s, "
        "10,445 tokens/s",
        200: "pretrain 128: [#####.....] 50% 600/1,200 steps, loss 9.123, 9.1 steps/s, ETA 1:05, 81.66 sequences/s, "
        "10,445 tokens/s, 31.2G FLOP/s, share of peak 34%, learning_rate 0.0001",
    }


def test_the_line_follows_the_terminal_when_it_is_made_narrower(terminal: Callable[..., Any]) -> None:
    shown = terminal([sys.executable, "-c", TRAINING], 120, until="50%", then=80)
    assert [len(line) for line in shown.drawn if len(line) >= 80]
    after = shown.drawn[next(place for place, line in enumerate(shown.drawn) if " 700/" in line) :]
    assert max(map(len, after)) < 80
    assert shown.lines[-1] == LAST_LINES[80]


def test_a_terminal_of_unknown_size_is_taken_to_have_80_columns(terminal: Callable[..., Any]) -> None:
    assert terminal([sys.executable, "-c", TRAINING], 0) == terminal([sys.executable, "-c", TRAINING], 80)


def test_a_terminal_that_cannot_erase_a_line_gets_plain_lines(terminal: Callable[..., Any]) -> None:
    shown = terminal([sys.executable, "-c", TRAINING], 200, TERM="dumb")
    assert shown.drawn == []
    assert_only_messages(shown.lines[:-1], WORDS_OF_MESSAGES)
    assert shown.lines[-1].endswith("learning_rate 0.0001")


@pytest.mark.parametrize(
    ("columns", "ending"), [(80, "bar.__enter__(); import os; os.kill(os.getpid(), 9)"), (120, "")]
)
def test_a_step_of_a_run_shows_the_same_and_leaves_nothing_when_it_is_killed(
    terminal: Callable[..., Any], columns: int, ending: str, tmp_path: Path
) -> None:
    shown = terminal([sys.executable, "-c", RUN, str(tmp_path / "log"), ending], columns)
    last = f"the step ended with {-9 if ending else 0}"
    messages = [*WORDS_OF_MESSAGES, LAST_LINES[columns]]
    assert_only_messages(shown.lines, ["run tiny: artifacts in store", *messages, last])
    assert max(map(len, [*shown.lines, *shown.drawn])) < columns
    log = (tmp_path / "log").read_text()
    assert all(message in log for message in WORDS_OF_MESSAGES)
    assert "\x1b" not in log


def test_lines_show_texts_as_they_are_and_numbers_with_four_digits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("split", 1000, "shards", done=500) as bar:
        bar.advance(1, sentences=18070, kept=0.54321, words=18070.4, source="dump")
    first, last = capsys.readouterr().err.splitlines()
    assert first == "split: 501/1,000 shards, sentences 18,070, kept 0.5432, words 18,070, source dump"
    assert last == "split: 501/1,000 shards, sentences 18,070, 0:00, kept 0.5432, words 18,070, source dump"


def test_a_rate_and_the_time_left_are_shown_once_they_are_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("pretrain 128", 1000, "steps", measures_rate=False) as bar:
        bar.advance(1, loss=5.0)
        bar.advance(1, loss=5.0, **{"steps/s": 0.0625, "sequences/s": 16.0})
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first == "pretrain 128: 1/1,000 steps, loss 5"
    assert second == "pretrain 128: 2/1,000 steps, loss 5, 0.0625 steps/s, ETA 4:26:08, 16 sequences/s"


def test_what_is_done_before_the_first_unit_is_said_until_there_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("prepare", 10, "documents") as bar:
        bar.doing("starting")
        bar.advance(0)
        bar.advance(4)
    assert capsys.readouterr().err.splitlines()[:2] == [
        "prepare: 0/10 documents, starting",
        "prepare: 4/10 documents",
    ]


def test_a_start_does_not_count_for_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty seconds to the first example, which compile; then one a second."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with Progress("evaluate", 10, "examples") as bar:
        for seconds in (60.0, 61.0, 72.0):
            clock.now = seconds
            bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "evaluate: 1/10 examples",
        "evaluate: 3/10 examples, 0.1667 examples/s, ETA 0:42",
        "evaluate: 3/10 examples, 0.1667 examples/s, 1:12",
    ]


def test_bytes_are_shown_in_megabytes(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("ingest", 2_345_678, "bytes") as bar:
        bar.advance(1_500_000)
        bar.advance(845_678)
    assert capsys.readouterr().err == "ingest: 2.346/2.346 MB, 0:00\n"


def test_progress_names_the_task_of_a_run_that_a_step_is_carried_out_for(capsys: pytest.CaptureFixture[str]) -> None:
    with working_on("heldout_512"), Progress("prepare", 1, "shards"):
        pass
    with working_on("vocabulary"), Progress("vocabulary: words", 1, "words"):
        pass
    with Progress("prepare", 1, "shards"):
        pass
    labels = [re.match("[^0]+", line)[0] for line in capsys.readouterr().err.splitlines()]
    assert labels == ["heldout_512: ", "vocabulary: words: ", "prepare: "]


def test_a_line_for_the_user_carries_the_mark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK_VARIABLE, "> ")
    say("held-out at step 5")
    assert capsys.readouterr().err == "> held-out at step 5\n"
