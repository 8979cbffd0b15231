"""A schedule fires at the same moments however it is written; what services would read differently is refused."""

import datetime
import itertools
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertline.pipelines.clusters.schedule import Schedule

UTC = datetime.UTC
AFTER = datetime.datetime(2027, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "Australia/Lord_Howe"]
CRONS = ["30 3 * * 1", "0 12 1 * *", "15 23 * * *", "45 4 */10 * *", "0 6,18 * 1-6 *", "15 0 1,15 3 *", "0 5 31 * *"]


def values_of(text: str, least: int, most: int) -> set[int]:
    """The values of a field of numbers, ranges, lists and steps."""
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (least, most) if span == "*" else (int(first), int(last or first))
        values |= set(range(begin, end + 1, int(step or 1)))
    return values


def moments_of(cron: str, zone: str, after: datetime.datetime) -> Iterator[datetime.datetime]:
    """When five fields match the clock of a zone, looked for minute by minute."""
    limits = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    minutes, hours, days, months, weekdays = (
        values_of(text, *limit) for text, limit in zip(cron.split(), limits, strict=True)
    )
    moment, step = after + datetime.timedelta(minutes=1), datetime.timedelta(minutes=1)
    while True:
        local = moment.astimezone(ZoneInfo(zone))
        if local.minute in minutes and local.hour in hours:
            if local.day in days and local.month in months and local.isoweekday() % 7 in weekdays:
                yield moment
            moment += step
        else:  # to the next quarter, at which all crons of these tests fire
            moment += datetime.timedelta(minutes=15 - moment.minute % 15)


def first(moments: Iterator[datetime.datetime], count: int = 50) -> list[datetime.datetime]:
    return list(itertools.islice(moments, count))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", CRONS)
def test_the_next_fifty_times_are_the_same_in_every_rendering(cron: str, zone: str) -> None:
    schedule = Schedule("weekly", cron, zone)
    count = 50 if cron.split()[2:] in (["*", "*", "*"], ["*", "*", "1"]) else 5  # those of five years would take long
    wanted = first(moments_of(cron, zone, AFTER), count)
    assert first(schedule.list_times(AFTER), count) == wanted

    seconds, _, in_utc = schedule.for_kubeflow().partition(" ")
    assert seconds == "0"
    fired = moments_of(in_utc, "UTC", AFTER)
    if schedule.is_gated:
        fired = (moment for moment in fired if schedule.fires_at(moment))
    assert first(fired, count) == wanted

    named, _, fields = schedule.for_vertex().partition(" ")
    assert first(moments_of(fields, named.removeprefix("TZ="), AFTER), count) == wanted

    named, line = schedule.for_cron("bertline run tiny").splitlines()
    assert first(moments_of(" ".join(line.split()[:5]), named.removeprefix("CRON_TZ="), AFTER), count) == wanted


FIELD = st.one_of(st.just("*"), st.sets(st.integers(1, 6), min_size=1).map(lambda each: ",".join(map(str, each))))


@given(st.integers(4, 23), st.sampled_from([0, 15, 30]), FIELD, FIELD, st.booleans(), st.sampled_from(ZONES))
def test_kubeflow_fires_whenever_the_schedule_means_it(
    hour: int, minute: int, days: str, months: str, by_week: bool, zone: str
) -> None:
    dates = f"* {months} {days}" if by_week else f"{days} {months} *"
    schedule = Schedule("any", f"{minute} {hour} {dates}", zone)
    _, _, in_utc = schedule.for_kubeflow().partition(" ")
    minutes, hours, days_utc, months_utc, weekdays = (
        values_of(text, *limit)
        for text, limit in zip(in_utc.split(), [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)], strict=True)
    )
    for moment in first(schedule.list_times(AFTER), 20):
        assert moment.minute in minutes and moment.hour in hours and moment.month in months_utc
        assert moment.day in days_utc and moment.isoweekday() % 7 in weekdays
        assert schedule.fires_at(moment) and not schedule.fires_at(moment + datetime.timedelta(minutes=1))


@pytest.mark.parametrize(
    ("cron", "plain"),
    [
        ("0 3 1-31 * 1", "0 3 * * 1"),  # else days of the month are named, and services fire every day
        ("15/15 3 * * *", "15,30,45 3 * * *"),  # for some crons a 15
        (" 0\t3 * * *\n", "0 3 * * *"),
    ],
)
def test_what_is_read_differently_is_written_as_all_read_it(cron: str, plain: str) -> None:
    schedule = Schedule("weekly", cron)
    assert schedule.for_vertex() == f"TZ=UTC {plain}"
    assert schedule.for_cron("run").splitlines()[1].startswith(f"{plain} flock")
    assert first(schedule.list_times(AFTER)) == first(moments_of(plain, "UTC", AFTER))


def test_it_fires_within_its_window() -> None:
    schedule = Schedule("weekly", "0 3 * * *", start="2027-02-01T03:00+00:00", end="2027-02-03T00:00+00:00")
    assert [str(moment)[:16] for moment in schedule.list_times(AFTER)] == ["2027-02-01 03:00", "2027-02-02 03:00"]


def test_a_crontab_does_nothing_twice_at_a_time_and_keeps_per_cent_signs() -> None:
    assert Schedule("weekly", "0 3 * * 1", "Europe/Berlin").for_cron("cd /b && date +%F") == (
        "CRON_TZ=Europe/Berlin\n0 3 * * 1 flock --nonblock /tmp/bertline-weekly.lock cd /b && date +\\%F\n"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cron": "0 0 3 * * 1"}, "has 6 fields; give five fields"),
        ({"cron": "@weekly"}, "has 1 fields"),
        ({"cron": "0 3 * * 7"}, 'the day of the week of a cron expression is "7"; it lies between 0 and 6'),
        ({"cron": "0 3 * * MON"}, 'the day of the week of a cron expression is "MON"; numbers'),
        ({"cron": "0 25 * * *"}, "it lies between 0 and 23"),
        ({"cron": "*/0 3 * * *"}, "the minute of a cron expression"),
        ({"cron": "0 3 1 * 1"}, "names days of the month and of the week"),
        ({"cron": "0 3 30 2 *"}, "never comes"),
        ({"cron": "30 2 * * *", "time_zone": "Europe/Berlin"}, r"2:30 is skipped on \d{4}-03-\d\d in Europe/Berlin"),
        ({"cron": "30 1 * * *", "time_zone": "America/New_York"}, r"1:30 comes twice on \d{4}-11-\d\d"),
        ({"time_zone": "Berlin"}, 'time_zone "Berlin" is not known'),
        ({"time_zone": "../etc"}, "is not known"),
        ({"time_zone": "Europe/Berlin/Mitte"}, "is not known"),
        ({"time_zone": "E" * 300}, "is not known"),
        ({"cron": "٣ 3 * * 1"}, "the minute of a cron expression"),
        ({"end": "9999-12-31T23:59-12:00"}, "its year must lie between 1970 and 2999"),
        ({"name": "My runs"}, "small letters, digits and hyphens"),
        ({"max_concurrent": 11}, "between 1 and 10"),
        ({"start": "tomorrow"}, 'start is "tomorrow"; give a moment'),
        ({"start": "2027-01-01"}, "of no time zone"),
        ({"start": "2027-01-02T00:00+00:00", "end": "2027-01-01T00:00+00:00"}, "which is not after start"),
    ],
)
def test_what_cannot_be_or_is_read_in_two_ways_is_refused(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Schedule(**({"name": "weekly", "cron": "0 3 * * 1"} | given))
