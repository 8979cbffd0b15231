"""Kubeflow Pipelines, by its own client: runs are submitted, followed and ended, and repeated on a schedule."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bertline.pipelines.pretraining import NAME
from bertline.pipelines.submission import RunState, Submission

EXPERIMENT = "bertline"
PAGE = 100  # runs, versions at a request


@dataclass(frozen=True)
class Kubeflow:
    """The service at a host."""

    host: str
    namespace: str = "kubeflow"
    experiment: str = EXPERIMENT

    @cached_property
    def client(self) -> Any:
        """The connection; OSError where nobody answers."""
        import kfp

        with self._naming():
            return kfp.Client(host=self.host, namespace=self.namespace)

    def submit(self, submission: Submission) -> RunState:
        """Start a run; the graph is uploaded once for each content."""
        with self._naming():
            experiment = self.client.create_experiment(self.experiment, namespace=self.namespace)
            pipeline_id, version_id = self._upload(submission)
            made = self.client.run_pipeline(
                experiment.experiment_id,
                submission.run,
                params=submission.arguments,
                pipeline_id=pipeline_id,
                version_id=version_id,
                enable_caching=False,  # steps find by content what was made, and say so
            )
            return self._as_state(made)

    def find(self, run: str) -> RunState:
        """A run by its name or id; FileNotFoundError where there is none."""
        for state in self.list():
            if run in (state.run, state.id):
                return state
        raise FileNotFoundError(f"{self.host}: no run is called {run}; `bertline list` names them")

    def list(self) -> Iterator[RunState]:
        """The experiment's runs, the newest first."""
        with self._naming():
            experiment = self.client.create_experiment(self.experiment, namespace=self.namespace)
        token = ""
        while True:
            with self._naming():
                page = self.client.list_runs(
                    page_token=token,
                    page_size=PAGE,
                    sort_by="created_at desc",
                    experiment_id=experiment.experiment_id,
                    namespace=self.namespace,
                )
            yield from map(self._as_state, page.runs or [])
            token = page.next_page_token
            if not token:
                return

    def cancel(self, run: str) -> RunState:
        """End a run; its steps get SIGTERM, and save."""
        found = self.find(run)
        with self._naming():
            self.client.terminate_run(found.id)
        return self.find(run)

    def _upload(self, submission: Submission) -> tuple[str, str]:
        """The ids of the pipeline and of the version that holds this graph."""
        pipeline_id = self.client.get_pipeline_id(NAME)
        if pipeline_id is None:
            pipeline_id = self.client.upload_pipeline(str(submission.package), pipeline_name=NAME).pipeline_id
        token = ""
        while True:
            page = self.client.list_pipeline_versions(pipeline_id, page_token=token, page_size=PAGE)
            for version in page.pipeline_versions or []:
                if version.display_name == submission.version:
                    return pipeline_id, version.pipeline_version_id
            token = page.next_page_token
            if not token:
                break
        made = self.client.upload_pipeline_version(
            str(submission.package), pipeline_version_name=submission.version, pipeline_id=pipeline_id
        )
        return pipeline_id, made.pipeline_version_id

    def _as_state(self, run: Any) -> RunState:
        return RunState(
            run.display_name,
            run.run_id,
            str(run.state or "PENDING"),
            str(run.created_at or ""),
            str(run.finished_at or ""),
            run.error.message if run.error else "",
            f"{self.host.rstrip('/')}/#/runs/details/{run.run_id}",
            (run.runtime_config.parameters or {}).get("store", "") if run.runtime_config else "",
        )

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Let errors of the service name it, and say what it answered; what the client prints is for notebooks."""
        from kfp_server_api.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore", category=FutureWarning):
                yield
        except ApiException as error:
            raise OSError(
                f"{self.host}: Kubeflow Pipelines answers {error.status} ({error.body or error.reason})"
            ) from error
        except HTTPError as error:
            raise OSError(
                f"{self.host}: not reached ({error}); is the host right, and is a port forwarded to it?"
            ) from error
