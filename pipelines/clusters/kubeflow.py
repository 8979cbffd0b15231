"""Kubeflow Pipelines, by its own client: runs are submitted, followed and ended, and repeated on a schedule."""

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from bertline.pipelines.clusters.kubeflow_connection import connect, naming
from bertline.pipelines.clusters.schedule import Schedule, name_run, read_moment
from bertline.pipelines.clusters.submission import RunState, ScheduleState, Submission
from bertline.settings import list_known

EXPERIMENT = "bertline"
PAGE = 100  # runs, versions at a request


@dataclass(frozen=True)
class Kubeflow:
    """The service at a host."""

    host: str
    namespace: str = "kubeflow"
    experiment: str = EXPERIMENT
    service_account: str = ""  # of Kubernetes, by which tasks act; none: the installation's
    moment: str = "[[ScheduledTime]]"  # Kubeflow puts it there

    @cached_property
    def client(self) -> Any:
        """The connection; OSError where nobody answers."""
        with naming(self.host):
            return connect(self.host, self.namespace)

    def submit(self, submission: Submission) -> RunState:
        """Start a run; the graph is uploaded once for each content."""
        with naming(self.host):
            experiment = self.client.create_experiment(self.experiment, namespace=self.namespace)
            pipeline_id, version_id = self._upload(submission)
            made = self.client.run_pipeline(
                experiment.experiment_id,
                submission.run,
                params=submission.arguments,
                pipeline_id=pipeline_id,
                version_id=version_id,
                service_account=self.service_account or None,
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
        yield from map(self._as_state, self._list_own(self.client.list_runs, "runs", sort_by="created_at desc"))

    def cancel(self, run: str) -> RunState:
        """End a run; its steps get SIGTERM, and save."""
        found = self.find(run)
        with naming(self.host):
            self.client.terminate_run(found.id)
        return self.find(run)

    def schedule(self, schedule: Schedule, submission: Submission) -> ScheduleState:
        """Begin runs at the schedule's times; FileExistsError where one is called so."""
        if any(each.name == schedule.name for each in self.list_schedules()):
            raise FileExistsError(
                f"{self.host}: a schedule is called {schedule.name} already; delete it, or take another"
            )
        first, last = schedule.window
        with naming(self.host):
            experiment = self.client.create_experiment(self.experiment, namespace=self.namespace)
            pipeline_id, version_id = self._upload(submission)
            made = self.client.create_recurring_run(
                experiment.experiment_id,
                schedule.name,
                cron_expression=schedule.for_kubeflow(),
                start_time=_as_utc(first),
                end_time=_as_utc(last),
                max_concurrency=schedule.max_concurrent,
                no_catchup=not schedule.catch_up,
                params=submission.arguments,
                pipeline_id=pipeline_id,
                version_id=version_id,
                service_account=self.service_account or None,
                enable_caching=False,
            )
        return self._as_schedule(made)

    def list_schedules(self) -> Iterator[ScheduleState]:
        """All schedules of the experiment."""
        yield from map(self._as_schedule, self._list_own(self.client.list_recurring_runs, "recurring_runs"))

    def pause(self, name: str) -> ScheduleState:
        """Begin no runs of a schedule until it is resumed."""
        found = self._find_schedule(name)
        with naming(self.host):
            self.client.disable_recurring_run(found.id)
        return self._find_schedule(name)

    def resume(self, name: str) -> ScheduleState:
        """Begin them again."""
        found = self._find_schedule(name)
        with naming(self.host):
            self.client.enable_recurring_run(found.id)
        return self._find_schedule(name)

    def unschedule(self, name: str) -> None:
        """Delete a schedule; its runs stay."""
        found = self._find_schedule(name)
        with naming(self.host):
            self.client.delete_recurring_run(found.id)

    def _find_experiment(self) -> Any:
        """What its runs are listed under; none before the first one."""
        try:
            with naming(self.host):
                return self.client.get_experiment(experiment_name=self.experiment, namespace=self.namespace)
        except ValueError:  # kfp's way to say that there is none
            return None

    def _find_schedule(self, name: str) -> ScheduleState:
        names = []
        for state in self.list_schedules():
            if state.name == name:
                return state
            names.append(state.name)
        raise FileNotFoundError(f"{self.host}: no schedule is called {name}{list_known(name, names)}")

    def _as_schedule(self, found: Any) -> ScheduleState:
        parameters = (found.runtime_config.parameters or {}) if found.runtime_config else {}
        return ScheduleState(
            found.display_name,
            found.recurring_run_id,
            _describe_trigger(found.trigger),
            str(found.status or "").lower(),
            str(found.created_at or ""),
            str(parameters.get("store", "")),
        )

    def _list_own(self, ask: Callable[..., Any], field: str, **more: Any) -> Iterator[Any]:
        """What the experiment has, where there is one."""
        experiment = self._find_experiment()
        if experiment is not None:
            own = {"experiment_id": experiment.experiment_id, "namespace": self.namespace}
            yield from self._list_pages(partial(ask, **own, **more), field)

    def _list_pages(self, ask: Callable[..., Any], field: str) -> Iterator[Any]:
        token = ""
        while True:
            with naming(self.host):
                page = ask(page_token=token, page_size=PAGE)
            yield from getattr(page, field) or []
            token = page.next_page_token
            if not token:
                return

    def _upload(self, submission: Submission) -> tuple[str, str]:
        """The ids of the pipeline and of the version that holds this graph."""
        name = submission.pipeline
        pipeline_id = self.client.get_pipeline_id(name)
        if pipeline_id is None:
            pipeline_id = self.client.upload_pipeline(str(submission.package), pipeline_name=name).pipeline_id
        ask = partial(self.client.list_pipeline_versions, pipeline_id)
        for version in self._list_pages(ask, "pipeline_versions"):
            if version.display_name == submission.version:
                return pipeline_id, version.pipeline_version_id
        made = self.client.upload_pipeline_version(
            str(submission.package), pipeline_version_name=submission.version, pipeline_id=pipeline_id
        )
        return pipeline_id, made.pipeline_version_id

    def _as_state(self, run: Any) -> RunState:
        parameters = (run.runtime_config.parameters or {}) if run.runtime_config else {}
        return RunState(
            run.display_name,
            run.run_id,
            str(run.state or "PENDING"),
            str(run.created_at or ""),
            str(run.finished_at or ""),
            run.error.message if run.error else "",
            f"{self.host.rstrip('/')}/#/runs/details/{run.run_id}",
            str(parameters.get("store", "")),
            _name_scheduled(parameters),
        )


def _name_scheduled(parameters: Mapping[str, Any]) -> str:
    """As the graph of a schedule names its run."""
    schedule, moment = parameters.get("schedule"), parameters.get("moment")
    if not (isinstance(schedule, dict) and schedule.get("name") and moment):
        return ""
    try:
        return name_run(schedule["name"], read_moment(str(moment)))
    except ValueError:  # a run of others
        return ""


def _describe_trigger(trigger: Any) -> str:
    """The cron expression; another one made it where it repeats otherwise."""
    if trigger is not None and trigger.cron_schedule:
        return str(trigger.cron_schedule.cron)
    periodic = trigger and trigger.periodic_schedule
    return f"every {periodic.interval_second} s" if periodic else "none"


def _as_utc(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
