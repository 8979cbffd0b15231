"""Objects of a Cloud Storage bucket: read, written once or by compare-and-swap, carried in parallel and checked.

Every request has a time limit of its own and is repeated while the whole is within its own, so that a 503, a cut or a
stalled connection costs time and nothing else. Checksums are compared on both ways. What the service refuses is an
OSError that names the object.
"""

import base64
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.store.folder import SCHEME, Found
from bertline.files import draft_of, require_inside
from bertline.progress import Progress

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"  # a server in place of Google's, which wants no credentials
REQUEST_SECONDS = (10, 60)  # to connect, and without a byte: a stalled connection is given up
REPEAT_SECONDS = 600.0  # that a request is repeated for
TRANSFERS = 8  # at once
CHUNK_BYTES = 32 << 20  # of a resumable upload: what is sent again at most
DELETED_AT_ONCE = 100  # what a batch may hold
FIRST_FAILURE, GONE = 400, 404  # codes of answers
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")  # of a bucket
LITERAL = re.compile(r"([*?{}\[\]\\])")  # characters of a glob that mean themselves behind a backslash
ADVICE = {
    401: "log in (gcloud auth application-default login), or name a key in GOOGLE_APPLICATION_CREDENTIALS",
    403: "give the account the role roles/storage.objectUser on the bucket",
    404: "is the name right, and has the bucket been made?",
}


class ChangedError(OSError):
    """Another writer was first: the object is of another generation than the one that was read."""


@dataclass(frozen=True)
class Bucket:
    """The objects below a `gs://BUCKET/PREFIX`; names are relative to it, without a leading slash."""

    uri: str

    def __post_init__(self) -> None:
        """Refuse what names no bucket."""
        if not self.uri.startswith(SCHEME) or not NAME.fullmatch(self.bucket_name):
            raise ValueError(f'"{self.uri}" names no bucket; give gs://BUCKET or gs://BUCKET/FOLDER')
        if folder := self.prefix.removesuffix("/"):
            require_inside(folder)  # of this machine there is a folder for it

    def __str__(self) -> str:
        """The uri."""
        return self.uri

    @property
    def bucket_name(self) -> str:
        """Without the prefix."""
        return self.uri.removeprefix(SCHEME).partition("/")[0]

    @property
    def prefix(self) -> str:
        """What all names begin with, "" or with a slash at the end."""
        folder = self.uri.removeprefix(SCHEME).partition("/")[2].removesuffix("/")
        return f"{folder}/" if folder else ""

    @cached_property
    def client(self) -> "Client":
        """The connection; OSError where there are no credentials."""
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
        from requests.adapters import HTTPAdapter

        local = os.environ.get(EMULATOR_VARIABLE)
        try:
            made = storage.Client(**{"project": "none", "credentials": AnonymousCredentials()} if local else {})
        except DefaultCredentialsError as error:
            raise PermissionError(f"{self.uri}: no credentials; {ADVICE[401]}") from error
        for scheme in ("https://", "http://"):  # requests keeps 10 connections by default, and warns of more
            made._http.mount(scheme, HTTPAdapter(pool_connections=TRANSFERS, pool_maxsize=2 * TRANSFERS))
        return made

    def read(self, name: str, generation: int | None = None) -> bytes:
        """An object's content; FileNotFoundError where there is none."""
        with self._naming(name):
            content: bytes = self._blob(name, generation=generation).download_as_bytes(**self._patience())
        return content

    def find(self, name: str) -> Found | None:
        """What is there under the name."""
        with self._naming(name):
            blob = self.client.bucket(self.bucket_name).get_blob(self.prefix + name, **self._patience())
        return None if blob is None else self._as_found(blob)

    def create(self, name: str, content: bytes, **notes: str) -> bool:
        """Write an object that nobody has written: of several writers one gets True, the others change nothing."""
        try:
            self.replace(name, content, 0, **notes)
        except ChangedError:
            return False
        return True

    def replace(self, name: str, content: bytes, generation: int, **notes: str) -> int:
        """Write over the generation that was read (0: none), and return the new one; ChangedError where it is gone.

        `notes` are kept with the object. Where the answer was lost, they and its checksum tell whose the object is.
        """
        from google.api_core.exceptions import PreconditionFailed

        blob = self._blob(name)
        blob.metadata = notes
        try:
            with self._naming(name):
                blob.upload_from_string(content, if_generation_match=generation, **self._patience())
        except PreconditionFailed as error:
            found = self.find(name)
            if found and found.notes == notes and found.crc32c == crc32c_of(content) and found.generation != generation:
                return found.generation  # the answer to an earlier try was lost
            raise ChangedError(
                f"{self.uri.rstrip('/')}/{name}: another process has changed it; give the same command again"
            ) from error
        return int(blob.generation)

    def list(self, folder: str = "") -> Iterator[Found]:
        """All objects whose names begin so, in order of name."""
        with self._naming(folder):
            for blob in self.client.list_blobs(self.bucket_name, prefix=self.prefix + folder, **self._patience()):
                yield self._as_found(blob)

    def list_matches(self, glob: str) -> Iterator[Found]:
        """All objects whose whole names match, in order of name; "*" stands for what has no slash.

        The service compares: a few among many are not searched for in a list of all.
        """
        with self._naming(glob):
            whole = LITERAL.sub(r"\\\1", self.prefix) + glob
            for blob in self.client.list_blobs(self.bucket_name, match_glob=whole, **self._patience()):
                yield self._as_found(blob)

    def write(self, name: str, content: bytes) -> None:
        """Write an object, over one that is there."""
        with self._naming(name):
            self._blob(name).upload_from_string(content, **self._patience())

    def upload(self, files: Mapping[str, Path], label: str = "upload") -> dict[str, str]:
        """Carry files to their names; returns the crc32c of each."""
        checksums: dict[str, str] = {}

        def carry(name: str) -> int:
            blob, path = self._blob(name), files[name]
            blob.chunk_size = CHUNK_BYTES if path.stat().st_size > CHUNK_BYTES else None
            with self._naming(name):
                blob.upload_from_filename(str(path), checksum="crc32c", **self._patience())
            checksums[name] = blob.crc32c
            return path.stat().st_size

        self._carry_all(carry, list(files), sum(path.stat().st_size for path in files.values()), label)
        return checksums

    def copy(self, objects: Mapping[str, str], label: str = "copy") -> dict[str, str]:
        """Let the service copy objects to other names, old name -> new name; returns the crc32c of each new one."""
        checksums: dict[str, str] = {}

        def carry(name: str) -> int:
            made, token = self._blob(objects[name]), None
            with self._naming(name):
                while True:
                    token, _, size = made.rewrite(self._blob(name), token=token, **self._patience())
                    if token is None:
                        break
                made.reload(**self._patience())
            checksums[objects[name]] = made.crc32c
            return int(size)

        self._carry_all(carry, list(objects), None, label)
        return checksums

    def download(self, objects: Mapping[str, Path], label: str = "download") -> None:
        """Carry objects to files, which are there whole or not at all."""

        def carry(name: str) -> int:
            path = objects[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._naming(name), draft_of(path) as draft:
                self._blob(name).download_to_filename(str(draft), checksum="auto", **self._patience())
            return path.stat().st_size

        self._carry_all(carry, list(objects), None, label)

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone already are passed over."""
        delete: Callable[..., None] = self._patience()["retry"](self._delete_once)  # a batch is not repeated of itself
        for start in range(0, len(names), DELETED_AT_ONCE):
            with self._naming(names[start]):
                delete(names[start : start + DELETED_AT_ONCE])

    def _delete_once(self, names: Sequence[str]) -> None:
        from google.api_core.exceptions import from_http_status

        with self.client.batch(raise_exception=False) as batch:
            for name in names:
                self._blob(name).delete(timeout=REQUEST_SECONDS)
        for name, answer in zip(names, batch._responses, strict=True):
            if answer.status_code >= FIRST_FAILURE and answer.status_code != GONE:
                raise from_http_status(answer.status_code, f"{name} is not deleted")

    def _carry_all(self, carry: Callable[[str], int], names: Sequence[str], total: int | None, label: str) -> None:
        """Several at once; the first error ends all."""
        pool = ThreadPoolExecutor(TRANSFERS)
        try:
            with Progress(label, total, "bytes") as progress:
                for size in pool.map(carry, names):
                    progress.advance(size)
        finally:
            pool.shutdown(cancel_futures=True)

    def _blob(self, name: str, generation: int | None = None) -> "Blob":
        return self.client.bucket(self.bucket_name).blob(self.prefix + name, generation=generation)

    def _as_found(self, blob: "Blob") -> Found:
        name = blob.name.removeprefix(self.prefix)
        notes = blob.metadata or {}
        return Found(name, int(blob.size), int(blob.generation), blob.crc32c, blob.updated.timestamp(), notes)

    def _patience(self) -> dict[str, Any]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return {"timeout": REQUEST_SECONDS, "retry": DEFAULT_RETRY.with_timeout(REPEAT_SECONDS)}

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Let errors of the service name the object, and say what to do."""
        from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from requests.exceptions import RequestException

        where = f"{SCHEME}{self.bucket_name}/{self.prefix}{name}"
        try:
            yield
        except PreconditionFailed:
            raise
        except NotFound as error:
            raise FileNotFoundError(f"{where}: no such object; {ADVICE[404]}") from error
        except GoogleAPICallError as error:
            advice = f"; {ADVICE[error.code]}" if error.code in ADVICE else ""
            raise OSError(f"{where}: the bucket answers {error.code} ({error.message}){advice}") from error
        except DataCorruption as error:
            raise OSError(f"{where}: damaged on the way, its checksum differs; give the same command again") from error
        except (RetryError, RequestException, GoogleAuthError) as error:
            raise OSError(f"{where}: not reached ({error}); give the same command again") from error


def crc32c_of(content: bytes) -> str:
    """The checksum of bytes as Cloud Storage writes it."""
    import google_crc32c

    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
