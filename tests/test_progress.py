"""What the user sees of long work where there is no terminal."""

import pytest

from bertline import progress
from bertline.progress import MARK_VARIABLE, Progress, say


def test_lines_show_texts_as_they_are_and_numbers_with_four_digits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("pretrain 128", 1000, "steps", done=500) as bar:
        bar.advance(1, loss=5.43219, **{"tokens/s": "4,096"})
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("pretrain 128: 501/1,000 steps, ")
    assert "steps/s, loss 5.432, tokens/s 4,096, ETA " in first
    assert last.startswith("pretrain 128: 501/1,000 steps, ")


def test_a_rate_that_is_known_better_is_shown_in_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("pretrain 128", 1000, "steps") as bar:
        bar.advance(1, **{"steps/s": "0.0625", "sequences/s": "16.0"})
    first, _ = capsys.readouterr().err.splitlines()
    assert first.startswith("pretrain 128: 1/1,000 steps, 0.0625 steps/s, sequences/s 16.0, ETA ")


def test_a_line_for_the_user_carries_the_mark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK_VARIABLE, "> ")
    say("held-out at step 5")
    assert capsys.readouterr().err == "> held-out at step 5\n"
