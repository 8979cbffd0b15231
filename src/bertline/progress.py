"""Progress of long work: a bar with rate, facts and ETA on a terminal, plain lines elsewhere."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

# A step that runs in a child process whose output is collected (kfp.local does) can still draw on the
# user's terminal: the parent names the terminal's device in this variable.
TERMINAL_VARIABLE = "BERTLINE_TERMINAL"
# Put before every line meant for the user, so that the parent can tell it from the libraries' chatter.
MARK_VARIABLE = "BERTLINE_LINE_MARK"
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_LOOKS = 0.5


def say(text: str) -> None:
    """A line for the user, on the standard error stream; bars drawn there move down."""
    with tqdm.external_write_mode(file=sys.stderr):
        print(f"{os.environ.get(MARK_VARIABLE, '')}{text}", file=sys.stderr, flush=True)


class Progress:
    """Counts work done; use as a context manager and call `advance` as units are finished."""

    def __init__(self, label: str, total: int | None, unit: str, done: int = 0) -> None:
        """`done` units were finished by an earlier, interrupted run and do not count for the rate."""
        self.label, self.total, self.unit = label, total, unit
        self.done, self._first = done, done
        self._facts: dict[str, float | str] = {}
        self._started = self._last_line = time.monotonic()
        self._terminal = _open_terminal()
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        if self._terminal is not None:
            self._bar = tqdm(
                desc=label, total=total, unit=unit, initial=done, file=self._terminal, smoothing=0.05, leave=True
            )

    def advance(self, amount: int = 1, **facts: float | str) -> None:
        """Note that `amount` more units are done; `facts` (loss=..., kept=...) are shown beside the rate.

        A text is shown as it is, a number with four digits. In a line, a fact named as the rate (steps/s) takes
        its place.
        """
        self.done += amount
        self._facts.update(facts)
        if self._bar is not None:
            own_rate = f"{self.unit}/s"
            shown = {key: text for key, text in self._shown_facts().items() if key != own_rate}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(amount)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_line()

    @contextmanager
    def follow(self, count: Callable[[], int]) -> Iterator[None]:
        """While the block runs, advance to what `count` says every now and then: of work that other processes do."""
        ended = threading.Event()

        def look() -> None:
            self.advance(count() - self.done)

        def keep_looking() -> None:
            while not ended.wait(SECONDS_BETWEEN_LOOKS):
                look()

        looking = threading.Thread(target=keep_looking, daemon=True)
        looking.start()
        try:
            yield
        finally:
            ended.set()
            looking.join()
            look()

    def __enter__(self) -> "Progress":
        """Start; nothing is printed before the first unit."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw the last state and give the terminal back."""
        if self._bar is not None:
            self._bar.close()
        else:
            self._print_line()
        if self._terminal is not None and self._terminal is not sys.stderr:
            self._terminal.close()

    def _shown_facts(self) -> dict[str, str]:
        return {key: value if isinstance(value, str) else f"{value:.4g}" for key, value in self._facts.items()}

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        rate = (self.done - self._first) / max(self._last_line - self._started, 1e-9)
        total = "" if self.total is None else f"/{self.total:,}"
        facts = self._shown_facts()
        known_rate = facts.pop(f"{self.unit}/s", f"{rate:,.1f}")
        parts = [f"{self.done:,}{total} {self.unit}", f"{known_rate} {self.unit}/s"]
        parts += [f"{key} {value}" for key, value in facts.items()]
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"ETA {_clock((self.total - self.done) / rate)}")
        say(f"{self.label}: {', '.join(parts)}")


def _open_terminal() -> TextIO | None:
    if sys.stderr.isatty():
        return sys.stderr
    device = os.environ.get(TERMINAL_VARIABLE)
    if device:
        try:
            return Path(device).open("w", encoding="utf-8")
        except OSError:
            return None
    return None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
