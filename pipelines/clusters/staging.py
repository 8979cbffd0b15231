"""What a cluster reads of this machine's files: copies in the bucket of the run, sent once for each content.

They lie at <out>/inputs/<digest of all that belong together>/<name>; a bert_config.json goes with the settings.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bertline.components.corpus.ingest.run import list_source_files
from bertline.components.store.bucket import Bucket
from bertline.components.store.folder import SCHEME
from bertline.components.store.inputs import require_there
from bertline.components.store.manifests import label_files, sha256_of
from bertline.model.config import read_bert_config
from bertline.pipelines.run_settings import TEXT_SOURCES
from bertline.pipelines.step_settings import STAGES

INPUTS = "inputs"
DIGITS = 16  # of a digest in a name
MOST_FILES = 100  # of a source, for each is named in the arguments of the run


def stage_inputs(arguments: dict[str, Any], out: str, *, send: bool = True) -> dict[str, Any]:
    """The arguments of a run below `out`, all files in them where a cluster can read them; they are sent if asked.

    Below a bucket this machine's files are copied, and those in buckets must be there (FileNotFoundError). Below a
    folder that is mounted in all tasks whole paths are taken as mounted, too; others are refused (ValueError). Where
    nothing is sent, no bucket is asked.
    """
    staging = _Staging(out, send)
    staged = {name: staging.stage_source(name, arguments[name]) for name in TEXT_SOURCES}
    staged |= {name: staging.stage(name, arguments[name]) for name in ("vocab", "initial")}
    tasks = [
        task | {part: staging.stage("task", task[part]) for part in ("train", "dev")} for task in arguments["tasks"]
    ]
    model = arguments[STAGES[0]]["model"]
    if Path(model).is_file():
        read_bert_config(Path(model))
        shape = json.dumps(json.loads(Path(model).read_text(encoding="utf-8")), sort_keys=True)
        staged |= {stage: arguments[stage] | {"model": shape} for stage in STAGES}
    return arguments | staged | {"tasks": tasks}


class _Staging:
    def __init__(self, out: str, send: bool) -> None:
        self.bucket = Bucket(out) if out.startswith(SCHEME) else None
        self.send = send

    def stage_source(self, name: str, spec: str) -> str:
        """A source of text: what is in buckets as it is, the others' files one by one."""
        whole = bool(spec) and Path(spec).exists()
        parts = [spec] if whole else [part.strip() for part in spec.split(",") if part.strip()]
        return ",".join(each for part in parts for each in self._stage_part(name, part))

    def _stage_part(self, name: str, part: str) -> list[str]:
        if self.bucket is None or part.startswith(SCHEME):
            return [self.stage(name, part)]
        paths = list_source_files(**{name: part})[name]
        if len(paths) > MOST_FILES:
            raise ValueError(
                f"{name}: {part} are {len(paths):,} files; put them into a bucket (gcloud storage cp), and give "
                f"gs://BUCKET/FOLDER"
            )
        return self._copy(paths)

    def stage(self, name: str, path: str) -> str:
        """One file, or a folder of them (a model)."""
        if not path:
            return path
        if path.startswith(SCHEME):
            if self.send:
                require_there(path)
            return path
        if self.bucket is None:
            if not Path(path).is_absolute():
                raise ValueError(
                    f"{name}: {path} is of this machine; give the path at which it is mounted in all tasks"
                )
            return path
        if not Path(path).is_dir():
            return self._copy([Path(path)])[0]
        files = sorted(each for each in Path(path).rglob("*") if each.is_file())
        if not files:
            raise FileNotFoundError(f"{name}: {path} is an empty folder")
        copied = self._copy(files, [str(each.relative_to(path)) for each in files])
        return copied[0].removesuffix(f"/{files[0].relative_to(path)}")

    def _copy(self, paths: list[Path], names: Iterable[str] = ()) -> list[str]:
        """The uris of the files' copies, below a folder of the digest of all."""
        assert self.bucket is not None
        digests = [sha256_of(path) for path in paths]
        folder = f"{INPUTS}/{hashlib.sha256(' '.join(digests).encode()).hexdigest()[:DIGITS]}"
        objects = {f"{folder}/{name}": path for name, path in zip(names or label_files(paths), paths, strict=True)}
        uris = [f"{self.bucket.uri.rstrip('/')}/{name}" for name in objects]
        if with_comma := [uri for uri in uris if "," in uri]:
            raise ValueError(f"{with_comma[0]}: there are commas between files, and none may be in a name; rename it")
        if self.send:
            there = {each.name: each.size_bytes for each in self.bucket.list(f"{folder}/")}
            lacking = {name: path for name, path in objects.items() if there.get(name) != path.stat().st_size}
            self.bucket.upload(lacking, f"inputs: to {self.bucket}")
        return uris
