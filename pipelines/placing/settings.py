"""Settings of resources, `--resources.pretrain.spot` or `[resources.pretrain]`, and the plan of a run with them."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from bertline.pipelines.placing.resources import (
    ACCELERATORS,
    CORPUS_GB,
    ON_TRAINING,
    Resources,
    suggest_resources,
)
from bertline.pipelines.run_settings import Run, pipeline_arguments
from bertline.pipelines.step_settings import RUN_STEPS, STEPS_OF_NAME
from bertline.settings import list_known, restore_type

TABLE = "resources"
CORPUS = "corpus_gb"  # gigabytes of text, by which the rows of the data steps are chosen
OF_TRAINING = ("accelerator", "accelerator_count", "topology")
DERIVED = [each.name for each in dataclasses.fields(Resources) if each.metadata.get("derived")]  # of a step's settings
FIELDS = {name: kind for name, kind in get_type_hints(Resources).items() if name not in DERIVED}


@dataclass(frozen=True)
class ResourceSetting:
    """A field of the resources of one step or of several; of none: the corpus's size."""

    steps: tuple[str, ...]
    field: str
    value: Any
    origin: str  # as its user wrote it: "--resources.pretrain.spot"


def list_resource_flags() -> list[str]:
    """All flags there are, without dashes: resources.corpus_gb, resources.cpu, resources.pretrain.cpu."""
    names = [f"{step}.{field}" for step in STEPS_OF_NAME for field in FIELDS]
    return [f"{TABLE}.{name}" for name in (CORPUS, *FIELDS, *names)]


def read_resource_flags(flags: Mapping[str, str]) -> list[ResourceSetting]:
    """The settings of flags such as "resources.pretrain.spot" -> value; of two, the more specific one comes last."""
    found = []
    for flag, value in flags.items():
        step, _, field = flag.removeprefix(f"{TABLE}.").rpartition(".")
        found.append((_specificity(step), _read(step, field, value, f"--{flag}")))
    return [setting for _, setting in sorted(found, key=lambda each: each[0])]


def read_resource_table(table: Mapping[str, Any], where: str, *, typed: bool = False) -> list[ResourceSetting]:
    """The settings of a file's table [resources], in which tables of steps lie; ValueError for unknown names."""
    steps = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    of_all = {name: value for name, value in table.items() if name not in steps}
    found = []
    for step, fields in {"": of_all, **{step: steps[step] for step in sorted(steps, key=_specificity)}}.items():
        shown = f"{where}: [{TABLE}{f'.{step}' if step else ''}]"
        found += [_read(step, field, value, f"{shown} {field}", typed=typed) for field, value in fields.items()]
    return found


def read_resources(flags: Mapping[str, str]) -> Resources:
    """What one training is given by flags such as "resources.spot" -> value."""
    return Resources(**{each.field: each.value for each in read_resource_flags(flags)})


def plan_resources(run: Run, settings: Iterable[ResourceSetting] = ()) -> dict[str, Resources]:
    """Step -> what it is given: the table's, and over it the settings, the last one wins.

    Raises ValueError for resources that cannot be, and for accelerators that are not as many as a step's devices.
    """
    settings = list(settings)
    corpus = next((each.value for each in reversed(settings) if each.field == CORPUS), CORPUS_GB)
    plan, arguments = suggest_resources(run.model, corpus), pipeline_arguments(run)
    for step in RUN_STEPS:
        given = {each.field: each.value for each in settings if step in each.steps}
        try:
            plan[step] = _match_devices(dataclasses.replace(plan[step], **given), arguments[step])
        except ValueError as error:
            raise ValueError(f"{TABLE} of {step}: {error}") from error
    return plan


def _read(step: str, field: str, value: Any, origin: str, *, typed: bool = False) -> ResourceSetting:
    if step and step not in STEPS_OF_NAME:
        raise ValueError(f'{origin}: unknown step "{step}"{list_known(step, STEPS_OF_NAME)}')
    kinds = FIELDS if step else {CORPUS: float, **FIELDS}
    if field not in kinds:
        raise ValueError(f'{origin}: unknown setting "{field}"{list_known(field, kinds)}')
    if kinds[field] == tuple[str, ...] and isinstance(value, str) and not typed:
        value = [each for each in value.split(",") if each]
    try:
        restored = restore_type(field, value, kinds[field], typed=typed)
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from error
    if field == CORPUS:
        if not restored > 0:
            raise ValueError(f"{origin}: {field} is {restored}; it must be greater than 0")
        return ResourceSetting((), field, restored, origin)
    steps = STEPS_OF_NAME[step] if step else RUN_STEPS
    if field in OF_TRAINING:
        steps = tuple(each for each in steps if each in ON_TRAINING)
    if not steps:
        raise ValueError(f"{origin}: {step} computes on processors alone; {', '.join(ON_TRAINING)} take accelerators")
    return ResourceSetting(steps, field, restored, origin)


def _specificity(step: str) -> int:
    return list(STEPS_OF_NAME).index(step) if step in STEPS_OF_NAME else -1


def _match_devices(given: Resources, config: Mapping[str, Any]) -> Resources:
    """One accelerator for each device on which a step computes, on so many machines."""
    given = dataclasses.replace(given, hosts=config.get("hosts", 1))
    if not given.accelerator:
        return given
    if ACCELERATORS[given.accelerator].is_tpu and config.get("backend") == "tensorflow":
        raise ValueError(f"accelerator is {given.accelerator}, on which jax alone computes; set --backend=jax")
    devices, on_each = config.get("devices", 1), ""
    if given.hosts > 1:
        devices, on_each = devices // given.hosts, f" on each of {given.hosts} hosts"
    if given.accelerator_count not in (0, devices):
        raise ValueError(
            f"accelerator_count is {given.accelerator_count}, but the step computes on devices={devices}{on_each}; "
            "leave it out, or set --devices"
        )
    return dataclasses.replace(given, accelerator_count=devices)
