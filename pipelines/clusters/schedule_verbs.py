"""The command line's verbs of schedules: schedule, schedules."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from bertline.pipelines.cli.run_verb import ON_CLUSTERS, add_run_flags, read_run
from bertline.pipelines.cli.verbs import Flags, Parser, Verb
from bertline.pipelines.clusters.cluster_flags import (
    add_cluster_flags,
    add_resource_flags,
    choose_platform,
    compiled_in,
    open_cluster,
)

if TYPE_CHECKING:
    from bertline.pipelines.clusters.schedule import Schedule

CRON = "cron"
SHOWN_TIMES = 3


def _schedule_flags(parser: Parser) -> None:
    from bertline.pipelines.clusters.schedule import MOST_AT_ONCE

    add_cluster_flags(parser, {CRON: "lines for this machine's crontab, which are printed"})
    add_resource_flags(parser)
    run = add_run_flags(parser)
    run.add_argument("--out", required=True, metavar="DIR", help="Where all artifacts go: gs://BUCKET/FOLDER, or a "
                     "folder that is mounted in all tasks; for cron, any folder.")  # fmt: skip
    run.add_argument("--dry_run", action="store_true", help="Show what would be sent, and send nothing.")
    group = parser.add_argument_group("the schedule")
    group.add_argument("--schedule", required=True, metavar="SCHEDULE", dest="schedule_name",
                       help="Its name: small letters, digits, hyphens.")  # fmt: skip
    group.add_argument("--cron", required=True, help="Minute, hour, day of the month, month, day of the week (0 is "
                       'Sunday): "30 3 * * 1" is Mondays at 3:30.')  # fmt: skip
    group.add_argument("--time_zone", default="UTC", metavar="ZONE", help="Such as Europe/Berlin (default: UTC).")
    group.add_argument("--start", default="", metavar="MOMENT", help="No run before it (2027-01-01T00:00+00:00).")
    group.add_argument("--end", default="", metavar="MOMENT", help="No run after it.")
    group.add_argument("--max_concurrent", type=int, default=1, metavar="N", help="So many runs at a time, 1 to "
                       f"{MOST_AT_ONCE} (default: 1).")  # fmt: skip
    group.add_argument("--catch_up", action="store_true", help="Make up for times that are missed while it is paused.")
    group.add_argument("--only_if_newer", action="store_true", help="Begin a run only where a file of its text is "
                       "another one than in the last run that ended well.")  # fmt: skip
    group.add_argument("--webhook", default="", metavar="URL", help="Where each run's end is told, as JSON by POST.")


def _schedule(flags: Flags) -> int:
    import datetime
    from itertools import islice

    from bertline.pipelines.clusters.due import require_webhook
    from bertline.pipelines.clusters.schedule import Schedule
    from bertline.pipelines.clusters.submission import prepare_schedule

    schedule = Schedule(
        flags.schedule_name,
        flags.cron,
        flags.time_zone,
        flags.start,
        flags.end,
        flags.max_concurrent,
        flags.catch_up,
    )
    require_webhook(flags.webhook)
    run = read_run(flags)
    if flags.to == CRON:
        print(_format_crontab(schedule, flags), end="")
        return 0
    cluster = open_cluster(flags)
    more = {"moment": cluster.moment, "only_if_newer": flags.only_if_newer, "webhook": flags.webhook}
    with compiled_in(flags) as folder:
        submission = prepare_schedule(
            schedule, run, flags.out, choose_platform(flags, run), folder, send=not flags.dry_run, **more
        )
        if flags.dry_run:
            print(json.dumps(submission.describe(), indent=1, ensure_ascii=False))
        else:
            state = cluster.schedule(schedule, submission)
            print(f"scheduled: {state.name}, {state.cron}")
    times = islice(schedule.list_times(datetime.datetime.now(datetime.UTC)), SHOWN_TIMES)
    shown = ", ".join(f"{each.astimezone(schedule.zone):%a %Y-%m-%d %H:%M %Z}" for each in times)
    print(f"next runs: {shown or 'none'}")
    return 0


def _format_crontab(schedule: "Schedule", flags: Flags) -> str:
    """Lines for a crontab: the run's own command, with the flags that were given."""
    from bertline.pipelines.run_local import find_program
    from bertline.pipelines.run_settings import Run

    if flags.only_if_newer or flags.webhook or schedule.start or schedule.end or schedule.max_concurrent > 1:
        raise ValueError(
            "cron knows no --only_if_newer, --webhook, --start, --end and --max_concurrent; the same run again makes "
            "only what is not made yet"
        )
    known = get_type_hints(Run).keys() | {"config", "out"}
    given = {name: value for name, value in vars(flags).items() if value is not None and ON_CLUSTERS not in name}
    settings = [f"--{name}={value}" for name, value in given.items() if name in known or "." in name]
    tasks = [f"--task={task}" for task in flags.task or ()]
    words = [str(Path(find_program()).resolve()), "run", flags.name, *settings, *tasks]
    return schedule.for_cron(f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(words)}")


def _schedules_flags(parser: Parser) -> None:
    add_cluster_flags(parser)
    group = parser.add_argument_group("what is done")
    one = group.add_mutually_exclusive_group()
    for what, text in (
        ("pause", "Begin no runs of this one until it is resumed."),
        ("resume", "Begin them again."),
        ("delete", "Delete this one; its runs stay."),
    ):
        one.add_argument(f"--{what}", metavar="SCHEDULE", help=text)


def _schedules(flags: Flags) -> int:
    from bertline.pipelines.cli.tables import print_rows

    cluster: Any = open_cluster(flags)
    if flags.pause or flags.resume:
        state = cluster.pause(flags.pause) if flags.pause else cluster.resume(flags.resume)
        print(f"{state.name}: {state.state}")
        return 0
    if flags.delete:
        cluster.unschedule(flags.delete)
        print(f"{flags.delete}: deleted")
        return 0
    rows = [
        {"schedule": each.name, "cron": each.cron, "state": each.state, "since": each.created}
        for each in cluster.list_schedules()
    ]
    if rows:
        print_rows("schedules", rows)
    else:
        print("no schedules")
    return 0


SCHEDULE = Verb(
    "Repeat a run on a cluster, or by cron, at given times",
    'bertline schedule base --schedule weekly --cron "30 3 * * 1" --time_zone Europe/Berlin --only_if_newer --to kfp '
    "--out gs://my-bucket/bert --dump gs://my-bucket/enwiki-latest.xml.bz2 --promotion no_worse\n"
    'bertline schedule tiny --schedule nightly --cron "0 3 * * *" --to cron --out out',
    _schedule_flags,
    _schedule,
)
SCHEDULES = Verb(
    "List schedules on a cluster, pause, resume or delete one",
    "bertline schedules --to kfp\nbertline schedules --to kfp --pause weekly",
    _schedules_flags,
    _schedules,
)
