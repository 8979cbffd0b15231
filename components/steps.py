"""The KFP component of every step, written from its declaration in step_table.py.

KFP takes a component from the source of a function and ships that source alone, so it is written out here, with a
body that imports what it uses. For `split` it is

    def split(
        store: str,
        run: str,
        config: dict,
        documents: Input[Dataset],
        sentences: Output[Dataset],
        name: str = "",
    ) -> None:
        "Split documents into sentences, one on a line."
        from bertline.components.kfp_artifacts import perform_step

        inputs = {"documents": documents}
        perform_step("split", store, run, name, config, inputs, sentences)

`store` is a folder that every task can reach (a local folder, a mounted volume, Vertex's /gcs/BUCKET), and the
artifacts passed between tasks point into it; `name` is the task's in the notes of the `run`.
"""

import functools
import json
import linecache
import os
from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl import HTML, Output

from bertline.components.declaration import FILE, MODEL, TEXT, Input, Step
from bertline.components.step_table import STEPS

IMAGE_VARIABLE = "BERTLINE_IMAGE"  # names the image that a cluster runs
DEFAULT_IMAGE = "bertline-python:latest"  # the local runner only wants to see "python" in the name
KFP_TYPES = {
    **dict.fromkeys(("documents", "sentences", "records"), "Dataset"),
    **dict.fromkeys(("checkpoint", "model"), "Model"),
}


@functools.cache
def build_component(name: str, image: str = "") -> Any:
    """The KFP component of a step, in `image` or the one that the environment names."""
    source, file = write_source(STEPS[name]), f"<KFP component {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # where KFP looks for it
    names = dict(vars(dsl))
    exec(compile(source, file, "exec"), names)
    return as_component(names[name], image)


def as_component(function: Callable[..., Any], image: str = "") -> Any:
    """The KFP component of a function."""
    return dsl.component(function, base_image=image or find_image(), install_kfp_package=False)


def find_image() -> str:
    """The image in which tasks run."""
    return os.environ.get(IMAGE_VARIABLE, DEFAULT_IMAGE)


def write_source(step: Step) -> str:
    """The function that KFP ships."""
    parameters = [
        *("store: str", "run: str", "config: dict"),
        *(_parameter(name, each) for name, each in step.inputs.items() if not each.optional),
        f"{step.output}: Output[{_kfp_type(step.output)}]",
        *(["metrics: Output[Metrics]"] if step.scores else []),
        *(_parameter(name, each) for name, each in step.inputs.items() if each.optional),
        'name: str = ""',
    ]
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    inputs = ", ".join(f'"{name}": {name}' for name in step.inputs)
    handed = f"{step.output}{', metrics' if step.scores else ''}"
    return (
        f"def {step.name}(\n{lines}) -> None:\n"
        f"    {json.dumps(f'{step.summary}.', ensure_ascii=False)}\n"
        "    from bertline.components.kfp_artifacts import perform_step\n\n"
        f"    inputs = {{{inputs}}}\n"
        f'    perform_step("{step.name}", store, run, name, config, inputs, {handed})\n'
    )


def _parameter(name: str, each: Input) -> str:
    if each.wanted in (FILE, MODEL, TEXT):
        return f"{name}: str" + (' = ""' if each.optional else "")
    return f"{name}: Input[{_kfp_type(each.wanted)}]" + (" = None" if each.optional else "")


def _kfp_type(kind: str) -> str:
    return KFP_TYPES.get(kind, "Artifact")


def promote(store: str, run: str, rule: str) -> None:
    """Let `latest` lead to what the run made, if the rule allows it."""
    from bertline.components.kfp_artifacts import carry_out_alone
    from bertline.components.promotion import promote

    carry_out_alone(store, run, "promote", lambda place: promote(place, run, rule))


def draw_lineage(store: str, run: str, page: Output[HTML]) -> None:
    """The page that shows what was made from what."""
    from pathlib import Path

    from bertline.components.pages.lineage import write_page
    from bertline.components.store.remote import open_store

    place, name = open_store(store), f"runs/{run}/lineage.html"
    text = write_page(place, place.root / name, run=run)
    place.share_note(name)
    Path(page.path).write_text(text, encoding="utf-8")
