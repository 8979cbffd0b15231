"""Articles to documents by WikiExtractor programs side by side: pages in, documents out in the same order."""

import json
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from bertline.components.corpus.documents import Document, Rejected, one_line
from bertline.components.corpus.ingest.wikipedia import Page

PROGRAM = (sys.executable, "-m", "bertline.components.corpus.ingest.wikiextractor_program")
PAGES_AHEAD = 16  # per program: enough that none waits while a long page is worked on


class Extractors:
    """`num_workers` programs that speak the protocol of wikiextractor_program; use as a context manager.

    A program that dies on a page, or needs more than `timeout_seconds` for it, is replaced; the page fails and
    the others go on.
    """

    def __init__(self, num_workers: int, timeout_seconds: float, program: Sequence[str] = PROGRAM) -> None:
        self._num_workers = num_workers
        self._threads = ThreadPoolExecutor(num_workers)
        self._idle: queue.SimpleQueue[_Program] = queue.SimpleQueue()
        for _ in range(num_workers):
            self._idle.put(_Program(program, timeout_seconds))

    def extract(self, pages: Iterable[Page], source: str) -> Iterator[Document | Rejected]:
        """A document per page of the file `source`, in the order of `pages`; reads only a few pages ahead.

        Rejected are pages on which WikiExtractor failed. A page of templates alone has an empty text.
        """
        waiting: deque[Future[Document | Rejected]] = deque()
        for page in pages:
            waiting.append(self._threads.submit(self._extract_one, page, source))
            if len(waiting) > PAGES_AHEAD * self._num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __enter__(self) -> "Extractors":
        """The programs start with their first page."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the programs, after an error without waiting for the pages they work on."""
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self._num_workers):
            self._idle.get().end()

    def _extract_one(self, page: Page, source: str) -> Document | Rejected:
        program = self._idle.get()
        try:
            paragraphs, failure = program.extract(page)
        finally:
            self._idle.put(program)
        identity, title = f"wikipedia:{page.site.dbname}:{page.id}", one_line(page.title)
        if failure:
            return Rejected(identity, title, failure, source, page.text)
        return Document(identity, title, "\n".join(paragraphs), source)


class _Program:
    """One child process, started when it is needed."""

    def __init__(self, command: Sequence[str], timeout_seconds: float) -> None:
        self._command, self._timeout_seconds = command, timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def extract(self, page: Page) -> tuple[list[str], str]:
        """The paragraphs of a page, or why it has none: "extractor_failed: ..." or "extractor_timeout: ..."."""
        process = self._start()
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(self._timeout_seconds, give_up)
        timer.start()
        try:
            answer = _ask(process, page)
        finally:
            timer.cancel()
        if answer is not None:
            return answer.get("paragraphs", []), _failure(answer)
        self.end()
        if timed_out.is_set():
            return [], f"extractor_timeout: more than {self._timeout_seconds:g} seconds"
        return [], "extractor_failed: the program ended"

    def end(self) -> None:
        """Stop the process; the next page starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # A session of its own: Ctrl-C reaches this process, which ends the programs.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        return self._process


def _ask(process: "subprocess.Popen[bytes]", page: Page) -> dict[str, list[str]] | None:
    """The program's answer; None when it ended instead."""
    assert process.stdin is not None and process.stdout is not None
    question = json.dumps({"id": page.id, "title": page.title, "text": page.text})
    try:
        process.stdin.write(question.encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    line = process.stdout.readline()
    return json.loads(line) if line.endswith(b"\n") else None


def _failure(answer: dict[str, list[str]]) -> str:
    return f"extractor_failed: {answer['error']}" if "error" in answer else ""
