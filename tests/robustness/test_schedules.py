"""Whatever is given as a schedule is refused with what is wrong, or fires at the same times in every rendering."""

import datetime
import itertools

from hypothesis import given
from hypothesis import strategies as st

from bertline.pipelines.clusters.schedule import MOST_AT_ONCE, Schedule, read_moment

AFTER = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
PART = st.sampled_from(
    ["*", "0", "3", "05", "1-31", "1-5", "5/20", "*/2", "*/0", "7-3", "1,,2", "-1", "60", "MON", "L"]
)
FIELD = PART | st.lists(PART, min_size=2, max_size=3).map(",".join) | st.text("0123456789*,-/ \t\n٣", max_size=5)
CRONS = st.lists(FIELD, min_size=4, max_size=6).map(" ".join) | st.text(max_size=12)
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "Asia/Kathmandu",
        "",
        ".",
        "..",
        "/etc/passwd",
        "Europe",
        "posix/UTC",
        "zone.tab",
        "tzdata",
    ]
) | st.text(max_size=8)
BOUNDS = st.sampled_from(["", "0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00", "2027-02-01T00:00Z"]) | st.text(
    "0123456789-+:TZ ", max_size=25
)


@given(CRONS, ZONES, BOUNDS, BOUNDS, st.integers(-1, MOST_AT_ONCE + 1))
def test_a_schedule_is_refused_or_the_same_everywhere(cron: str, zone: str, start: str, end: str, at_once: int) -> None:
    try:
        schedule = Schedule("weekly", cron, zone, start, end, at_once)
    except ValueError:
        return
    times = list(itertools.islice(schedule.list_times(AFTER), 5))
    assert all(schedule.fires_at(moment) for moment in times)
    plain = Schedule("weekly", schedule.for_vertex().partition(" ")[2], zone, start, end, at_once)
    assert list(itertools.islice(plain.list_times(AFTER), 5)) == times
    assert len(schedule.for_kubeflow().split()) == 6
    assert len(schedule.for_cron("run").splitlines()) == 2


@given(BOUNDS | st.text(max_size=20))
def test_a_moment_is_read_or_refused(text: str) -> None:
    try:
        assert read_moment(text).tzinfo is datetime.UTC
    except ValueError:
        return
