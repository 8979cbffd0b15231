"""The command line's verbs of runs on a cluster: submit, status, logs, cancel, list."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.store.folder import SCHEME
from bertline.pipelines.cli.run_verb import add_run_flags, read_run
from bertline.pipelines.cli.settings_file import is_typed, read_config_file
from bertline.pipelines.cli.verbs import Flags, Parser, Verb
from bertline.progress import say

if TYPE_CHECKING:
    from bertline.pipelines.clusters.submission import Cluster, RunState
    from bertline.pipelines.platforms import Platform
    from bertline.pipelines.run_settings import Run

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"  # Kubeflow's own client reads it, too
SECONDS_BETWEEN_LOOKS = 10.0
RESOURCES = """\
Each step gets processors, memory and an accelerator by its model's size and by --resources.corpus_gb (default: 1). \
--resources.STEP.FIELD=VALUE changes that, or --resources.FIELD=VALUE for all steps: \
--resources.pretrain.accelerator=tpu-v5e, --resources.spot=true. FIELD is cpu, memory_gb, accelerator, \
accelerator_count, topology, machine_type, node_pool, spot, retries, timeout_hours, env, secrets, volumes, labels or \
service_account. In the file of --config: [resources.pretrain] spot = true."""
WATCH_HELP = "Say what happens until the run has ended; exit code 0 where it has ended well, 1 where not."


def add_cluster_flags(parser: Parser, more: Mapping[str, str] | None = None) -> None:
    """Where runs are carried out; `more` are further places and what they are."""
    places = {"kfp": "Kubeflow Pipelines", "vertex": "Vertex AI", **(more or {})}
    text = "; ".join(f"{name}, {what}" for name, what in places.items())
    group = parser.add_argument_group("the cluster")
    group.add_argument("--to", required=True, choices=list(places), help=f"What carries out runs: {text}.")
    group.add_argument("--experiment", default="bertline", help="What its runs are listed under (default: bertline).")
    group = parser.add_argument_group("of Kubeflow Pipelines")
    _add_flag_of_variable(group, "--host", HOST_VARIABLE, "URL", "Its address")
    group.add_argument("--namespace", default="kubeflow", help="The namespace of its runs (default: kubeflow).")
    group = parser.add_argument_group("of Vertex AI")
    _add_flag_of_variable(group, "--project", "GOOGLE_CLOUD_PROJECT", "ID", "The project")
    _add_flag_of_variable(group, "--region", "GOOGLE_CLOUD_REGION", "REGION", "The region, such as us-central1")
    group.add_argument("--endpoint", default="", metavar="URL", help="A server in place of the region's.")


def _add_flag_of_variable(group: Any, flag: str, variable: str, metavar: str, text: str) -> None:
    default = os.environ.get(variable, "")
    group.add_argument(flag, default=default, metavar=metavar, help=f"{text} (default: the variable {variable}'s).")


def add_resource_flags(parser: Parser) -> None:
    """What starts runs: what their tasks are given."""
    from bertline.pipelines.placing.settings import list_resource_flags

    group = parser.add_argument_group("what tasks are given", RESOURCES)
    group.add_argument("--service_account", default="", metavar="NAME", help="By which they act (Vertex AI).")
    group.add_argument("--network", default="", metavar="NAME", help="With which they are peered (Vertex AI).")
    group.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="Of the run (Vertex AI).")
    for name in list_resource_flags():
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)


def open_cluster(flags: Flags) -> "Cluster":
    """The cluster that the flags name; ValueError where they do not."""
    if flags.to == "kfp":
        from bertline.pipelines.clusters.kubeflow import Kubeflow

        _require(flags, host=HOST_VARIABLE)
        return Kubeflow(flags.host, flags.namespace, flags.experiment)
    from bertline.pipelines.clusters.vertex import Vertex

    _require(flags, project="GOOGLE_CLOUD_PROJECT", region="GOOGLE_CLOUD_REGION")
    started = {}
    if "out" in flags:
        started = {
            "root": f"{flags.out.rstrip('/')}/vertex",
            "service_account": flags.service_account,
            "network": flags.network,
            "labels": tuple(flags.label),
        }
    return Vertex(flags.project, flags.region, experiment=flags.experiment, endpoint=flags.endpoint, **started)


def _require(flags: Flags, **variables: str) -> None:
    for name, variable in variables.items():
        if not getattr(flags, name):
            raise ValueError(f"--{name} is missing; give it, or set the variable {variable}")


@contextmanager
def compiled_in(flags: Flags) -> Iterator[Path]:
    """The folder of the compiled graph, which stays after a dry run."""
    if flags.dry_run:
        yield Path("build/pipelines")
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def choose_platform(flags: Flags, run: "Run") -> "Platform":
    """The platform, with what the flags and the file of --config give its tasks."""
    from bertline.pipelines.placing.settings import plan_resources, read_resource_flags, read_resource_table
    from bertline.pipelines.platforms import kubeflow, vertex

    settings = []
    if flags.config:
        table = read_config_file(Path(flags.config)).get("resources", {})
        settings += read_resource_table(table, flags.config, typed=is_typed(flags.config))
    given = {name: value for name, value in vars(flags).items() if name.startswith("resources.") and value is not None}
    plan = plan_resources(run, [*settings, *read_resource_flags(given)])
    store = f"{flags.out.rstrip('/')}/store"
    return kubeflow(plan, store) if flags.to == "kfp" else vertex(plan, store, flags.region)


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
    made = "made before" if note["reused"] else f"made in {note['seconds']:,.1f} s"
    return {"step": note["task"], "came of it": made, "artifact": f"{note['kind']}/{note['fingerprint']}"}


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
