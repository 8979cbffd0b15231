"""Named runs: of the example's size, the paper's, and a recipe for a small budget with each difference's source."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from bertline.model.config import SIZES, bert_config, read_bert_config
from bertline.pipelines.run_settings import TEXT_SOURCES, Run
from bertline.settings import list_known

EXAMPLES = Path(str(files("bertline"))).joinpath("examples").resolve()
# The corpus of examples/, what suits its size, and its tasks; replaced as a whole when a run names text of its own.
OF_EXAMPLE: dict[str, Any] = {
    "dump": str(EXAMPLES / "encyclopedia.xml"),
    "books": str(EXAMPLES / "books"),
    "vocab_size": 3000,
    "heldout_share": 0.15,
    "tasks": (f"mrpc={EXAMPLES / 'tasks' / 'pairs'}", f"sst2={EXAMPLES / 'tasks' / 'sentiment'}"),
}

# Budgets for 2 cores: minutes; far too short for a useful model of Base's size.
RUNS: dict[str, Run] = {
    "base": Run(
        **OF_EXAMPLE,
        model="base",
        steps_128=8,
        steps_512=2,
        batch=8,
        save_every=4,
        finetune_epochs=0.4,
        finetune_length=40,
    ),
    # First weights in the range 1 / sqrt(hidden_size): Tiny then leaves the plateau of the unigram entropy sooner
    # than with 0.02, which was made for hidden_size 768 (docs/decisions.md).
    "tiny": Run(
        **OF_EXAMPLE,
        model="tiny",
        steps_128=450,
        steps_512=50,
        batch=16,
        learning_rate=1e-3,
        initializer_range=0.09,
        dropout=0.0,
    ),
}

SHAPE_VOCABULARY = 30522  # any: only the width and the layers of a size are asked for


@dataclass(frozen=True)
class Choice:
    """A setting of a recipe and where it comes from."""

    field: str  # of Run
    value: Any
    source: str


PAPER = (
    Choice("steps_128", 900_000, "Devlin et al. 2018, A.2: 90 % of 1,000,000 steps"),
    Choice("steps_512", 100_000, "Devlin et al. 2018, A.2: the rest"),
    Choice("batch", 256, "Devlin et al. 2018, A.2"),
    Choice("batch_512", 256, "Devlin et al. 2018, A.2: sequences, whatever their length"),
    Choice("learning_rate", 1e-4, "Devlin et al. 2018, A.2"),
    Choice("warmup_share", 0.01, "Devlin et al. 2018, A.2: 10,000 of 1,000,000 steps"),
    Choice("learning_rate_decay", "original", "google-research/bert, optimization.py"),
    Choice("optimizer", "bert_adam", "google-research/bert, optimization.py"),
    Choice("initializer_range", 0.0, "the model's own, 0.02 in all released ones"),
    Choice("attention_initializer", "random", "google-research/bert, modeling.py"),
    Choice("dropout", -1.0, "the model's own, 0.1 in all released ones"),
    Choice("dupe_factor", 10, "google-research/bert, create_pretraining_data.py"),
    Choice("masking", "static", "google-research/bert, create_pretraining_data.py"),
    Choice("do_whole_word_mask", False, "google-research/bert, create_pretraining_data.py"),
    Choice("length_bins", "", "google-research/bert, create_pretraining_data.py"),
)


@dataclass(frozen=True)
class Budget:
    """What of the budget recipe depends on the model's width."""

    batch: int
    learning_rate: float
    source: str


# By hidden_size; other widths take the next larger one.
BUDGETS = {
    128: Budget(32, 2e-3, "measured (docs/decisions.md)"),
    256: Budget(32, 1e-3, "measured (docs/decisions.md): 2e-3 learns nothing at first"),
    512: Budget(128, 5e-4, "Clark et al. 2020, table 6: ELECTRA-Small"),
    768: Budget(256, 2e-4, "Clark et al. 2020, table 6: ELECTRA-Base"),
    1024: Budget(256, 2e-4, "Clark et al. 2020, table 6: ELECTRA-Large, at a smaller batch"),
}


def budget_choices(model: str) -> tuple[Choice, ...]:
    """Where the budget recipe of a model differs from the paper's."""
    own = model not in SIZES and Path(model).is_file()
    shape = read_bert_config(Path(model)) if own else bert_config(model, SHAPE_VOCABULARY)
    width = shape.hidden_size
    by_width = BUDGETS[min((known for known in BUDGETS if known >= width), default=max(BUDGETS))]
    return (
        Choice("steps_128", 90_000, "google-research/bert's README: 100,000 steps in all"),
        Choice("steps_512", 10_000, "google-research/bert's README"),
        Choice("batch", by_width.batch, by_width.source),
        Choice("batch_512", 0, "as many tokens as a step at 128"),
        Choice("learning_rate", by_width.learning_rate, by_width.source),
        Choice("warmup_share", 0.1, "a short schedule at a high rate: Izsak et al. 2021 warm up for 6 %"),
        Choice("learning_rate_decay", "linear", "no jump where the warm-up ends: Loshchilov and Hutter 2019"),
        Choice("optimizer", "adamw", "Loshchilov and Hutter 2019: the bias correction matters in a short schedule"),
        Choice("initializer_range", _first_range(width, shape.num_hidden_layers), "measured (docs/decisions.md)"),
        Choice("attention_initializer", "neighbours", "measured (docs/decisions.md); Trockman and Kolter 2023"),
        Choice("dropout", 0.0, "Geiping and Goldstein 2022: text is not seen often enough to learn it by heart"),
        Choice("masking", "dynamic", "Liu et al. 2019, 4.1"),
        Choice("length_bins", "64,96,128,256,384", "less padding (docs/data_generation.md)"),
    )


def _first_range(width: int, layers: int) -> float:
    """Smaller the more layers take their share of what they read; never below the released models' 0.02."""
    return max(round((2 / (width * layers)) ** 0.5, 3), 0.02)


RECIPES = ("paper", "budget")


def recipe(name: str, model: str) -> Run:
    """The run of a recipe for a size of model/config.py or a bert_config.json, without text.

    Raises ValueError for a model that is neither.
    """
    choices = (*PAPER, *(budget_choices(model) if name == "budget" else ()))
    return dataclasses.replace(Run(model=model), **{choice.field: choice.value for choice in choices})


def with_own_text(run: Run) -> Run:
    """`run` without the example's text, what suits its size, and its tasks, for text that the user names."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Run)}
    return dataclasses.replace(run, **{name: defaults[name] for name in OF_EXAMPLE})


def named_run(name: str, given: Mapping[str, Any]) -> Run:
    """The run or the recipe of that name, with the fields of Run that are `given`.

    Text of one's own replaces the example's. Raises ValueError for another name, and for a model of no known size.
    """
    if name not in (*RUNS, *RECIPES):
        known = [*RUNS, *RECIPES]
        raise ValueError(f'run is "{name}"{list_known(name, known)}')
    run = RUNS[name] if name in RUNS else recipe(name, given.get("model") or Run.model)
    if name in RUNS and any(given.get(source) for source in TEXT_SOURCES):
        run = with_own_text(run)
    return dataclasses.replace(run, **given)
