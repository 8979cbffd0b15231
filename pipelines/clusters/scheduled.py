"""The graph that a schedule begins: is a run due, and is there new text; the whole pipeline; a message at its end.

Its parameters are those of the pipeline (pipelines/pretraining.py) without `run`, and those of `add` below.
"""

import inspect
from typing import Any

from kfp import dsl

from bertline.pipelines.platforms import VERTEX, Platform
from bertline.pipelines.pretraining import build_pipeline

NAME = "bertline-scheduled"
SOURCES = ("dump", "books", "text", "wikiextractor", "jsonl")


def build_scheduled_pipeline(platform: Platform) -> Any:
    """The KFP pipeline."""
    graph = build_pipeline(platform)

    def add(
        schedule: dict, moment: str = "", only_if_newer: bool = False, webhook: str = "", **arguments: Any
    ) -> None:  # fmt: skip
        """`schedule` holds a Schedule's fields; `moment` is when it fired, if the platform says that in a parameter."""
        store = arguments["store"]
        told = platform.add_task(tell_end, "tell", schedule=schedule, webhook=webhook, store=store)
        with dsl.ExitHandler(told):
            due = platform.add_task(
                look_whether_due,
                "due",
                schedule=schedule,
                moment=moment,
                fired=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER if platform.name == VERTEX.name else "",
                job=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER if platform.name == VERTEX.name else "",
                only_if_newer=only_if_newer,
                store=store,
                **{source: arguments[source] for source in SOURCES},
            )
            with dsl.If(due.output != ""):
                made = graph(run=due.output, **arguments)
                platform.add_task(note_text, "note", store=store, schedule=schedule, run=due.output).after(made)

    own = [each for each in inspect.signature(add).parameters.values() if each.kind is not each.VAR_KEYWORD]
    inner = [each for name, each in inspect.signature(graph.pipeline_func).parameters.items() if name != "run"]
    parameters = sorted([*own, *inner], key=lambda each: each.default is not each.empty)

    def scheduled(*given: Any) -> None:
        add(**dict(zip([each.name for each in parameters], given, strict=True)))

    scheduled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return dsl.pipeline(scheduled, name=NAME, description="Text to an evaluated BERT, again and again")


def look_whether_due(
    store: str, schedule: dict, moment: str, fired: str, job: str, only_if_newer: bool,
    dump: str, books: str, text: str, wikiextractor: str, jsonl: str,
) -> str:  # fmt: skip
    """The run's name if it is due: the schedule means this moment, and there is text that no run has read; else ""."""
    from bertline.pipelines.clusters.due import look

    sources = {"dump": dump, "books": books, "text": text, "wikiextractor": wikiextractor, "jsonl": jsonl}
    return look(store, schedule, moment or fired, sources, only_if_newer, job)


def note_text(store: str, schedule: dict, run: str) -> None:
    """Note what text the run has read, so that the next one can ask for newer."""
    from bertline.pipelines.clusters.due import note

    note(store, schedule, run)


def tell_end(store: str, schedule: dict, webhook: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Send word of the end to the webhook, if there is one."""
    from bertline.pipelines.clusters.due import tell

    tell(store, schedule, webhook, status.state, status.pipeline_job_resource_name, status.error_message)
