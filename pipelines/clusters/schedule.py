"""When a run is repeated: one schedule, as Kubeflow, Vertex AI and cron write it, with the same times of firing.

They differ in what they read into a cron expression: Kubeflow has seconds first and knows UTC alone, days of the week
end at 6 there, and hours that a change to or from daylight saving time skips or repeats are taken in three ways. What
would be read differently is refused; for a zone with daylight saving time Kubeflow fires at the hours of all its
offsets, and a gate at the head of the graph lets pass what the schedule means (`fires_at`).
"""

import datetime
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

FIELDS = {"minute": (0, 59), "hour": (0, 23), "day of the month": (1, 31), "month": (1, 12), "day of the week": (0, 6)}
PART = re.compile(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([0-9]{1,2}))?")
KFP_MOMENT = "%Y%m%d%H%M%S"  # how Kubeflow writes [[ScheduledTime]]
MOST_AT_ONCE = 10  # runs: the limit of Kubeflow, and of Vertex AI by default
FIRST_YEAR, LAST_YEAR = 1970, 2999  # of a moment
YEARS_AHEAD = 5  # that changes of a zone's offset are looked for
EXAMPLE = 'give five fields, such as "30 2 * * 1": Mondays at 2:30'


@dataclass(frozen=True)
class Schedule:
    """Times at which a run begins anew; ValueError for what cannot be, or would be read in several ways."""

    name: str
    cron: str  # minute, hour, day of the month, month, day of the week (0: Sunday); numbers, ranges, lists, steps
    time_zone: str = "UTC"
    start: str = ""  # the first moment, ISO 8601 with an offset; none: from now on
    end: str = ""  # the last one
    max_concurrent: int = 1  # runs at the same time; while so many are running, none begins
    catch_up: bool = False  # whether times that were missed while the schedule was paused are made up for

    def __post_init__(self) -> None:
        """Refuse it."""
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", self.name):
            raise ValueError(f'name is "{self.name}"; small letters, digits and hyphens are wanted, a letter first')
        if not 1 <= self.max_concurrent <= MOST_AT_ONCE:
            raise ValueError(f"max_concurrent is {self.max_concurrent}; it must lie between 1 and {MOST_AT_ONCE}")
        minutes, hours, days, _, weekdays = self._parse()
        if not (days.is_all or weekdays.is_all):
            raise ValueError(
                f'cron "{self.cron}" names days of the month and of the week; services differ on both, give one'
            )
        first, last = self.window
        if first and last and first >= last:
            raise ValueError(f"end is {self.end}, which is not after start, {self.start}")
        try:
            next(CronSim(self.plain_cron, datetime.datetime.now(datetime.UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f'cron "{self.cron}" never comes; {EXAMPLE}') from error
        self._require_certain_hours(minutes, hours)

    @property
    def plain_cron(self) -> str:
        """The expression as all read it: each field * or a list.

        A step behind a number is none for some, and 1-31 is not all days where days of the week are named, too.
        """
        return " ".join(
            _write(field.values, limits) for field, limits in zip(self._parse(), FIELDS.values(), strict=True)
        )

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f'time_zone "{self.time_zone}" is not known; give one such as Europe/Berlin') from error

    @property
    def window(self) -> tuple[datetime.datetime | None, datetime.datetime | None]:
        """Start and end."""
        return (
            _read_iso("start", self.start) if self.start else None,
            _read_iso("end", self.end) if self.end else None,
        )

    def list_times(self, after: datetime.datetime) -> Iterator[datetime.datetime]:
        """The moments of firing after another one, in UTC."""
        first, last = self.window
        if first and first > after:
            after = first - datetime.timedelta(seconds=1)
        for local in CronSim(self.plain_cron, after.astimezone(self.zone)):
            moment = local.astimezone(datetime.UTC)
            if last and moment > last:
                return
            yield moment

    def fires_at(self, moment: datetime.datetime) -> bool:
        """Whether the schedule means this moment, to the minute."""
        moment = moment.astimezone(datetime.UTC).replace(second=0, microsecond=0)
        return next(self.list_times(moment - datetime.timedelta(seconds=1)), None) == moment

    @property
    def is_gated(self) -> bool:
        """Whether Kubeflow would fire at further times than these."""
        _, _, days, months, _ = self._parse()
        moments = self._list_moments()
        shifts, at = {shift for shift, _ in moments}, {at for _, at in moments}
        is_product = len({each % 60 for each in at}) * len({each // 60 for each in at}) == len(at)
        moves = shifts != {0} and not (days.is_all and months.is_all)
        return len(self._list_offsets()) > 1 or len(shifts) > 1 or moves or not is_product

    def for_kubeflow(self) -> str:
        """Six fields, seconds first, in UTC: all times of the schedule, and where it is gated further ones."""
        _, _, days, months, weekdays = self._parse()
        moments = self._list_moments()
        shifts = {shift for shift, _ in moments}
        moves = shifts != {0} and not (days.is_all and months.is_all)
        utc = [
            _write((at % 60 for _, at in moments), FIELDS["minute"]),
            _write((at // 60 for _, at in moments), FIELDS["hour"]),
            _write((day for each in days.values for shift in shifts for day in _move_day(each, shift)), (1, 31)),
            "*" if moves else _write(months.values, FIELDS["month"]),
            _write(((each + shift) % 7 for each in weekdays.values for shift in shifts), (0, 6)),
        ]
        return " ".join(["0", *utc])

    def _list_moments(self) -> list[tuple[int, int]]:
        """The times of day in UTC for all offsets of the zone: days after the local day, minutes of that day."""
        minutes, hours, *_ = self._parse()
        return [
            divmod(hour * 60 + minute - offset, 24 * 60)
            for offset, hour, minute in itertools.product(self._list_offsets(), hours.values, minutes.values)
        ]

    def for_vertex(self) -> str:
        """Five fields behind the time zone."""
        return f"TZ={self.time_zone} {self.plain_cron}"

    def for_cron(self, command: str) -> str:
        """The lines of a crontab that do `command`, of which the last one may run no more than once at a time."""
        escaped = command.replace("%", r"\%")
        return (
            f"CRON_TZ={self.time_zone}\n{self.plain_cron} flock --nonblock /tmp/bertline-{self.name}.lock {escaped}\n"
        )

    def _parse(self) -> list["_Field"]:
        parts = self.cron.split()
        if len(parts) != len(FIELDS):
            raise ValueError(f'cron "{self.cron}" has {len(parts)} fields; {EXAMPLE}')
        return [_Field.read(name, part, *FIELDS[name]) for name, part in zip(FIELDS, parts, strict=True)]

    def _list_offsets(self) -> list[int]:
        """The zone's offsets from UTC in the years ahead, in minutes."""
        return sorted({offset for _, offset in _list_changes(self.zone)})

    def _require_certain_hours(self, minutes: "_Field", hours: "_Field") -> None:
        """Refuse a time of day that some day lacks, or has twice."""
        zone = self.zone
        for (_, before), (change, after) in itertools.pairwise(_list_changes(zone)):
            local = change.astimezone(zone)
            length = abs(after - before)
            begin = local.hour * 60 + local.minute - (length if after > before else 0)
            for hour, minute in itertools.product(hours.values, minutes.values):
                if (hour * 60 + minute - begin) % (24 * 60) < length:
                    how = "is skipped" if after > before else "comes twice"
                    raise ValueError(
                        f'cron "{self.cron}": {hour}:{minute:02} {how} on {local:%Y-%m-%d} in {self.time_zone}, and '
                        "services differ on what that means; give another hour, or UTC"
                    )


def name_run(schedule: str, fired: datetime.datetime) -> str:
    """The name of the run that a schedule begins at a moment."""
    return f"{schedule}-{fired:%Y%m%d-%H%M%S}"


def read_moment(moment: str) -> datetime.datetime:
    """As Kubeflow or Vertex AI writes it; none: now."""
    if not moment:
        return datetime.datetime.now(datetime.UTC)
    try:
        return datetime.datetime.strptime(moment, KFP_MOMENT).replace(tzinfo=datetime.UTC)
    except ValueError:
        return _read_iso("moment", moment).astimezone(datetime.UTC)


@dataclass(frozen=True)
class _Field:
    """One field of a cron expression."""

    values: tuple[int, ...]
    is_all: bool

    @classmethod
    def read(cls, name: str, text: str, least: int, most: int) -> "_Field":
        values: set[int] = set()
        for part in text.split(","):
            found = PART.fullmatch(part)
            if found is None:
                raise ValueError(f'the {name} of a cron expression is "{text}"; numbers, 1-5, 1,3, * and */2 are known')
            first = least if found[1] is None else int(found[1])
            last = int(found[2]) if found[2] else first if found[1] and not found[3] else most
            step = int(found[3] or 1)
            if not least <= first <= last <= most or not step:
                raise ValueError(f'the {name} of a cron expression is "{text}"; it lies between {least} and {most}')
            values |= set(range(first, last + 1, step))
        return cls(tuple(sorted(values)), len(values) == most - least + 1)


def _write(values: Iterable[int], limits: tuple[int, int]) -> str:
    wanted = sorted(set(values))
    return "*" if len(wanted) == limits[1] - limits[0] + 1 else ",".join(map(str, wanted))


def _move_day(day: int, shift: int) -> list[int]:
    """The days of a month, of any length, that are so many days after another one."""
    if shift < 0:
        return [28, 29, 30, 31] if day == 1 else [day - 1]
    if shift > 0:
        return [day + 1] if day < 28 else [*range(day + 1, 32), 1]
    return [day]


@functools.lru_cache
def _list_changes(zone: ZoneInfo) -> list[tuple[datetime.datetime, int]]:
    """The moments from which on the zone has another offset, each with that, in minutes; the first is now."""
    now = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    changes = [(now, _offset(now, zone))]
    for hours in range(1, YEARS_AHEAD * 366 * 24):
        moment = now + datetime.timedelta(hours=hours)
        if _offset(moment, zone) != changes[-1][1]:
            changes.append((moment, _offset(moment, zone)))
    return changes


def _offset(moment: datetime.datetime, zone: ZoneInfo) -> int:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) // 60


def _read_iso(name: str, text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f'{name} is "{text}"; give a moment such as 2027-01-01T00:00+01:00') from error
    if moment.tzinfo is None:
        raise ValueError(f'{name} is "{text}", of no time zone; give a moment such as 2027-01-01T00:00+01:00')
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f'{name} is "{text}"; its year must lie between {FIRST_YEAR} and {LAST_YEAR}')
    return moment
