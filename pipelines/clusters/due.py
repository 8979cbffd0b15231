"""What the graph of a schedule does beside the pipeline: is a run due, what has it read, who is told of its end."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bertline.components.corpus.ingest.run import list_source_files
from bertline.components.kfp_artifacts import BAD_INPUT
from bertline.components.store.folder import SCHEME
from bertline.components.store.inputs import describe
from bertline.components.store.refs import move_after_all, read_history
from bertline.components.store.remote import open_store
from bertline.components.store.step_log import NOTED_AS
from bertline.pipelines.clusters.schedule import Schedule, name_run, read_moment
from bertline.progress import say
from bertline.settings import from_mapping

TEXT = "text.json"  # of a run: what it reads
SECONDS_TO_TELL = 30


def look(
    place: str,
    schedule: Mapping[str, Any],
    moment: str,
    sources: Mapping[str, str],
    only_if_newer: bool,
    job: str = "",
) -> str:
    """The name of the run if it is due, else ""; `job` is the cluster's own, where that cannot tell it from outside.

    Bad input ends the process with exit code 2.
    """
    try:
        store, wanted = open_store(place), from_mapping(Schedule, schedule)
        fired = read_moment(moment)
        run = name_run(wanted.name, fired)
        if moment and not wanted.fires_at(fired):
            say(f"{fired:%Y-%m-%d %H:%M} UTC is no time of {wanted.name} ({wanted.cron}, {wanted.time_zone})")
            return ""
        text = _describe_text(sources)
        history = read_history(store.objects, _ref_of(wanted))
        if only_if_newer and history and history[-1].artifacts == text:
            say(f"no text is newer than what {history[-1].reason} has read")
            return ""
        store.write_note(f"runs/{run}/inputs/{TEXT}", json.dumps(text, indent=1))
        if job:
            store.write_note(f"runs/{job.rpartition('/')[2]}/{NOTED_AS}", run)
        return run
    except (ValueError, OSError) as error:
        say(f"error: {error}")
        sys.exit(BAD_INPUT)


def note(place: str, schedule: Mapping[str, Any], run: str) -> None:
    """Note what a run that has ended well has read."""
    store = open_store(place)
    text = json.loads(store.objects.read(f"runs/{run}/inputs/{TEXT}"))
    move_after_all(store.objects, _ref_of(from_mapping(Schedule, schedule)), text, f"run {run}")


def tell(place: str, schedule: Mapping[str, Any], webhook: str, state: str, job: str, error: str) -> None:
    """POST what came of a run as JSON; "text" holds it in a sentence, as chats show it.

    Where nobody takes it the process ends with exit code 2.
    """
    name = from_mapping(Schedule, schedule).name
    told = {"schedule": name, "state": state, "job": job, "error": error or "", "store": place}
    told["text"] = f"{name}: {state.lower()}" + (f" ({error})" if error else "")
    say(told["text"])
    if not webhook:
        return
    import requests

    try:
        requests.post(webhook, json=told, timeout=SECONDS_TO_TELL).raise_for_status()
    except requests.RequestException as error:  # without its address, by which anybody could write there
        answer = f"answers {error.response.status_code}" if error.response is not None else type(error).__name__
        say(f"error: the webhook was not told: {answer}")
        sys.exit(BAD_INPUT)


def require_webhook(url: str) -> None:
    """Refuse what is no address to POST to (ValueError)."""
    parts = urlsplit(url)
    if url and not (parts.scheme in ("http", "https") and parts.hostname):
        raise ValueError(f'webhook is "{url}"; give an address such as https://chat.example/hook')


def _ref_of(schedule: Schedule) -> str:
    return f"text-{schedule.name}"


def _describe_text(sources: Mapping[str, str]) -> dict[str, str]:
    """Each file of the sources, with what tells whether it is another one: checksum, or size and time of change."""
    text: dict[str, str] = {}
    for name, spec in sources.items():
        for part in filter(None, (each.strip() for each in spec.split(","))):
            if part.startswith(SCHEME):
                text |= {f"{name} {uri}": checksum for uri, checksum in describe(part).items()}
            else:
                text |= {f"{name} {path}": _stamp(path) for path in list_source_files(**{name: part})[name]}
    return text


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
