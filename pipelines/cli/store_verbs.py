"""The command line's verbs of a store: history, rollback, gc, fetch."""

import shutil
from pathlib import Path
from typing import Any

from bertline.files import draft_of
from bertline.pipelines.cli.verbs import INPUT_AND_OUTPUT, Flags, Parser, Verb
from bertline.progress import say

STORE_HELP = "The store of artifacts, a folder or gs://BUCKET/FOLDER (default: out/store)."


def store_flag(parser: Parser) -> Any:
    """The flag --store, in a group that is returned."""
    group = parser.add_argument_group(INPUT_AND_OUTPUT)
    group.add_argument("--store", default="out/store", metavar="DIR", help=STORE_HELP)
    return group


def _history(flags: Flags) -> int:
    from bertline.components.store.refs import LATEST, read_history
    from bertline.components.store.remote import open_store
    from bertline.pipelines.cli.tables import print_rows

    history = read_history(open_store(flags.store).objects, LATEST)
    if not history:
        raise ValueError(f"{flags.store}: no run has ended well here")
    rows = [
        {"entry": each.number, "since": each.moved, "by": each.reason, "model": each.artifacts.get("pretrain_512", "")}
        for each in history
    ]
    print_rows(f"what `latest` led to in {flags.store}", rows)
    return 0


def _rollback_flags(parser: Parser) -> None:
    store_flag(parser).add_argument(
        "--to",
        type=int,
        default=0,
        metavar="N",
        help="The entry of `bertline history` (default: the one before).",
    )


def _rollback(flags: Flags) -> int:
    from bertline.components.store.remote import open_store
    from bertline.pipelines.latest import roll_latest_back

    entry = roll_latest_back(open_store(flags.store), flags.to)
    print(f"latest leads to what it led to before: {entry.reason}, entry {entry.number} of the history")
    return 0


def _gc_flags(parser: Parser) -> None:
    from bertline.components.store.garbage import KEPT_DAYS, KEPT_ENTRIES

    group = store_flag(parser)
    group.add_argument("--entries", type=int, default=KEPT_ENTRIES, metavar="N", help="How many of the newest entries "
                       f"of `bertline history` keep their artifacts (default: {KEPT_ENTRIES}).")  # fmt: skip
    group.add_argument("--days", type=float, default=KEPT_DAYS, metavar="X", help="What is younger stays, and what "
                       f"younger runs used (default: {KEPT_DAYS:g}).")  # fmt: skip
    group.add_argument("--delete", action="store_true", help="Delete it; else it is only listed.")


def _gc(flags: Flags) -> int:
    from bertline.components.store.garbage import find_garbage
    from bertline.components.store.remote import open_store
    from bertline.pipelines.cli.tables import print_rows

    objects = open_store(flags.store).objects
    garbage = list(find_garbage(objects, flags.entries, flags.days))
    rows = [{"what": each.name, "MB": each.size_bytes / 1e6, "why": each.why} for each in garbage]
    if rows:
        print_rows(f"what may go from {flags.store}", rows)
    for each in garbage if flags.delete else ():
        objects.delete(each.objects)
    done = "deleted" if flags.delete else "to be deleted, with --delete"
    print(f"{len(garbage)} things, {sum(each.size_bytes for each in garbage) / 1e6:,.1f} MB {done}")
    return 0


def _fetch_flags(parser: Parser) -> None:
    group = parser.add_argument_group(INPUT_AND_OUTPUT)
    group.add_argument("source", metavar="SRC", help="An artifact in a bucket: gs://BUCKET/FOLDER/store/KIND/NAME.")
    group.add_argument("target", metavar="DST", help="The folder to write, which must not exist yet.")


def _fetch(flags: Flags) -> int:
    from bertline.components.store.bucket import Bucket
    from bertline.components.store.folder import ORIGIN
    from bertline.components.store.inputs import PARTS_OF_ARTIFACT
    from bertline.components.store.manifests import verify
    from bertline.components.store.remote import open_store

    target = Path(flags.target)
    if target.exists():
        raise FileExistsError(f"{target}: is there already; give another folder")
    source = flags.source.rstrip("/")
    root, _, name = source.rpartition("/")
    if source.startswith("gs:") and not Bucket(source).prefix.count("/") >= PARTS_OF_ARTIFACT:
        raise ValueError(f"{source}: names no artifact; give gs://BUCKET/FOLDER/store/KIND/NAME")
    store = open_store(root.rpartition("/")[0])
    folder = store.folder_of(source)
    store.fetch([folder])
    verify(folder)
    with draft_of(target) as draft:
        shutil.copytree(folder, draft, ignore=shutil.ignore_patterns(ORIGIN))
    say(f"written: {target} ({name}, verified)")
    return 0


HISTORY = Verb(
    "List what the newest good run made, and what it was before",
    "bertline history --store gs://my-bucket/bert/store",
    lambda parser: store_flag(parser) and None,
    _history,
)
ROLLBACK = Verb(
    "Let `latest` lead to what it led to before",
    "bertline rollback --store gs://my-bucket/bert/store --to 3",
    _rollback_flags,
    _rollback,
)
GC = Verb(
    "List or delete what no ref and no recent run leads to",
    "bertline gc --store gs://my-bucket/bert/store --days 30\n"
    "bertline gc --store gs://my-bucket/bert/store --days 30 --delete",
    _gc_flags,
    _gc,
)
FETCH = Verb(
    "Bring an artifact from a bucket into a folder, and verify it",
    "bertline fetch gs://my-bucket/bert/store/checkpoint_512/0123456789abcdef model",
    _fetch_flags,
    _fetch,
)
