"""Settings of single steps of a run: `pretrain_512.train_batch_size`, or `pretrain.weight_decay` for both stages."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from bertline.components.step_table import STEPS
from bertline.pipelines.pretraining import STEP_OF_SETTINGS
from bertline.settings import list_known, restore_type

RECORDS, HELDOUT = ("prepare_128", "prepare_512"), ("heldout_128", "heldout_512")
STAGES = ("pretrain_128", "pretrain_512")
RUN_STEPS = tuple(STEP_OF_SETTINGS)
GROUPS = tuple(dict.fromkeys(name for name in STEP_OF_SETTINGS.values() if name not in STEP_OF_SETTINGS))
# What a name reaches, the general ones first: of two settings the more specific one wins. A step's own name reaches
# all that the graph makes by it.
STEPS_OF_NAME: dict[str, tuple[str, ...]] = {
    **{name: tuple(each for each in RUN_STEPS if STEP_OF_SETTINGS[each] == name) for name in GROUPS},
    "heldout": HELDOUT,
    **{step: (step,) for step in RUN_STEPS},
}
# `prepare.` reaches held-out records with all but these, which are made once, masked alike for every model, and of all
# lengths in turn, so that the first of them may be scored alone.
OF_TRAINING_RECORDS = ("masking", "dupe_factor", "length_bins")

_LENGTH = "the two stages of a run have the lengths 128 and 512; other lengths take a verb for each step"
_SCHEDULE = "it follows from steps_128 and steps_512; set these"
_DECIDED_OF_RECORDS = {
    "part": "a run makes records to train on (prepare_128, prepare_512) and held-out ones (heldout_128, heldout_512)",
    "max_seq_length": _LENGTH,
}
_DECIDED_OF_STAGES = {
    "max_seq_length": _LENGTH,
    "model": "both stages train one model; set --model",
    "num_train_steps": _SCHEDULE,
    "stop_at_step": _SCHEDULE,
    **dict.fromkeys(("host", "coordinator"), "the cluster says it; set --pretrain.hosts"),
}
# What the run alone decides, since nothing else would work: step -> field -> reason.
DECIDED: dict[str, dict[str, str]] = {
    **dict.fromkeys((*RECORDS, *HELDOUT), _DECIDED_OF_RECORDS),
    "pretrain_128": _DECIDED_OF_STAGES,
    "pretrain_512": {**_DECIDED_OF_STAGES, "initialize": "only the first stage starts from a released model"},
}


@dataclass(frozen=True)
class Agreement:
    """Fields of which several steps must have the same value, and why."""

    steps: tuple[str, ...]
    fields: tuple[str, ...]
    reason: str
    name: str = ""  # that reaches all of the steps; none: a short name of the run does

    def advice(self, field: str) -> str:
        """How to set a field of all the steps."""
        return f"set --{self.name}.{field}" if self.name else f"set --{field}"


AGREEMENTS = (
    Agreement(
        ("vocabulary", *RECORDS, *HELDOUT, *STAGES), ("do_lower_case",), "vocabulary, records and model are of one case"
    ),
    Agreement(
        (*RECORDS, *HELDOUT),
        ("heldout_share",),
        "by it each document belongs to the records to train on or to the held-out ones",
        "prepare",
    ),
    Agreement(
        STAGES,
        ("learning_rate", "learning_rate_decay", "num_warmup_steps", "initializer_range", "dropout", "pre_layer_norm"),
        "the stages of a model share it",
        "pretrain",
    ),
)


@dataclass(frozen=True)
class StepSetting:
    """A field of the config of one step or of several."""

    steps: tuple[str, ...]
    field: str
    value: Any
    origin: str  # as its user wrote it: "--pretrain.weight_decay"


def config_class(step: str) -> type[Any]:
    """The config of a step of the pipeline."""
    return STEPS[STEP_OF_SETTINGS[step]].config_class()


def config_class_of_name(name: str) -> type[Any]:
    """The config of the steps that a name reaches."""
    return config_class(STEPS_OF_NAME[name][0])


def read_tables(tables: Mapping[str, Mapping[str, Any]], where: str, *, typed: bool = False) -> list[StepSetting]:
    """The settings in a file's tables, a later one wins; ValueError for names and values that no step knows.

    Where values are `typed`, as in TOML, a text is no number and no bool.
    """
    found = []
    for name in sorted(tables, key=_specificity):
        if name not in STEPS_OF_NAME:
            raise ValueError(f'{where}: unknown step "{name}"{list_known(name, STEPS_OF_NAME)}')
        fields = [field.name for field in dataclasses.fields(config_class_of_name(name))]
        for field, value in tables[name].items():
            if field not in fields:
                raise ValueError(f'{where}: [{name}] unknown setting "{field}"{list_known(field, fields)}')
            found.append(read_setting(name, field, value, f"{where}: [{name}] {field}", typed=typed))
    return found


def read_flags(flags: Mapping[str, str]) -> list[StepSetting]:
    """The settings of flags such as "prepare.seed" -> value; a later one wins."""
    found = []
    for flag in sorted(flags, key=lambda flag: _specificity(flag.partition(".")[0])):
        name, _, field = flag.partition(".")
        found.append(read_setting(name, field, flags[flag], f"--{flag}"))
    return found


def read_setting(name: str, field: str, value: Any, origin: str, *, typed: bool = False) -> StepSetting:
    """A setting whose name and field are known; ValueError for a wrong type and for what the run itself decides."""
    steps = [step for step in STEPS_OF_NAME[name] if field not in DECIDED.get(step, {})]
    if not steps:
        raise ValueError(f"{origin}: {DECIDED[STEPS_OF_NAME[name][0]][field]}")
    if name == "prepare" and field in OF_TRAINING_RECORDS:
        steps = [step for step in steps if step in RECORDS]
    try:
        restored = restore_type(field, value, get_type_hints(config_class_of_name(name))[field], typed=typed)
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from error
    return StepSetting(tuple(steps), field, restored, origin)


def select_settings(step: str, settings: Iterable[StepSetting]) -> dict[str, StepSetting]:
    """Field -> the last of the settings that reach a step."""
    return {setting.field: setting for setting in settings if step in setting.steps}


def require_agreement(arguments: Mapping[str, Any]) -> None:
    """Refuse steps of which one would not take what the other made."""
    for agreement in AGREEMENTS:
        first, *others = agreement.steps
        for field, step in itertools.product(agreement.fields, others):
            here, there = arguments[first][field], arguments[step][field]
            if here != there:
                raise ValueError(
                    f"{field} is {here} in {first} and {there} in {step}; {agreement.reason}: {agreement.advice(field)}"
                )


def require_one_host(arguments: Mapping[str, Any]) -> None:
    """Refuse what several machines would carry out; `arguments` are the pipeline's, step -> settings."""
    for step in STAGES:
        if arguments[step]["hosts"] > 1:
            raise ValueError(
                f"hosts of {step} is {arguments[step]['hosts']}, but a run computes on this machine; several take "
                "`bertline submit --to=vertex` and `bertline pretrain --hosts`"
            )


def _specificity(name: str) -> int:
    return list(STEPS_OF_NAME).index(name) if name in STEPS_OF_NAME else -1
