"""Named runs: the data, the two stages and the budget of a whole pipeline run."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_PREDICTIONS = {128: 20, 512: 77}  # 15 % of the length, as google-research/bert's README advises
EVALUATIONS = 20  # in a whole schedule, where a run does not say otherwise
EVAL_SHARE = 0.05  # of the time of training


@dataclass(frozen=True)
class Run:
    """One run of the pretraining pipeline, in the terms of its user."""

    model: str = "base"  # a size of the table in model/config.py, or a bert_config.json
    dump: str = ""  # Wikipedia pages-articles dumps: files or globs, comma-separated
    books: str = ""  # a folder of .txt books, or globs
    text: str = ""  # plain text files: globs
    wikiextractor: str = ""  # a folder of WikiExtractor output
    jsonl: str = ""  # JSON lines with a "text" each: globs
    allow_truncated: bool = False  # use a dump that was cut short up to the cut
    vocab: str = ""  # a released vocab.txt; empty: learn one from the text
    vocab_size: int = 30000  # entries of a learned vocabulary
    do_lower_case: bool = True  # the vocabulary is uncased
    steps_128: int = 900  # training steps at length 128
    steps_512: int = 100  # training steps at length 512; 10 % of all, Devlin et al. 2018, A.2
    batch: int = 32  # sequences per step at length 128
    batch_512: int = 0  # sequences per step at length 512; 0: a quarter of batch, so as many tokens
    learning_rate: float = 1e-4  # peak; Devlin et al. 2018, A.2; 2e-5 to go on from a released model (its README)
    learning_rate_decay: str = "original"  # or linear: without a jump where the warm-up ends
    optimizer: str = "bert_adam"  # without bias correction; or adamw, lamb
    warmup_share: float = 0.1  # of all steps; the paper's 1 % is of a million
    initializer_range: float = 0.0  # of the first weights; 0: the model's own, 0.02
    attention_initializer: str = "random"  # or neighbours: heads begin at the words beside, for short trainings
    dropout: float = -1.0  # in pretraining; -1: the model's own, 0.1
    initial: str = ""  # a released model of any format to go on from; its vocab.txt must be given as vocab
    initialize: str = ""  # its heads to make afresh where it lacks them: pooler, masked_lm, next_sentence
    precision: str = "float32"  # or mixed_bfloat16, faster where the processor has bfloat16 units
    jit_compile: bool = True  # by XLA: repeatable to the bit; without it bfloat16 is faster on processors
    backend: str = ""  # tensorflow or jax; none: the variable KERAS_BACKEND's, or tensorflow
    devices: int = 1  # that share each batch (jax)
    gradient_accumulation_steps: int = 1  # parts of a batch, to need less memory
    recompute_layers: int = 0  # layers whose values the gradient computes again to need less memory
    dupe_factor: int = 5  # differently masked copies of the text at length 128; 1 at 512 and with dynamic masking
    do_whole_word_mask: bool = True  # as the models released in 2019
    masking: str = "static"  # or dynamic: fresh masks in each epoch
    segmenter: str = ""  # words of scripts without blanks, masked as a whole: jieba, presegmented, module:function
    schema: str = "compact"  # or canonical: records that google-research/bert's run_pretraining.py reads, too
    # Of the training records: batches of short rows are computed at the width of their bin. With 128,256,384 it leaves
    # at 512 5 % of padding instead of 21 % in novels, 23 instead of 63 % in Wikipedia's many short articles.
    length_bins: str = ""  # such as 64,96,128,256,384; empty: all rows at 128 or 512, as the original
    heldout_share: float = 0.05  # of the documents, never trained on
    evaluate_examples: int = 0  # held-out records scored per length; 0: all, but in training what takes 5 % of its time
    eval_every: int = 0  # steps between scores on held-out records in training; 0: a 20th of all, at least save_every
    pairs: str = ""  # folder with train.tsv and dev.tsv in MRPC columns
    sentences: str = ""  # folder with train.tsv and dev.tsv in SST-2 columns
    finetune_epochs: float = 3.0  # passes over a task's training set
    finetune_length: int = 128  # word pieces per example of a task
    finetune_learning_rate: float = 5e-5  # google-research/bert's default
    save_every: int = 100  # steps between checkpoints
    num_workers: int = 1  # processes that prepare data; the records are the same for any number
    seed: int = 12345  # of masks, weights and order

    def __post_init__(self) -> None:
        """Refuse budgets that no run can have."""
        for name in ("steps_128", "steps_512", "batch", "num_workers", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("evaluate_examples", "eval_every", "batch_512"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")


# The corpus of examples/ and what suits its size; replaced as a whole when a run names text of its own.
EXAMPLE_TEXT: dict[str, Any] = {
    "dump": "examples/encyclopedia.xml",
    "books": "examples/books",
    "vocab_size": 3000,
    "heldout_share": 0.15,
}
EXAMPLE_TASKS: dict[str, Any] = {"pairs": "examples/tasks/pairs", "sentences": "examples/tasks/sentiment"}

# Budgets for 2 cores: each ends within 20 minutes; far too short for a useful model of Base's size.
RUNS: dict[str, Run] = {
    "base": Run(
        **EXAMPLE_TEXT,
        **EXAMPLE_TASKS,
        model="base",
        steps_128=24,
        steps_512=3,
        batch=8,
        save_every=8,
        finetune_epochs=1.0,
        finetune_length=48,
    ),
    # First weights in the range 1 / sqrt(hidden_size): Tiny then leaves the plateau of the unigram entropy sooner
    # than with 0.02, which was made for hidden_size 768 (docs/decisions.md).
    "tiny": Run(
        **EXAMPLE_TEXT,
        **EXAMPLE_TASKS,
        model="tiny",
        steps_128=900,
        steps_512=100,
        batch=16,
        learning_rate=1e-3,
        initializer_range=0.09,
        dropout=0.0,
    ),
}
# What a run and its steps call alike.
COMPUTATION_FIELDS = ("precision", "jit_compile", "backend")
STAGE_FIELDS = (
    *COMPUTATION_FIELDS,
    *("learning_rate", "learning_rate_decay", "optimizer", "initializer_range", "dropout"),
    *("devices", "gradient_accumulation_steps", "recompute_layers", "do_lower_case", "seed"),
)
TEXT_SOURCES = ("dump", "books", "text", "wikiextractor", "jsonl")


def with_own_text(run: Run) -> Run:
    """`run` without the example's text and what suits its size, for text that the user names."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Run)}
    return dataclasses.replace(run, **{name: defaults[name] for name in EXAMPLE_TEXT})


def pipeline_arguments(run: Run) -> dict[str, Any]:
    """The arguments of pipelines/pretraining.py that carry out `run`, without store and run name."""
    stages = {"num_train_steps": run.steps_128 + run.steps_512, "num_warmup_steps": _warmup(run)}
    return {
        **{name: getattr(run, name) for name in TEXT_SOURCES},
        "tasks": _tasks(run),
        "vocab": run.vocab,
        "initial": run.initial,
        "ingest": {"allow_truncated": run.allow_truncated, "num_workers": run.num_workers},
        "vocabulary": {"vocab_size": run.vocab_size, "do_lower_case": run.do_lower_case},
        "prepare_128": _records(run, 128, "train", 1 if run.masking == "dynamic" else run.dupe_factor),
        "prepare_512": _records(run, 512, "train", 1),
        "heldout_128": _records(run, 128, "heldout", 1),
        "heldout_512": _records(run, 512, "heldout", 1),
        "pretrain_128": _stage(run, 128, run.batch)
        | stages
        | {"stop_at_step": run.steps_128, "initialize": run.initialize},
        "pretrain_512": _stage(run, 512, batch_512(run)) | stages,
        "evaluate": {
            "eval_batch_size": 16,
            "max_examples": run.evaluate_examples,
            **{name: getattr(run, name) for name in COMPUTATION_FIELDS},
        },
        "finetune": {
            "num_train_epochs": run.finetune_epochs,
            "max_seq_length": run.finetune_length,
            "learning_rate": run.finetune_learning_rate,
            **{name: getattr(run, name) for name in COMPUTATION_FIELDS},
            "seed": run.seed,
        },
    }


def batch_512(run: Run) -> int:
    """Sequences per step at length 512: if not set, as many word pieces as a step at 128 has."""
    return run.batch_512 or max(1, run.batch // 4)


def _warmup(run: Run) -> int:
    return max(1, round(run.warmup_share * (run.steps_128 + run.steps_512)))


def _records(run: Run, length: int, part: str, dupe_factor: int) -> dict[str, Any]:
    return {
        "max_seq_length": length,
        "max_predictions_per_seq": MAX_PREDICTIONS[length],
        "part": part,
        "dupe_factor": dupe_factor,
        "do_whole_word_mask": run.do_whole_word_mask,
        "do_lower_case": run.do_lower_case,
        "heldout_share": run.heldout_share,
        "masking": run.masking if part == "train" else "static",  # the same held-out masks for every model
        "segmenter": run.segmenter,
        "schema": run.schema,
        # The first records of a held-out set may be scored alone, so they must be of all lengths.
        "length_bins": _bins_of(length, run.length_bins) if part == "train" else "",
        "num_workers": run.num_workers,
        "seed": run.seed,
    }


def _bins_of(length: int, bins: str) -> str:
    """Those of a stage: at 512 all (which refuses wider ones), at 128 the narrow ones."""
    widths = [width.strip() for width in bins.split(",")]
    return ",".join(width for width in widths if length == 512 or (width.isdecimal() and int(width) < length))


def _stage(run: Run, length: int, batch: int) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in STAGE_FIELDS},
        "model": "" if run.initial else run.model,
        "attention_initializer": "random" if run.initial else run.attention_initializer,
        "max_seq_length": length,
        "train_batch_size": batch,
        "save_checkpoints_steps": run.save_every,
        "eval_every_steps": _eval_every(run),
        "eval_batch_size": batch,
        "max_eval_examples": _eval_examples(run, batch),
    }


def _eval_every(run: Run) -> int:
    return run.eval_every or max(run.save_every, (run.steps_128 + run.steps_512) // EVALUATIONS)


def _eval_examples(run: Run, batch: int) -> int:
    """So many that evaluations take EVAL_SHARE of the time of training; a forward pass is a third of a step."""
    affordable = max(batch, round(EVAL_SHARE * 3 * batch * _eval_every(run)))
    return min(affordable, run.evaluate_examples or affordable)


def _tasks(run: Run) -> list[dict[str, str]]:
    folders = {"mrpc": run.pairs, "sst2": run.sentences}
    return [
        {"kind": kind, "train": str(Path(folder) / "train.tsv"), "dev": str(Path(folder) / "dev.tsv")}
        for kind, folder in folders.items()
        if folder
    ]
