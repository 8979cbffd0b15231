"""The platforms that the graph is compiled for: how each places a task, and where its store lies by default."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bertline.pipelines.placing.on_kubeflow import MOUNT, place_on_kubeflow
from bertline.pipelines.placing.on_vertex import place_on_vertex
from bertline.pipelines.placing.resources import Resources, resources_of, suggest_resources

# A component, the task's title on the platform's page, what it is given, its arguments -> the task.
Place = Callable[[Any, str, Resources, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Platform:
    """How tasks are placed; the graph itself is the same everywhere."""

    name: str
    store: str  # default value of the pipeline's store there
    place: Place
    resources: Mapping[str, Resources] = field(default_factory=suggest_resources)  # step -> what it is given
    image: str = ""  # that tasks run in; none: the environment's

    def add_task(self, body: str | Callable[..., Any], title: str, **arguments: Any) -> Any:
        """A task of the graph that is being built: a step by its name, or a function.

        Raises ValueError for resources that the platform does not have.
        """
        from bertline.components.steps import as_component, build_component

        component = build_component(body, self.image) if isinstance(body, str) else as_component(body, self.image)
        return self.place(component, title, resources_of(title, self.resources), arguments)


def _stay_here(component: Any, title: str, given: Resources, arguments: Mapping[str, Any]) -> Any:
    """This machine: no request to make, and no page that would show the title."""
    return component(**arguments)


def kubeflow(resources: Mapping[str, Resources], store: str = f"{MOUNT}/store", image: str = "") -> Platform:
    """Kubeflow Pipelines; a store below /bertline is the claim bertline-store's, mounted in every task."""
    return Platform("kfp", store, partial(place_on_kubeflow, store=store), resources, image)


def vertex(
    resources: Mapping[str, Resources], store: str = "gs://BUCKET/bertline/store", region: str = "", image: str = ""
) -> Platform:
    """Vertex AI Pipelines, in a region if it is known already."""
    return Platform("vertex", store, partial(place_on_vertex, region=region), resources, image)


LOCAL = Platform("local", "out/store", _stay_here)
KUBEFLOW = kubeflow(suggest_resources())
VERTEX = vertex(suggest_resources())
PLATFORMS = {platform.name: platform for platform in (LOCAL, KUBEFLOW, VERTEX)}
