"""The command line's verbs of runs on a cluster: submit, status, logs, cancel, list."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.store.folder import SCHEME
from bertline.pipelines.cli.run_verb import add_run_flags, read_run
from bertline.pipelines.cli.verbs import Flags, Parser, Verb
from bertline.pipelines.clusters.cluster_flags import (
    add_cluster_flags,
    add_resource_flags,
    choose_platform,
    compiled_in,
    open_cluster,
)
from bertline.progress import say

if TYPE_CHECKING:
    from bertline.pipelines.clusters.submission import Cluster, RunState

SECONDS_BETWEEN_LOOKS = 10.0
WATCH_HELP = "Say what happens until the run has ended; exit code 0 where it has ended well, 1 where not."


def _submit_flags(parser: Parser) -> None:
    add_cluster_flags(parser)
    add_resource_flags(parser)
    group = add_run_flags(parser)
    group.add_argument("--out", required=True, metavar="DIR", help="Where all artifacts go: gs://BUCKET/FOLDER, or a "
                       "folder that is mounted in all tasks.")  # fmt: skip
    group.add_argument("--dry_run", action="store_true", help="Show what would be sent, and send nothing.")
    group.add_argument("--watch", action="store_true", help=WATCH_HELP)


def _submit(flags: Flags) -> int:
    from bertline.pipelines.clusters.submission import prepare_submission

    run, cluster = read_run(flags), open_cluster(flags)
    with compiled_in(flags) as folder:
        platform, send = choose_platform(flags, run), not flags.dry_run
        submission = prepare_submission(flags.name, run, flags.out, platform, folder, send=send)
        if flags.dry_run:
            print(json.dumps(submission.describe(), indent=1, ensure_ascii=False))
            return 0
        state = cluster.submit(submission)
    print(f"submitted: {state.run}\npage: {state.page}\nartifacts: {submission.arguments['store']}")
    if flags.watch:
        return _watch(cluster, state)
    print(f"next: bertline status {state.run} --to {flags.to} --watch")
    return 0


def _run_flags(parser: Parser) -> Any:
    add_cluster_flags(parser)
    group = parser.add_argument_group("the run")
    group.add_argument("run", metavar="RUN", help="Its name, as `bertline submit` and `bertline list` print it.")
    return group


def _status_flags(parser: Parser) -> None:
    _run_flags(parser).add_argument("--watch", action="store_true", help=WATCH_HELP)


def _status(flags: Flags) -> int:
    from bertline.pipelines.cli.tables import print_facts, print_rows

    cluster = open_cluster(flags)
    state = cluster.find(flags.run)
    if flags.watch:
        return _watch(cluster, state)
    print_facts(state.run, {name: value for name, value in asdict(state).items() if value and name != "run"})
    if rows := [_describe_step(note) for note in _read_notes(state)]:
        print_rows("steps that have ended", rows)
    return 0


def _read_notes(state: "RunState") -> list[dict[str, Any]]:
    """What came of a run's steps, in the order in which they ended."""
    from bertline.components.kfp_artifacts import read_run_notes
    from bertline.components.store.remote import open_store

    return read_run_notes(open_store(state.store).objects, state.name_in_store) if state.store else []


def _describe_step(note: dict[str, Any]) -> dict[str, str]:
    if "error" in note:
        return {"step": note["task"], "came of it": f"refused: {note['error']}", "artifact": ""}
    made = "made before" if note.get("reused") else f"made in {note.get('seconds', 0):,.1f} s"
    artifact = "/".join(note[name] for name in ("kind", "fingerprint") if name in note)
    return {"step": note["task"], "came of it": made, "artifact": artifact}


def _watch(cluster: "Cluster", state: "RunState") -> int:
    """Say what changes until the run has ended; 0 where it has ended well."""
    from bertline.pipelines.clusters.submission import SUCCEEDED

    said: set[str] = set()
    while True:
        for note in _read_notes(state):
            if note["task"] not in said:
                said.add(note["task"])
                say(": ".join(filter(None, _describe_step(note).values())))
        if state.state not in said:
            said.add(state.state)
            say(f"{state.run}: {state.state.lower()}")
        if state.has_ended:
            if state.state != SUCCEEDED:
                say(f"{state.run}: {state.error or 'no reason is given'}; `bertline logs` shows what its steps said")
            return 0 if state.state == SUCCEEDED else 1
        time.sleep(SECONDS_BETWEEN_LOOKS)
        state = cluster.find(state.run)


def _logs_flags(parser: Parser) -> None:
    group = _run_flags(parser)
    group.add_argument("--task", default="", metavar="STEP", dest="of_task", help="Of this step alone: pretrain_128.")
    group.add_argument("--watch", action="store_true", help="Go on until the run has ended.")


def _logs(flags: Flags) -> int:
    from bertline.components.store.remote import open_store
    from bertline.components.store.step_log import read_logs

    cluster = open_cluster(flags)
    shown: dict[str, int] = {}
    while True:
        state = cluster.find(flags.run)
        if not state.store:
            raise ValueError(f"{state.run}: it was not submitted by `bertline submit`, and keeps no logs in a store")
        if not state.store.startswith(SCHEME) and not Path(state.store).is_dir():
            raise FileNotFoundError(f"{state.store}: the run's store is not mounted here, and its logs are in it")
        for name, text in read_logs(open_store(state.store).objects, state.name_in_store, flags.of_task):
            if name not in shown:
                print(f"==> {name} <==")
            print(text[shown.get(name, 0) :], end="", flush=True)
            shown[name] = len(text)
        if state.has_ended or not flags.watch:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if not shown:
        say(f"{state.run}: no {flags.of_task or 'step'} has said anything yet; the run is {state.state.lower()}")
    return 0


def _cancel(flags: Flags) -> int:
    state = open_cluster(flags).cancel(flags.run)
    print(f"{state.run}: {state.state.lower()}")
    return 0


def _list_flags(parser: Parser) -> None:
    add_cluster_flags(parser)
    group = parser.add_argument_group("what is listed")
    group.add_argument("--last", type=int, default=20, metavar="N", help="So many, the newest (default: 20).")


def _list(flags: Flags) -> int:
    from itertools import islice

    from bertline.pipelines.cli.tables import print_rows

    if flags.last < 1:
        raise ValueError(f"last is {flags.last}; it must be at least 1")
    states = islice(open_cluster(flags).list(), flags.last)
    rows = [
        {"run": each.run, "state": each.state.lower(), "since": each.created, "until": each.finished} for each in states
    ]
    if rows:
        print_rows(f"runs of {flags.experiment}", rows)
    else:
        print(f"no runs in {flags.experiment}")
    return 0


SUBMIT = Verb(
    "Submit the whole pipeline to a cluster, with the settings of `bertline run`",
    "bertline submit base --to kfp --host http://localhost:8080 --out gs://my-bucket/bert "
    "--dump gs://my-bucket/enwiki.xml.bz2\n"
    "What would be sent:\n"
    "bertline submit tiny --to kfp --host http://localhost:8080 --out gs://my-bucket/bert --dry_run",
    _submit_flags,
    _submit,
)
STATUS = Verb(
    "Show what has come of a run on a cluster, or watch it",
    "bertline status base-20261201-120000-1a2b3c --to kfp --watch",
    _status_flags,
    _status,
)
LOGS = Verb(
    "Show what the steps of a run on a cluster said",
    "bertline logs base-20261201-120000-1a2b3c --to kfp --task pretrain_128",
    _logs_flags,
    _logs,
)
CANCEL = Verb(
    "End a run on a cluster; its training saves first, and the same run goes on from there",
    "bertline cancel base-20261201-120000-1a2b3c --to kfp",
    lambda parser: _run_flags(parser) and None,
    _cancel,
)
LIST = Verb("List the runs on a cluster", "bertline list --to kfp", _list_flags, _list)
