"""The flags of all verbs of clusters: which cluster, and what tasks are given there; and what they stand for."""

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.store.folder import store_below
from bertline.pipelines.cli.settings_file import is_typed, read_config_file
from bertline.pipelines.cli.verbs import Flags, Parser

if TYPE_CHECKING:
    from bertline.pipelines.clusters.submission import Cluster
    from bertline.pipelines.platforms import Platform
    from bertline.pipelines.run_settings import Run

IMAGE_VARIABLE = "BERTLINE_IMAGE"  # components/steps.py, which loads Kubeflow's compiler
HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"  # Kubeflow's own client reads it, too
RESOURCES = """\
Each step gets processors, memory and an accelerator by its model's size and by --resources.corpus_gb (default: 1). \
--resources.STEP.FIELD=VALUE changes that, or --resources.FIELD=VALUE for all steps: \
--resources.pretrain.accelerator=tpu-v5e, --resources.spot=true. FIELD is cpu, memory_gb, accelerator, \
accelerator_count, topology, machine_type, node_pool, spot, retries, timeout_hours, env, secrets, volumes, labels or \
service_account. In the file of --config: [resources.pretrain] spot = true."""
OF_VERTEX = {
    "network": "With which tasks are peered.",
    "encryption_key": "A key of Cloud KMS for what the service keeps.",
    "failure_policy": "After a failed task those that can still run do (slow, the default), or none does (fast).",
}


def add_cluster_flags(parser: Parser, more: Mapping[str, str] | None = None) -> None:
    """Where runs are carried out; `more` are further places and what they are."""
    places = {"kfp": "Kubeflow Pipelines", "vertex": "Vertex AI", **(more or {})}
    text = "; ".join(f"{name}, {what}" for name, what in places.items())
    group = parser.add_argument_group("the cluster")
    group.add_argument("--to", required=True, choices=list(places), help=f"What carries out runs: {text}.")
    group.add_argument("--experiment", default="bertline", help="What its runs are listed under (default: bertline).")
    group = parser.add_argument_group("of Kubeflow Pipelines")
    _add_flag_of_variable(group, "--host", HOST_VARIABLE, "URL", "Its address")
    group.add_argument("--namespace", default="kubeflow", help="The namespace of its runs (default: kubeflow).")
    group = parser.add_argument_group("of Vertex AI")
    _add_flag_of_variable(group, "--project", "GOOGLE_CLOUD_PROJECT", "ID", "The project")
    _add_flag_of_variable(group, "--region", "GOOGLE_CLOUD_REGION", "REGION", "The region, such as us-central1")
    group.add_argument("--endpoint", default="", metavar="URL", help="A server in place of the region's.")


def _add_flag_of_variable(group: Any, flag: str, variable: str, metavar: str, text: str) -> None:
    default = os.environ.get(variable, "")
    group.add_argument(flag, default=default, metavar=metavar, help=f"{text} (default: the variable {variable}'s).")


def add_resource_flags(parser: Parser) -> None:
    """What starts runs: what their tasks are given."""
    from bertline.pipelines.placing.settings import list_resource_flags

    group = parser.add_argument_group("what tasks are given", RESOURCES)
    _add_flag_of_variable(group, "--image", IMAGE_VARIABLE, "IMAGE", "The image that tasks run in")
    group.add_argument("--service_account", default="", metavar="NAME", help="By which they act: one of Kubernetes, or "
                       "an address of Google Cloud's.")  # fmt: skip
    for name, text in OF_VERTEX.items():
        group.add_argument(f"--{name}", default="", metavar="NAME", help=f"{text.removesuffix('.')} (Vertex AI).")
    group.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="Of the run (Vertex AI).")
    for name in list_resource_flags():
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)


def open_cluster(flags: Flags) -> "Cluster":
    """The cluster that the flags name; ValueError where they do not."""
    if flags.to == "kfp":
        from bertline.pipelines.clusters.kubeflow import Kubeflow

        _require(flags, host=HOST_VARIABLE)
        for name in (*OF_VERTEX, "label"):
            if getattr(flags, name, None):
                raise ValueError(f"--{name} is for Vertex AI; Kubeflow Pipelines has none")
        return Kubeflow(flags.host, flags.namespace, flags.experiment, getattr(flags, "service_account", ""))
    from bertline.pipelines.clusters.vertex import Vertex

    _require(flags, project="GOOGLE_CLOUD_PROJECT", region="GOOGLE_CLOUD_REGION")
    started = {}
    if "out" in flags:
        started = {
            "root": f"{flags.out.rstrip('/')}/vertex",
            "service_account": flags.service_account,
            "labels": tuple(flags.label),
            **{name: getattr(flags, name) for name in OF_VERTEX if getattr(flags, name)},
        }
    return Vertex(flags.project, flags.region, experiment=flags.experiment, endpoint=flags.endpoint, **started)


def _require(flags: Flags, **variables: str) -> None:
    for name, variable in variables.items():
        if not getattr(flags, name):
            raise ValueError(f"--{name} is missing; give it, or set the variable {variable}")


@contextmanager
def compiled_in(flags: Flags) -> Iterator[Path]:
    """The folder of the compiled graph, which stays after a dry run."""
    if flags.dry_run:
        yield Path("build/pipelines")
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def choose_platform(flags: Flags, run: "Run") -> "Platform":
    """The platform, with what the flags and the file of --config give its tasks."""
    from bertline.pipelines.placing.settings import plan_resources, read_resource_flags, read_resource_table
    from bertline.pipelines.platforms import kubeflow, vertex

    _require(flags, image=IMAGE_VARIABLE)
    settings = []
    if flags.config:
        table = read_config_file(Path(flags.config)).get("resources", {})
        settings += read_resource_table(table, flags.config, typed=is_typed(flags.config))
    given = {name: value for name, value in vars(flags).items() if name.startswith("resources.") and value is not None}
    plan = plan_resources(run, [*settings, *read_resource_flags(given)])
    store = store_below(flags.out)
    if flags.to == "kfp":
        return kubeflow(plan, store, flags.image)
    return vertex(plan, store, flags.region, flags.image)
