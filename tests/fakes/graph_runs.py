"""What the local services of runs have in common: a graph that was submitted is executed by kfp.local, in a process."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

EXECUTE = """
import json, sys
from kfp import components, local
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
components.load_component_from_file(sys.argv[1])(**json.load(open(sys.argv[3])))
"""


class RunServer(ThreadingHTTPServer):
    """`requests` are all that came; runs are executed below `folder`, in `processes` with `environment`."""

    daemon_threads = True

    def __init__(self, connection: type[BaseHTTPRequestHandler], folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(("localhost", 0), connection)
        self.folder, self.environment = folder, {**os.environ, **environment}
        self.requests: list[tuple[str, str]] = []
        self.processes: dict[str, subprocess.Popen[str]] = {}

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"

    def execute(self, run: str, graph: str, arguments: Mapping[str, Any]) -> tuple[int, str]:
        """The exit code of a graph, a YAML text, and what it said."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        (folder / "pipeline.yaml").write_text(graph)
        (folder / "arguments.json").write_text(json.dumps(arguments))
        command = [sys.executable, "-c", EXECUTE, "pipeline.yaml", "root", "arguments.json"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=self.environment, stdout=log, stderr=log, text=True, start_new_session=True
            )
            self.processes[run] = process
            code = process.wait()
        return code, (folder / "log").read_text()


Server = TypeVar("Server", bound=RunServer)


@contextmanager
def served(server: Server) -> Iterator[Server]:
    """The server answers for as long as the block lasts; its runs end with it."""
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            for process in server.processes.values():
                if process.poll() is None:
                    os.killpg(process.pid, 9)
            server.shutdown()
