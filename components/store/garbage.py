"""What of a store may go: artifacts that no ref and no recent run leads to, attempts without a commit, old work.

Kept are the artifacts of the newest entries of every ref, those of the runs of some days, and all that these were made
of. Whatever is younger than that is kept, too: a running job may be making or reading it.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from bertline.components.store.folder import ATTEMPT, RESUME, Found
from bertline.components.store.manifests import MANIFEST, parse_manifest
from bertline.components.store.refs import read_history
from bertline.files import parse_document

SECONDS_OF_A_DAY = 86400
KEPT_ENTRIES = 3  # of each ref
KEPT_DAYS = 14.0
REFS, RUNS = "refs", "runs"
NOTE = {"path?": str}  # what counts here of a note of a run
UNUSED = "no ref and no recent run leads to it"
LEFT = "an attempt that was not committed, or work that nobody goes on with"


class Garbage(NamedTuple):
    """Objects that may go together."""

    name: str  # <kind>/<fingerprint>, and what is below it where that is not the artifact
    why: str
    size_bytes: int
    objects: list[str]  # the manifest first: what has none is found by nobody


def find_garbage(objects: Any, entries: int = KEPT_ENTRIES, days: float = KEPT_DAYS) -> Iterator[Garbage]:
    """What may go of a store in a folder or a bucket, in order of name; ValueError for a note that cannot be read."""
    if entries < 1 or not days >= 0:
        raise ValueError(f"entries is {entries} and days is {days:g}; at least 1 entry and 0 days are kept")
    since, found = time.time() - days * SECONDS_OF_A_DAY, list(objects.list())
    attempts = {
        each.name.removesuffix(f"/{MANIFEST}"): each.notes.get(ATTEMPT, "") for each in found if _is_commit(each)
    }
    manifests = dict(_read_manifests(objects, attempts))
    places = [*_list_places_of_refs(objects, found, entries), *_list_places_of_runs(objects, found, since)]
    things: dict[str, list[Found]] = defaultdict(list)
    for each in found:
        if not each.name.startswith((f"{REFS}/", f"{RUNS}/")):
            things[_find_owner(each.name, attempts)].append(each)
    recent = {name for name, parts in things.items() if max(each.updated for each in parts) >= since}
    led_to = {"/".join(place.rstrip("/").split("/")[-2:]) for place in places}
    used = recent | _close((led_to | recent) & manifests.keys(), manifests)
    for name, parts in sorted(things.items()):
        if name not in used:
            commit = [f"{name}/{MANIFEST}"] if name in manifests else []
            rest = [each.name for each in parts if each.name not in commit]
            why = UNUSED if name in manifests else LEFT
            yield Garbage(name, why, sum(each.size_bytes for each in parts), commit + rest)


def _is_commit(found: Found) -> bool:
    kind, *rest = found.name.split("/")
    return kind not in (REFS, RUNS, RESUME) and rest[1:] == [MANIFEST]


def _read_manifests(objects: Any, names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that are still there: another process may be deleting, too."""
    for name in names:
        with suppress(FileNotFoundError):
            place = f"{name}/{MANIFEST}"
            yield name, parse_manifest(objects.read(place), f"{objects}/{place}", "remove it; its step makes it again")


def _find_owner(name: str, attempts: Mapping[str, str]) -> str:
    """The artifact that an object is of, or what else it belongs to: an attempt, a work folder."""
    parts = name.split("/")
    artifact = "/".join(parts[:2])
    if parts[0] == RESUME:
        return "/".join(parts[:3])
    if attempts.get(artifact) in ("", *parts[2:3]) or parts[2:] == [MANIFEST]:
        return artifact
    return "/".join(parts[:3]) if artifact in attempts else artifact


def _list_places_of_refs(objects: Any, found: Sequence[Found], entries: int) -> Iterator[str]:
    for name in {each.name.split("/")[1] for each in found if each.name.startswith(f"{REFS}/")}:
        for entry in read_history(objects, name)[-entries:]:
            yield from entry.artifacts.values()


def _list_places_of_runs(objects: Any, found: Sequence[Found], since: float) -> Iterator[str]:
    for each in found:
        if each.name.startswith(f"{RUNS}/") and each.name.endswith(".json") and each.updated >= since:
            with suppress(FileNotFoundError):
                note = parse_document(objects.read(each.name), f"{objects}/{each.name}", NOTE, "remove it")
                if "path" in note:
                    yield note["path"]


def _close(roots: Iterable[str], manifests: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The artifacts, and all that they were made of."""
    made = {manifest["digest"]: name for name, manifest in manifests.items()}
    used, open_ends = set[str](), list(roots)
    while open_ends:
        name = open_ends.pop()
        if name not in used:
            used.add(name)
            sources = [each.get("part_of", each["digest"]) for each in manifests[name]["inputs"]]
            open_ends += [made[digest] for digest in sources if digest in made]
    return used
