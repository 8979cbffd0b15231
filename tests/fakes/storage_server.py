"""Cloud Storage's JSON API on this machine, as its Python client speaks it; it can be told to fail."""

import email.parser
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.storage_objects import Bucket, RefusedError

# What is before the bucket, the bucket, the object, and what is done with it.
PATH = re.compile(
    r"(?P<way>/upload|/download|)/storage/v1/b(/(?P<bucket>[^/]+)(?P<objects>/o(/(?P<name>[^/]+)(?P<action>/.*)?)?)?)?"
)
PIECE = 1 << 16  # bytes read or written at once
Headers = Mapping[str, str]


class Request(NamedTuple):
    """What a fault is chosen by."""

    number: int  # of all that the server got
    method: str
    path: str  # with the query
    size_bytes: int  # of the body


class Fault(NamedTuple):
    """What befalls a request."""

    code: int = 0  # an HTTP status that is answered, and nothing is done
    cut_share: float = -1.0  # the connection ends when this share of the body, or of the answer, has gone over
    stall_seconds: float = 0.0  # nothing comes for so long, and then the answer
    is_lost: bool = False  # it is done, but the connection ends before the answer


class Answer(NamedTuple):
    """What is answered."""

    code: int
    content: bytes = b""
    headers: Headers = MappingProxyType({})


@dataclass
class Upload:
    """A resumable upload that was begun."""

    bucket: Bucket
    name: str
    about: dict[str, Any]
    query: dict[str, str]
    content: bytearray = field(default_factory=bytearray)
    made: dict[str, Any] | None = None  # the object, once all has come


class StorageServer(ThreadingHTTPServer):
    """The buckets below `root`; folders that are there are buckets.

    `reads` are the objects whose contents were asked for, `requests` all that came; nobody may use the objects
    `refused`. `fault` may say what befalls a request.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: Path) -> None:
        super().__init__(("localhost", 0), Connection)
        self.root, self.lock = root, threading.Lock()
        self.uploads: dict[str, Upload] = {}
        self.reads: list[str] = []
        self.requests: list[Request] = []
        self.refused: set[str] = set()
        self.fault: Callable[[Request], Fault | None] = lambda request: None
        self._buckets: dict[str, Bucket] = {}

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"

    def note(self, method: str, path: str, size_bytes: int) -> Request:
        with self.lock:
            self.requests.append(Request(len(self.requests), method, path, size_bytes))
            return self.requests[-1]

    def answer(self, method: str, path: str, headers: Headers, content: bytes) -> Answer:
        try:
            return self._answer(method, path, headers, content)
        except RefusedError as error:
            return _as_json({"error": {"code": error.code, "message": str(error), "errors": []}}, error.code)

    def _answer(self, method: str, path: str, headers: Headers, content: bytes) -> Answer:
        url, query = urlsplit(path), query_of(path)
        if url.path == "/batch/storage/v1":
            return self._batch(headers["Content-Type"], content)
        found = PATH.fullmatch(url.path)
        if not found:
            raise RefusedError(404, f"{path}: no such resource")
        if found["bucket"] is None:
            return _as_json(self._create(json.loads(content)).metadata())
        bucket, name = self._bucket(found["bucket"]), unquote(found["name"] or "")
        if found["way"] == "/upload":
            return self._upload(bucket, method, headers, content, query)
        if found["action"]:
            return _as_json(self._act(bucket, name, unquote(found["action"]), json.loads(content or b"{}"), query))
        if name:
            is_media = found["way"] == "/download" or query.get("alt") == "media"
            return self._object(bucket, name, method, headers, content, query | {"alt": "media" if is_media else ""})
        if found["objects"]:
            return _as_json(bucket.list_page(query))
        if method == "PATCH":
            bucket.about |= json.loads(content)
            bucket.metageneration += 1
        return _as_json(bucket.metadata())

    def _bucket(self, name: str) -> Bucket:
        with self.lock:
            if not (self.root / name).is_dir():
                raise RefusedError(404, f"The specified bucket does not exist: {name}")
            return self._buckets.setdefault(name, Bucket(name, self.root))

    def _create(self, about: dict[str, Any]) -> Bucket:
        if (self.root / about["name"]).exists():
            raise RefusedError(409, f"The bucket {about['name']} is there already")
        (self.root / about["name"]).mkdir(parents=True)
        made = self._bucket(about["name"])
        made.about |= about
        return made

    def _check_access(self, bucket: Bucket, name: str) -> None:
        if name in self.refused:
            raise RefusedError(403, f"The caller has no access to {bucket.name}/{name}")

    def _object(
        self, bucket: Bucket, name: str, method: str, headers: Headers, content: bytes, query: dict[str, str]
    ) -> Answer:
        if method == "DELETE":
            self._check_access(bucket, name)
            bucket.delete(name, query)
            return Answer(204)
        if method in ("PATCH", "PUT"):
            return _as_json(bucket.patch(name, json.loads(content or b"{}"), query))
        if query["alt"] != "media":
            return _as_json(bucket.find(name, query).metadata(bucket.name))
        self._check_access(bucket, name)
        self.reads.append(name)
        version = bucket.find(name, query)
        hashes = ",".join(f"{kind.removesuffix('Hash')}={found}" for kind, found in version.checksums.items())
        told = {"X-Goog-Hash": hashes, "X-Goog-Generation": str(version.generation)}
        return _cut_span(version.path.read_bytes(), headers.get("Range", ""), told)

    def _act(self, bucket: Bucket, name: str, action: str, about: dict[str, Any], query: dict[str, str]) -> Any:
        """Compose, copy."""
        if action == "/compose":
            return bucket.compose(name, about["sourceObjects"], about.get("destination", {}), query)
        goal = re.fullmatch(r"/(rewriteTo|copyTo)/b/([^/]+)/o/(.+)", action)
        if not goal:
            raise RefusedError(501, f"{action}: not served here")
        source = {"generation": query["sourceGeneration"]} if "sourceGeneration" in query else {}
        version = bucket.find(name, source)
        content = version.path.read_bytes()
        made = self._bucket(goal[2]).write(goal[3], content, version.about | about, query)
        size = str(len(content))
        rewritten = {"done": True, "totalBytesRewritten": size, "objectSize": size, "resource": made}
        return made if goal[1] == "copyTo" else rewritten

    def _upload(self, bucket: Bucket, method: str, headers: Headers, content: bytes, query: dict[str, str]) -> Answer:
        if query["uploadType"] == "multipart":
            about, given = _read_multipart(headers["Content-Type"], content)
            self._check_access(bucket, about["name"])
            return _as_json(bucket.write(about["name"], given, about, query))
        if "upload_id" in query:
            return self._go_on(query["upload_id"], method, headers, content)
        about = json.loads(content)
        self._check_access(bucket, about["name"])
        number = uuid.uuid4().hex
        self.uploads[number] = Upload(bucket, about["name"], about, query)
        path = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&upload_id={number}"
        return Answer(200, headers={"Location": self.url + path})

    def _go_on(self, number: str, method: str, headers: Headers, content: bytes) -> Answer:
        """Take a chunk; its header "bytes 0-9/*" tells that more come, "bytes 0-9/10" or "bytes */10" that none do."""
        upload = self.uploads.get(number)
        if upload is None:
            raise RefusedError(410, "no such upload")
        if method == "DELETE":
            del self.uploads[number]
            return Answer(499)
        span, _, total = headers["Content-Range"].removeprefix("bytes ").partition("/")
        if span != "*":
            first = int(span.partition("-")[0])
            if first > len(upload.content):
                raise RefusedError(400, f"{len(upload.content)} bytes have come, and these begin at {first}")
            upload.content[first:] = content
        if total == "*" or len(upload.content) < int(total):
            return Answer(308, headers={"Range": f"bytes=0-{len(upload.content) - 1}"} if upload.content else {})
        if upload.made is None:
            upload.made = upload.bucket.write(upload.name, bytes(upload.content), upload.about, upload.query)
        return _as_json(upload.made)

    def _batch(self, kind: str, content: bytes) -> Answer:
        """Each part is a request, answered by a part."""
        told = email.parser.BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + content)
        answers = b""
        boundary = uuid.uuid4().hex
        for part in told.get_payload():  # type: ignore[union-attr]
            head, _, body = part.get_payload(decode=True).replace(b"\r\n", b"\n").partition(b"\n\n")
            method, path, _ = head.split(b"\n")[0].decode().split(" ")
            answer = self.answer(method, urlsplit(path)._replace(scheme="", netloc="").geturl(), {}, body.strip())
            answers += (
                f"--{boundary}\r\nContent-Type: application/http\r\n\r\n"
                f"HTTP/1.1 {answer.code} .\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(answer.content)}\r\n\r\n"
            ).encode() + answer.content + b"\r\n"  # fmt: skip
        return Answer(
            200, answers + f"--{boundary}--".encode(), {"Content-Type": f"multipart/mixed; boundary={boundary}"}
        )


class Connection(BaseHTTPRequestHandler):
    """One connection: requests in, answers out, and what befalls them."""

    server: StorageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # cut, by either side
            super().handle()

    def take_request(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        fault = self.server.fault(self.server.note(self.command, self.path, size)) or Fault()
        time.sleep(fault.stall_seconds)
        wanted = int(size * fault.cut_share) if fault.cut_share >= 0 else size
        content = b"".join(self.rfile.read(min(PIECE, wanted - start)) for start in range(0, wanted, PIECE))
        if wanted < size:
            return self.lose(content)
        answer = (
            Answer(fault.code) if fault.code else self.server.answer(self.command, self.path, self.headers, content)
        )
        if fault.is_lost:
            return self.cut()
        self.send_response(answer.code)
        for key, value in {**answer.headers, "Content-Length": str(len(answer.content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if fault.cut_share >= 0 and answer.content:
            self.wfile.write(answer.content[: int(len(answer.content) * fault.cut_share)])
            return self.cut()
        self.wfile.write(answer.content)
        return None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = take_request  # noqa: N815

    def lose(self, content: bytes) -> None:
        """The connection ends in the middle of the body; of a resumable upload, what had come is kept."""
        if upload := self.server.uploads.get(query_of(self.path).get("upload_id", "")):
            span = self.headers["Content-Range"].removeprefix("bytes ").partition("/")[0]
            if span != "*":
                upload.content[int(span.partition("-")[0]) :] = content
        self.cut()

    def cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def query_of(path: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}


def _as_json(told: Mapping[str, Any], code: int = 200) -> Answer:
    return Answer(code, json.dumps(told).encode(), {"Content-Type": "application/json"})


def _cut_span(content: bytes, asked: str, headers: Headers) -> Answer:
    """The content, or the span of it that a header Range asks for."""
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if not span:
        return Answer(200, content, headers)
    if int(span[1]) >= len(content):
        return Answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
    part = content[int(span[1]) : int(span[2]) + 1 if span[2] else None]
    place = f"bytes {span[1]}-{int(span[1]) + len(part) - 1}/{len(content)}"
    return Answer(206, part, {**headers, "Content-Range": place})


def _read_multipart(kind: str, content: bytes) -> tuple[dict[str, Any], bytes]:
    """What is said of an object, and its content."""
    boundary = b"--" + kind.partition("boundary=")[2].strip("\"'").encode()
    (_, told), (head, given) = (_split_part(part) for part in content.split(boundary)[1:3])
    content_type = re.search(rb"(?i)content-type: *([^\r\n]+)", head)
    return {**({"contentType": content_type[1].decode()} if content_type else {}), **json.loads(told)}, given


def _split_part(part: bytes) -> tuple[bytes, bytes]:
    head, _, body = part.partition(b"\r\n\r\n")
    return head, body[:-2]


@contextmanager
def serving(root: Path) -> Iterator[StorageServer]:
    """A server of the buckets in `root`, for as long as the block lasts."""
    with StorageServer(root) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
