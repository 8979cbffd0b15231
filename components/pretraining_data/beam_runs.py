"""Beam's graph is run: by this machine, or as a job of Dataflow, which a step that begins again waits for."""

import hashlib
import json
import logging
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.files import DATAFLOW, for_workers, is_local
from bertline.components.pretraining_data.shards import TOTAL_FILE, TOTALS
from bertline.components.pretraining_data.statistics import Totals, sum_totals
from bertline.components.store.bucket import Bucket
from bertline.components.store.manifests import FACTS
from bertline.progress import say

if TYPE_CHECKING:
    import apache_beam as beam

Build = Callable[["beam.Pipeline"], None]
CONSOLE = "https://console.cloud.google.com/dataflow/jobs"
DIGITS = 16  # of the digest in a job's name


class JobError(OSError):
    """A job has failed, or was cancelled."""


def run_beam(build: Build, work: Path, shards: int, config: PrepareConfig) -> Totals:
    """The totals of all shards in the folder `work`, which the graph that `build` adds to a pipeline makes.

    On Dataflow a job that an earlier process has begun for the same folder is waited for. Raises JobError for one that
    failed or was cancelled, with its last error and its page.
    """
    import apache_beam as beam

    if config.runner == DATAFLOW:
        return _run_on_dataflow(build, work, shards, config)
    # Each worker process warns that it has no folder for pickled objects; none is needed. Errors are raised anyway.
    logging.getLogger("apache_beam.runners.portability.local_job_service").setLevel(logging.ERROR)
    with beam.Pipeline(options=_options(config)) as pipeline:
        build(pipeline)
    totals: Totals = json.loads((work / TOTAL_FILE).read_bytes())
    (work / TOTAL_FILE).unlink()
    return totals


def _options(config: PrepareConfig) -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    # An explicit list: Beam would otherwise read this process's command line.
    given = shlex.split(config.beam_options)
    if not is_local(config.runner):
        return PipelineOptions(given, runner=config.runner)
    return PipelineOptions(
        given,
        runner=config.runner,
        direct_num_workers=config.num_workers,
        direct_running_mode="in_memory" if config.num_workers == 1 else "multi_processing",
    )


def _run_on_dataflow(build: Build, work: Path, shards: int, config: PrepareConfig) -> Totals:
    folder = for_workers(work, config.runner)
    bucket = Bucket(folder)
    made = [each.name for each in bucket.list(TOTALS)]
    if len(made) == shards:
        return sum_totals(dict(json.loads(bucket.read(name))) for name in made)
    if made:
        say(f"prepare: {len(made)} of {shards} shards were made before an interruption, kept")
    _wait_for_job(build, _options(config), folder, work)
    totals: Totals = json.loads(bucket.read(TOTAL_FILE))
    bucket.delete([TOTAL_FILE])
    return totals


def _find_job(client: Any, cloud: Any) -> str | None:
    """The id of the job that is at work under the name; Beam's own job_id_for_name never ends where none is."""
    from google.cloud import dataflow

    active = dataflow.ListJobsRequest.Filter.ACTIVE
    request = dataflow.ListJobsRequest(project_id=cloud.project, location=cloud.region, filter=active)
    return next((job.id for job in client._jobs_client.list_jobs(request) if job.name == cloud.job_name), None)


def _wait_for_job(build: Build, options: Any, folder: str, work: Path) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import GoogleCloudOptions
    from apache_beam.runners.dataflow.dataflow_runner import (
        DataflowPipelineResult,
        DataflowRunner,
        DataflowRuntimeException,
    )
    from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
    from apache_beam.runners.runner import PipelineState

    cloud = options.view_as(GoogleCloudOptions)
    digest = hashlib.sha256(folder.encode()).hexdigest()[:DIGITS]  # a run has several such steps
    cloud.job_name = f"{cloud.job_name or 'bertline-prepare'}-{digest}"
    client = DataflowApplicationClient(options)
    job = _find_job(client, cloud)
    if job is None:
        pipeline = beam.Pipeline(options=options)
        build(pipeline)
        result = pipeline.run()
    else:
        runner = DataflowRunner()
        runner.dataflow_client = client
        result = DataflowPipelineResult(client.get_job(job), runner, options)
    page = f"{CONSOLE}/{cloud.region}/{result.job_id()}?project={cloud.project}"
    doing = "is begun" if job is None else "is at work already"
    say(f"prepare: Dataflow's job {result.job_id()} {doing}, {page}")
    say("prepare: it goes on where this process ends, and the same command waits for it again")
    (work / FACTS).write_text(json.dumps({"dataflow": {"job": result.job_id(), "page": page}}), encoding="utf-8")
    with suppress(DataflowRuntimeException):  # which is silent of a job cancelled before, and says None of a quick one
        result.wait_until_finish()
    if result.state != PipelineState.DONE:
        errors, _ = client.list_messages(result.job_id(), minimum_importance="JOB_MESSAGE_ERROR")
        texts = sorted((each.message_text for each in errors), key=lambda text: "Traceback" in text)  # a worker's last
        reason = texts[-1] if texts else "no reason is given"
        raise JobError(f"Dataflow's job {result.job_id()} has ended as {result.state}: {reason}; see {page}")
