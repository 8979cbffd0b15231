"""The ref `latest` of a store: what the newest good run made, and the links by which one finds it on this machine."""

import os
from pathlib import Path

from bertline.components.store.artifacts import Store
from bertline.components.store.folder import SCHEME
from bertline.components.store.manifests import read_manifest
from bertline.components.store.refs import LATEST, Entry, find_entry, roll_back
from bertline.files import inside


def roll_latest_back(store: Store, number: int = 0) -> Entry:
    """Let `latest` lead to what it led to at entry `number`; 0: before the last.

    Raises FileNotFoundError, and changes nothing, where an artifact of that entry is gone.
    """
    for place in find_entry(store.objects, LATEST, number).artifacts.values():
        read_manifest(store.folder_of(place))
    entry = roll_back(store.objects, LATEST, number)
    link_latest(store, entry)
    return entry


def link_latest(store: Store, entry: Entry) -> None:
    """`latest/<task>` beside the store's folder leads to the artifacts of an entry, and nothing else is there."""
    folder = store.root.with_name("latest")
    folder.mkdir(parents=True, exist_ok=True)
    for task, place in entry.artifacts.items():
        link = inside(folder, task)
        draft = link.with_name(f".{link.name}")
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.path.relpath(store.folder_of(place), folder))
        draft.replace(link)
    for link in folder.iterdir():
        if link.is_symlink() and link.name not in entry.artifacts:
            link.unlink()


def find_shown_place(store: Store, task: str, folder: Path) -> str:
    """What to call a task's artifact: its uri in a bucket, `latest/<task>` where that leads to it, or its folder."""
    place, link = store.uri_of(folder), store.root.with_name("latest") / task
    if not place.startswith(SCHEME) and link.exists() and link.samefile(folder):
        return str(link)
    return place
