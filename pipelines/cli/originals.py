"""The originals' programs as tables: their flags, each a setting of ours, with their defaults where these differ."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bertline.components.declaration import load
from bertline.components.pretraining_data.files import PROCESSES
from bertline.components.step_table import PREPARE, PRETRAIN
from bertline.pipelines.cli.verbs import (
    Flags,
    Parser,
    Setting,
    add_setting_flags,
    describe_settings,
    read_given_settings,
)

FURTHER = "settings that the original does not have"


@dataclass(frozen=True)
class Flag:
    """What an original's flag is here."""

    setting: str = ""  # ours, where it has another name
    default: Any = None  # the original's, where ours is another
    help: str = ""  # where ours does not fit


@dataclass(frozen=True)
class Program:
    """A program of google-research/bert's on a step of ours."""

    name: str
    config: str  # "module:Class", the step's settings
    flags: Mapping[str, Flag]  # the original's
    further: tuple[str, ...]  # settings of ours that are flags, too, under our names
    fixed: Mapping[str, Any] = field(default_factory=dict)  # settings without a flag
    own: str = ""  # "module:Class", the program's flags that are not settings of the step

    def add_flags(self, parser: Parser) -> None:
        """All its flags, and --config."""
        add_setting_flags(parser, self.describe_settings())

    def describe_settings(self) -> list[Setting]:
        """All that its flags set: what is its own, and the step's settings."""
        return [*(describe_settings(load(self.own)) if self.own else []), *self._describe_step_settings()]

    def _describe_step_settings(self) -> list[Setting]:
        """The step's settings as the flags of this program."""
        ours = {setting.name: setting for setting in describe_settings(load(self.config))}
        table = {**self.flags, **{name: Flag() for name in self.further}}
        groups = {**dict.fromkeys(self.flags, f"flags of {self.name}.py"), **dict.fromkeys(self.further, FURTHER)}
        return [_rename(name, flag, ours[flag.setting or name], groups[name]) for name, flag in table.items()]

    def read_given(self, arguments: Flags) -> dict[str, Any]:
        """The flags and the file of --config, by the program's names; ValueError for unknown and wrong ones."""
        types = {setting.name: setting.type for setting in self.describe_settings()}
        return read_given_settings(arguments, self.name, types)

    def translate(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The step's settings that follow from some of the program's, the original's defaults among them."""
        values = dict(self.fixed)
        for setting in self._describe_step_settings():
            name = self.flags.get(setting.name, Flag()).setting or setting.name
            values[name] = given.get(setting.name, setting.default)
        return values

    def make_config(self, given: Mapping[str, Any]) -> Any:
        """The step's config that follows from some of the program's settings."""
        return load(self.config)(**self.translate(given))


def _rename(name: str, flag: Flag, ours: Setting, group: str) -> Setting:
    changes = {} if flag.default is None else {"default": flag.default}
    return dataclasses.replace(ours, name=name, help=flag.help or ours.help, group=group, other_flags=(), **changes)


CREATE_PRETRAINING_DATA = Program(
    "create_pretraining_data",
    PREPARE.config,
    flags={  # create_pretraining_data.py
        "do_lower_case": Flag(),
        "do_whole_word_mask": Flag(default=False, help="whether words are masked as a whole"),
        "max_seq_length": Flag(),
        "max_predictions_per_seq": Flag(),
        "random_seed": Flag("seed"),
        "dupe_factor": Flag(default=10, help="passes over the text, each with fresh pairs and masks"),
        "masked_lm_prob": Flag(),
        "short_seq_prob": Flag(),
    },
    further=(
        *("semantics", "schema", "masking", "pairs", "random_next_prob", "truncate_prob"),
        *("max_ngram", "span_geometric_p", "replace_per", "segmenter", "num_workers"),
    ),
    # All documents go into the files that output_file names, made without Beam.
    fixed={"part": "all", "heldout_share": 0.0, "runner": PROCESSES},
)
RUN_PRETRAINING = Program(
    "run_pretraining",
    PRETRAIN.config,
    flags={  # run_pretraining.py
        "max_seq_length": Flag(help="tokens of a record"),
        "train_batch_size": Flag(help="records of a step"),
        "eval_batch_size": Flag(default=8, help="records that are scored at a time"),
        "learning_rate": Flag(default=5e-5, help="the learning rate's peak, at the end of the warm-up"),
        "num_train_steps": Flag(help="steps of the whole schedule, what output_dir holds already among them"),
        "num_warmup_steps": Flag(help="steps in which the learning rate rises"),
        "save_checkpoints_steps": Flag(help="steps between two model.ckpt-N"),
    },
    further=(
        *("seed", "backend", "devices", "precision", "jit_compile", "steps_per_call", "gradient_accumulation_steps"),
        *("recompute_layers", "optimizer", "weight_decay", "learning_rate_decay", "log_every_steps"),
    ),
    own="bertline.model.pretraining.google_config:RunPretrainingConfig",
)
EXTRACT_FEATURES = Program(
    "extract_features",
    "bertline.model.features.run:FeaturesConfig",
    flags={"layers": Flag(), "max_seq_length": Flag(), "batch_size": Flag()},  # extract_features.py
    further=("format", "align", "word_vectors", "pooling", "precision"),
)
