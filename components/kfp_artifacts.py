"""Artifacts handed from one KFP component to the next as pointers, and the record of what a run did.

A KFP launcher copies every input artifact to the pod's disk, so the KFP artifact is a small JSON file
that points into the store; the data stay where they are.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bertline.components.declaration import make
from bertline.components.run_process import end_run, fail_run, join_run
from bertline.components.step_table import STEPS
from bertline.components.store.artifacts import Artifact, Store
from bertline.components.store.manifests import RUN, read_manifest
from bertline.components.store.remote import open_store
from bertline.components.store.step_log import keeping_log, noted_name
from bertline.files import parse_document, write_whole
from bertline.preemption import PreemptedError, ended_by_signals
from bertline.processes import leave
from bertline.progress import say, working_on
from bertline.settings import from_mapping

KFP_VARIABLE = "_KFP_RUNTIME"  # set where KFP runs a component in a process of its own
BAD_INPUT = 2  # exit code of a step that refuses its input
# What is noted of a task: what it made, or why it made nothing.
TEXTS = ("error?", "path?", "kind?", "fingerprint?")
NOTE = {"task": str, **dict.fromkeys(TEXTS, str), "seconds?": float, "reused?": bool}
STEPS_VARIABLE = "BERTLINE_RUN_STEPS"  # how many steps this machine's run has, set for them


def perform_step(
    name: str,
    store: str,
    run: str,
    task: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    output: Any,
    metrics: Any = None,
) -> None:
    """The body of a step's KFP component: make its artifact, and hand it over as `output`.

    `inputs` are KFP artifacts and texts; `task` is the task's name, by default the step's with the texts that the
    artifact's kind names: "finetune_mrpc". Scores go to `metrics`, too.
    """
    step = STEPS[name]
    texts = [inputs[each] for each in step.select_texts_of_kind(step.inputs)]

    def make_artifact(place: Store) -> Artifact:
        given = {
            each: value if isinstance(value, str) else follow(value, place) for each, value in inputs.items() if value
        }
        return make(step, place, from_mapping(step.config_class(), config), given)

    made = perform(task or "_".join([name, *texts]), store, run, output, make_artifact)
    if metrics is not None:
        for count, value in made.manifest["counts"].items():
            metrics.log_metric(count, value)
        _write(Path(metrics.path), made.manifest["counts"])  # without a file, kfp.local would never find it cached


def perform(task: str, store: str, run: str, output: Any, make_artifact: Callable[[Store], Artifact]) -> Artifact:
    """Make a task's artifact in the store and hand it over as the KFP artifact `output`.

    What came of it is noted in `store/runs/<run>/<task>.json`. An input that the step refuses
    (ValueError, OSError) ends this process with exit code 2 and the message in that note, SIGTERM with 75 and
    Ctrl-C with 130.
    """
    place = open_store(store)
    is_alone = KFP_VARIABLE in os.environ and STEPS_VARIABLE not in os.environ  # no run on this machine keeps its log
    try:
        with keeping_log(place, run, task) if is_alone else nullcontext(), ended_by_signals(task):
            return _perform(task, place, run, output, make_artifact)
    except PreemptedError as error:
        say(f"{task}: {error}")
        end_run(place.root / "runs" / run)
        if KFP_VARIABLE in os.environ:
            leave(error.exit_code)
        sys.exit(error.exit_code)


def carry_out_alone(store: str, run: str, task: str, work: Callable[[Store], Any]) -> None:
    """The body of a KFP component that makes no artifact: bad input ends it with exit code 2, a signal as a step."""
    place = open_store(store)
    is_alone = KFP_VARIABLE in os.environ and STEPS_VARIABLE not in os.environ
    try:
        with keeping_log(place, run, task) if is_alone else nullcontext(), ended_by_signals(task):
            join_run(place.root / "runs" / run)
            try:
                work(place)
            except (ValueError, OSError) as error:
                say(f"{task}: error: {error}")
                sys.exit(BAD_INPUT)
    except PreemptedError as error:
        say(f"{task}: {error}")
        end_run(place.root / "runs" / run)
        leave(error.exit_code)


def _perform(task: str, store: Store, run: str, output: Any, make_artifact: Callable[[Store], Artifact]) -> Artifact:
    folder, note = store.root / "runs" / run, f"runs/{run}/{task}.json"
    join_run(folder)
    if STEPS_VARIABLE in os.environ:
        say(f"step {len(list(folder.glob('*.json'))) + 1} of {os.environ[STEPS_VARIABLE]}: {task}")
    try:
        with working_on(task):
            made = make_artifact(store)
    except Exception as error:
        fail_run(folder, task)
        if not isinstance(error, ValueError | OSError):
            raise
        store.write_note(note, _as_json({"task": task, "error": str(error)}))
        say(f"{task}: error: {error}")
        sys.exit(BAD_INPUT)
    pointer = {key: made.manifest[key] for key in ("kind", "digest", "fingerprint")}
    uri = store.uri_of(made.path)
    _write(Path(output.path), {"path": uri, **pointer})
    output.metadata.update(list_facts(made) | {"path": uri})
    run_note = read_run_facts(made)
    if made.is_noted:
        store.write_note(note, _as_json({"task": task, "path": uri, **pointer, **run_note}))
    say(f"{task}: {'made before, kept' if made.reused else 'done in {seconds:.1f} s'.format(**run_note)}: {uri}")
    return made


def follow(artifact: Any, store: Store) -> Path:
    """The folder that an input KFP artifact points to, in or beside the store; ValueError when it has changed since."""
    pointer = json.loads(Path(artifact.path).read_text(encoding="utf-8"))
    path = store.folder_of(pointer["path"])
    if read_manifest(path)["digest"] != pointer["digest"]:
        raise ValueError(f"{path}: changed since its step was run; remove it and run the pipeline again")
    return path


def list_facts(made: Artifact) -> dict[str, Any]:
    """What the KFP and Vertex pages show of an artifact: scalars of its manifest."""
    parameters = {f"parameter.{key}": value for key, value in made.manifest["parameters"].items()}
    counts = {f"count.{key}": value for key, value in made.manifest["counts"].items()}
    run = _read_run(made)
    versions = {f"version.{key}": value for key, value in run.get("versions", {}).items()}
    dataflow = {f"dataflow.{key}": value for key, value in run.get("dataflow", {}).items()}
    checkout = {f"checkout.{key}": value for key, value in run.get("checkout", {}).items()}
    label = made.manifest.get("label", made.manifest["kind"])
    facts = {"label": label, "path": str(made.path), "digest": made.manifest["digest"]}
    return {**facts, **parameters, **counts, **versions, **dataflow, **checkout}


def read_run_facts(made: Artifact) -> dict[str, Any]:
    """Seconds that the step took when it was made, and whether this run found it made."""
    return {"seconds": _read_run(made)["seconds"], "reused": made.reused}


def _read_run(made: Artifact) -> dict[str, Any]:
    return dict(json.loads((made.path / RUN).read_text(encoding="utf-8")))


def read_run_notes(objects: Any, run: str) -> list[dict[str, Any]]:
    """The notes of a run's tasks so far, in the order in which they ended, of a store's `objects`."""
    prefix = f"runs/{noted_name(objects, run)}/"
    found = [each for each in objects.list(prefix) if re.fullmatch(r"[^/]+\.json", each.name.removeprefix(prefix))]
    return [
        parse_document(objects.read(each.name), f"{objects}/{each.name}", NOTE)
        for each in sorted(found, key=lambda each: each.updated)
    ]


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _as_json(value))


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
