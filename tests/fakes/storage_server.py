"""Cloud Storage's JSON API over the folders of a directory: what its Python client says to read and write objects.

A bucket is a folder, an object a file in it, so the directory is at the same time what a mount of all buckets shows.
"""

import base64
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

OBJECT = re.compile(r"(?P<way>/upload|/download)?/storage/v1/b/(?P<bucket>[^/]+)(?P<objects>/o(/(?P<name>.+))?)?")
DRAFTS = ".drafts"  # no bucket: names of buckets start with a letter or a digit


class RefusedError(Exception):
    """What the server answers instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StorageServer(ThreadingHTTPServer):
    """The buckets in `root`. `reads` are the objects whose contents were asked for; nobody may use those `refused`."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("localhost", 0), Handler)
        self.root, self.lock = root, threading.Lock()
        self.uploads: dict[str, tuple[str, str, bytearray, dict[str, str]]] = {}  # begun: what `write` takes
        self.reads: list[str] = []
        self.refused: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"

    def read(self, bucket: str, name: str) -> bytes:
        self.check_access(bucket, name)
        self.reads.append(name)
        return self.file(bucket, name).read_bytes()

    def file(self, bucket: str, name: str) -> Path:
        path = self.root / bucket / name
        if not path.is_file():
            raise RefusedError(404, f"No such object: {bucket}/{name}")
        return path

    def metadata(self, bucket: str, name: str) -> dict[str, Any]:
        path = self.file(bucket, name)
        content, changed = path.read_bytes(), path.stat().st_mtime_ns
        updated = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(changed // 10**9))
        crc32c = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
        return {
            "kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(content)), "crc32c": crc32c,
            "generation": str(changed), "metageneration": "1", "updated": f"{updated}.000Z",
        }  # fmt: skip

    def write(self, bucket: str, name: str, content: bytes | bytearray, query: dict[str, str]) -> dict[str, Any]:
        path, draft = self.root / bucket / name, self.root / DRAFTS / uuid.uuid4().hex
        draft.parent.mkdir(exist_ok=True)
        draft.write_bytes(content)
        with self.lock:
            self.check_generation(path, query)
            now = time.time_ns()  # the file's own time is coarser: two generations would be one
            os.utime(draft, ns=(now, now))
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(path)
            return self.metadata(bucket, name)

    def delete(self, bucket: str, name: str, query: dict[str, str]) -> None:
        with self.lock:
            path = self.file(bucket, name)
            self.check_generation(path, query)
            path.unlink()

    def check_access(self, bucket: str, name: str) -> None:
        if name in self.refused:
            raise RefusedError(403, f"The caller has no access to {bucket}/{name}")

    def check_generation(self, path: Path, query: dict[str, str]) -> None:
        generation = path.stat().st_mtime_ns if path.is_file() else 0
        if int(query.get("ifGenerationMatch", generation)) != generation:
            raise RefusedError(412, f"{path.name}: its generation is {generation}")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: StorageServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer_request(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        found = OBJECT.fullmatch(url.path)
        try:
            if not found or not (self.server.root / found["bucket"]).is_dir():
                raise RefusedError(404, f"{self.path}: no such bucket")
            way = (self.command, (found["way"] or "").strip("/") or ("object" if found["name"] else "bucket"))
            bucket, name = found["bucket"], unquote(found["name"] or "")
            if way[1] == "upload":
                self.upload(bucket, content, query)
            elif way == ("GET", "download"):
                self.download(self.server.read(bucket, name))
            elif way == ("GET", "object"):
                self.answer(self.server.metadata(bucket, name))
            elif way == ("DELETE", "object"):
                self.server.delete(bucket, name, query)
                self.send(204, b"")
            elif way == ("GET", "bucket"):
                about = {"name": bucket, "softDeletePolicy": {"retentionDurationSeconds": "0"}}
                self.answer(self.listing(bucket, query.get("prefix", "")) if found["objects"] else about)
            else:
                raise RefusedError(501, f"{self.command} {self.path}: not served here")
        except RefusedError as error:
            self.answer({"error": {"code": error.code, "message": str(error)}}, error.code)

    do_GET = do_POST = do_PUT = do_DELETE = answer_request  # noqa: N815

    def listing(self, bucket: str, prefix: str) -> dict[str, Any]:
        folder = self.server.root / bucket
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return {"items": [self.server.metadata(bucket, name) for name in names if name.startswith(prefix)]}

    def download(self, content: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not span:
            self.send(200, content)
        elif int(span[1]) >= len(content):
            self.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            part = content[int(span[1]) : int(span[2]) + 1 if span[2] else None]
            last = int(span[1]) + len(part) - 1
            self.send(206, part, {"Content-Range": f"bytes {span[1]}-{last}/{len(content)}"})

    def upload(self, bucket: str, content: bytes, query: dict[str, str]) -> None:
        if query["uploadType"] == "multipart":
            boundary = b"--" + self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
            told, given = (part.partition(b"\r\n\r\n")[2][:-2] for part in content.split(boundary)[1:3])
            self.answer(self.server.write(bucket, json.loads(told)["name"], given, query))
        elif "upload_id" in query:
            self.go_on(query["upload_id"], content)
        else:
            number, name = uuid.uuid4().hex, json.loads(content)["name"]
            self.server.check_access(bucket, name)
            self.server.uploads[number] = (bucket, name, bytearray(), query)
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={number}"
            self.send(200, b"", {"Location": self.server.url + path})

    def go_on(self, number: str, content: bytes) -> None:
        """Take a chunk; its header "bytes 0-9/*" tells that more come, "bytes 0-9/10" or "bytes */10" that none do."""
        bucket, name, begun, query = self.server.uploads[number]
        if self.command == "DELETE":
            del self.server.uploads[number]
            return self.send(499, b"")
        begun.extend(content)
        if self.headers["Content-Range"].endswith("/*"):
            return self.send(308, b"", {"Range": f"bytes=0-{len(begun) - 1}"})
        del self.server.uploads[number]
        return self.answer(self.server.write(bucket, name, begun, query))

    def answer(self, told: dict[str, Any], code: int = 200) -> None:
        self.send(code, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def send(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(root: Path) -> Iterator[StorageServer]:
    """A server of the buckets in `root`, for as long as the block lasts."""
    with StorageServer(root) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
