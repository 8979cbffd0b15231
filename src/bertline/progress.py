"""What the user sees of long work: on a terminal one line that fits it, with messages above; plain lines elsewhere.

Whoever writes to the terminal first erases from the start of the cursor's line to the end of the screen, and leaves the
cursor at the start of the line of progress. So a run, its steps and their messages need not know of each other, and
nothing remains of a line that a narrower terminal has broken into two, or of a process that was killed.
"""

import errno
import functools
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

from bertline.processes import repeating

# A step that runs in a child process whose output is collected (kfp.local does) can still write on the user's
# terminal: the parent names the terminal's device in this variable.
TERMINAL_VARIABLE = "BERTLINE_TERMINAL"
# Put before every line meant for the user where there is no terminal, so that the parent can tell it from the
# libraries' chatter.
MARK_VARIABLE = "BERTLINE_LINE_MARK"
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_DRAWINGS = 0.1
SECONDS_BETWEEN_LOOKS = 0.5
LEAST_SECONDS = 0.5  # that a rate is measured over
ERASE = "\r\x1b[J"
USUAL_COLUMNS = 80  # of a terminal that does not say how wide it is
BAR_COLUMNS = 10
MORE_THAN_A_BAR = 4  # parts that a line has before it has a bar: units, a fact, the rate, the ETA
MEGABYTE = 10**6
UNREAD = (errno.EPIPE, errno.EIO)  # what writing raises when nobody reads: `| head`, a terminal that is gone

_tasks: list[str] = []  # of the run that this process carries out a step of
_drawn: list["Progress"] = []  # on the terminal, the innermost last


def say(text: str) -> None:
    """A line for the user, on the standard error stream, or where that is collected on the run's terminal.

    A terminal that it is too long for gets it in several lines, broken between words.
    """
    terminal = _find_terminal()
    _put_line(text, "" if terminal is None else _wrap(text, _count_columns(terminal)))


def erase_progress() -> None:
    """Erase the line of progress that a killed process has left on the terminal."""
    terminal = _find_terminal()
    if terminal is not None:
        _write(terminal, ERASE)


@contextmanager
def working_on(task: str) -> Iterator[None]:
    """Let progress name this task of a run in place of the step: four tasks are called prepare."""
    _tasks.append(task)
    try:
        yield
    finally:
        _tasks.pop()


class Progress:
    """Counts work done; use as a context manager and call `advance` as units are finished.

    The unit "bytes" is shown in megabytes.
    """

    def __init__(self, label: str, total: int | None, unit: str, done: int = 0, *, measures_rate: bool = True) -> None:
        """`done` units were finished by an earlier, interrupted run and do not count for the rate.

        Without `measures_rate` the caller does it, and gives the rate as a fact ("steps/s") once it is known.
        """
        first, colon, rest = label.partition(":")
        self.label = f"{_tasks[-1] if _tasks else first}{colon}{rest}"
        self.total, self.unit, self.done = total, unit, done
        self._measures_rate = measures_rate
        self._facts: dict[str, float | str] = {}
        self._doing = ""
        self._started = self._shown = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first units were done, and how many: after the start
        self._terminal = _find_terminal()

    def advance(self, amount: int = 1, **facts: float | str) -> None:
        """Note that `amount` more units are done; `facts` (loss=..., kept=...) are shown, the most important first.

        A text is shown as it is, a number with four digits; "tokens/s" is shown as a rate.
        """
        self.done += amount
        self._facts = facts | {name: fact for name, fact in self._facts.items() if name not in facts}
        if amount:
            self._doing = ""
        now = time.monotonic()
        if self._first is None and amount:
            self._first = now, self.done
        if now - self._shown >= (SECONDS_BETWEEN_LINES if self._terminal is None else SECONDS_BETWEEN_DRAWINGS):
            self._show()

    def doing(self, what: str) -> None:
        """Say what is being done, up to the next `advance`, that takes long and is no unit of work: compiling."""
        self._doing = what
        if self._terminal is not None:
            self._show()

    @contextmanager
    def follow(self, count: Callable[[], int]) -> Iterator[None]:
        """While the block runs, advance to what `count` says every now and then: of work that other processes do."""

        def look() -> None:
            self.advance(count() - self.done)

        try:
            with repeating(look, SECONDS_BETWEEN_LOOKS):
                yield
        finally:
            look()

    def __enter__(self) -> "Progress":
        """Start; on a terminal the line appears."""
        if self._terminal is not None:
            _drawn.append(self)
            self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a line that says how far the work has come."""
        if self in _drawn:
            _drawn.remove(self)
        parts = self._list_parts(ended=True)
        _put_line(self._join(parts), "" if self._terminal is None else self._fit(parts, bar=""))

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self._terminal is None:
            say(self._join(self._list_parts()))
        else:
            _write(self._terminal, ERASE + self._draw())

    def _draw(self) -> str:
        """The line as it is now, and the cursor back at its start."""
        return self._fit(self._list_parts(), self._draw_bar()) + "\r"

    def _list_parts(self, ended: bool = False) -> list[str]:
        """What is to be said, the most important first: units, what is being done, a fact, the rate, the rest."""
        scale, unit = (MEGABYTE, "MB") if self.unit == "bytes" else (1, self.unit)
        counts = [self.done] if self.total is None else [self.done, self.total]
        rate, facts = self._find_rate(), {name: fact for name, fact in self._facts.items() if name != f"{self.unit}/s"}
        shown = [
            f"{_format(fact)} {name}" if name.endswith("/s") else f"{name} {_format(fact)}"
            for name, fact in facts.items()
        ]
        times = [] if rate is None else [f"{_format(rate / scale)} {unit}/s"]
        if ended:
            times.append(_clock(time.monotonic() - self._started))
        elif rate and self.total is not None and self.done < self.total:
            times.append(f"ETA {_clock((self.total - self.done) / rate)}")
        count = "/".join(_format(each / scale if scale > 1 else each) for each in counts)
        return [f"{count} {unit}", *filter(None, [self._doing]), *shown[:1], *times, *shown[1:]]

    def _find_rate(self) -> float | None:
        """Units a second; None where that is not known yet."""
        if not self._measures_rate:
            given = self._facts.get(f"{self.unit}/s")
            return None if given is None else float(given)
        if self._first is None:
            return None
        since, before = self._first  # what came before the first units was a start: processes, compilation
        seconds = time.monotonic() - since
        return (self.done - before) / seconds if seconds >= LEAST_SECONDS and self.done > before else None

    def _join(self, parts: list[str], bar: str = "") -> str:
        return f"{self.label}: {bar}{', '.join(parts)}"

    def _fit(self, parts: list[str], bar: str) -> str:
        """What fits the terminal as it is now: none of the line, units, label, the next parts, the bar, the rest."""
        assert self._terminal is not None
        columns = _count_columns(self._terminal)
        lines = ["", parts[0]]
        for count in range(1, len(parts) + 1):
            if count <= MORE_THAN_A_BAR:
                lines.append(self._join(parts[:count]))
            lines.append(self._join(parts[:count], bar))
        return [line for line in lines if len(line) < columns][-1]

    def _draw_bar(self) -> str:
        if not self.total:
            return ""
        share = min(self.done / self.total, 1.0)
        return f"[{'#' * int(share * BAR_COLUMNS):.<{BAR_COLUMNS}}] {share:.0%} "


def _put_line(text: str, fitted: str) -> None:
    """A line of its own: `fitted` on a terminal, above the line of progress; `text` where there is none."""
    terminal = _find_terminal()
    if terminal is None:
        write_line(f"{os.environ.get(MARK_VARIABLE, '')}{text}", sys.stderr)
        return
    _write(terminal, f"{ERASE}{fitted}\n{_drawn[-1]._draw() if _drawn else ''}")
    if terminal is not sys.stderr:
        write_line(text, sys.stderr)  # for the run's log


def write_line(text: str, stream: TextIO) -> None:
    """A line for whoever reads the stream; where nobody does any more, no work ends for that."""
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if error.errno not in UNREAD:
            raise
        leave_unread(stream)


def leave_unread(stream: TextIO) -> None:
    """Let what is still written to the stream go nowhere, so that it raises no further error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _wrap(text: str, columns: int) -> str:
    """Lines of the terminal's width; a path that is longer stays whole."""
    wrapper = textwrap.TextWrapper(columns - 1, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(line) for line in text.split("\n"))


def _find_terminal() -> TextIO | None:
    """The terminal on which the user sees this process's lines, if it can erase one."""
    if os.environ.get("TERM", "") in ("", "dumb"):
        return None
    if sys.stderr.isatty():
        return sys.stderr
    device = os.environ.get(TERMINAL_VARIABLE)
    return _open_device(device) if device else None


@functools.cache
def _open_device(device: str) -> TextIO | None:
    try:
        return Path(device).open("w", encoding="utf-8", errors="replace")
    except OSError:
        return None


def _count_columns(terminal: TextIO) -> int:
    with suppress(OSError):
        return os.get_terminal_size(terminal.fileno()).columns or USUAL_COLUMNS
    return USUAL_COLUMNS


def _write(terminal: TextIO, text: str) -> None:
    """One write, so that the lines of several processes do not mix; a terminal that is gone ends no work."""
    with suppress(OSError):
        terminal.write(text)
        terminal.flush()


def _format(fact: float | str) -> str:
    """1.807e+04 is 18,070."""
    if isinstance(fact, str):
        return fact
    return f"{fact:,.0f}" if isinstance(fact, int) or abs(fact) >= 1000 else f"{fact:.4g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
