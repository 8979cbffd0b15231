"""Dataflow's REST API (v1b3) with workers of its own: the staged pipeline, run by Beam's FnApiRunner.

A program: `python dataflow_server.py DIRECTORY [CONTROL]` prints its port. Nothing below DIRECTORY can be opened by
it, as nothing of a client's disks can by Dataflow's workers; they reach the buckets by STORAGE_EMULATOR_HOST alone. A
job does nothing while there is a file CONTROL/hold, and is cancelled by one CONTROL/cancel.
"""

import json
import os
import re
import sys
import threading
import time
import traceback
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

JOB = re.compile(r"/v1b3/projects/[^/]+/locations/[^/]+/jobs(/(?P<id>[^/]+))?(?P<messages>/messages)?")
ACTIVE = re.compile(r"[?&]filter=(ACTIVE|3)\b")
CONTROL = Path(sys.argv[2] if len(sys.argv) > 2 else "/nowhere")
LONGEST_ANSWER_SECONDS = 30  # the client looks every five seconds; an answer that waits spares it a nap


class Job:
    """What a client is told of a job."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.told = {**request, "id": f"job-{uuid.uuid4().hex[:8]}", "currentState": "JOB_STATE_RUNNING"}
        self.messages: list[dict[str, str]] = []
        self.ended = threading.Event()

    def run(self) -> None:
        """Run the pipeline as it was staged, but for the workers' container, which becomes a thread."""
        while (CONTROL / "hold").exists():
            time.sleep(0.05)
        if (CONTROL / "cancel").exists():
            self.told["currentState"] = "JOB_STATE_CANCELLED"
            self.ended.set()
            return
        try:
            with FileSystems.open(self.told["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]) as file:
                pipeline = beam_runner_api_pb2.Pipeline.FromString(file.read())
            for environment in pipeline.components.environments.values():
                environment.CopyFrom(beam_runner_api_pb2.Environment(urn=python_urns.EMBEDDED_PYTHON))
            FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
            self.told["currentState"] = "JOB_STATE_DONE"
        except Exception:  # whatever a worker raises is the client's to hear of
            text, now = traceback.format_exc(), datetime.now(UTC).isoformat().replace("+00:00", "Z")
            self.messages = [{"id": "0", "time": now, "messageText": text, "messageImportance": "JOB_MESSAGE_ERROR"}]
            self.told["currentState"] = "JOB_STATE_FAILED"
        self.ended.set()


class Handler(BaseHTTPRequestHandler):
    """One request: a job to start, a job's state, or its messages."""

    jobs: dict[str, Job] = {}  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        job = Job(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.jobs[job.told["id"]] = job
        self.answer(job.told)
        threading.Thread(target=job.run, daemon=True).start()

    def do_GET(self) -> None:
        asked = JOB.fullmatch(self.path.partition("?")[0])
        if asked and not asked["id"]:
            only_active = ACTIVE.search(self.path)
            listed = [each for each in self.jobs.values() if not (only_active and each.ended.is_set())]
            return self.answer({"jobs": [each.told for each in listed]})
        job = self.jobs[asked["id"]] if asked else None
        if not asked or not job:
            return self.send_error(404)
        if asked["messages"]:
            return self.answer({"jobMessages": job.messages})
        job.ended.wait(LONGEST_ANSWER_SECONDS)
        return self.answer(job.told)

    def answer(self, told: dict[str, Any]) -> None:
        content = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def hide(folder: Path) -> None:
    """Make every use of a file below `folder` an error in this process, from now on."""

    def refuse(event: str, values: tuple[Any, ...]) -> None:
        if event == "open" or event.startswith("os."):
            for value in values:
                if isinstance(value, str | os.PathLike) and str(value).startswith(f"{folder}/"):
                    raise PermissionError(f"{value}: used by a worker, which has no such mount")

    sys.addaudithook(refuse)


def main() -> None:
    """Serve until killed."""
    hide(Path(sys.argv[1]))
    auth._Credentials._credentials_init = True  # there are none; Beam would look for them for twenty seconds
    FileSystems.set_options(PipelineOptions([]))
    with ThreadingHTTPServer(("localhost", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
