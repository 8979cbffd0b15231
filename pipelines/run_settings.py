"""Named runs: the data, the two stages and the budget of a whole pipeline run."""

import dataclasses
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from bertline.components.corpus.vocabulary import VocabularyConfig
from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.step_table import INGEST
from bertline.components.tasks.classification import columns_of
from bertline.model.finetuning.run import FinetuneConfig
from bertline.model.pretraining.config import PretrainConfig
from bertline.pipelines.step_settings import RUN_STEPS, StepSetting, config_class, select_settings
from bertline.settings import require_at_least

EVALUATIONS = 20  # in a whole schedule, where a run does not say otherwise
EVAL_SHARE = 0.05  # of the time of training


def parse_tasks(tasks: tuple[str, ...]) -> dict[str, str]:
    """Task -> its folder, of texts such as "mrpc=MRPC/"; ValueError for an unknown task and one named twice.

    >>> parse_tasks(("mrpc=a=b/", "sst2=SST-2"))
    {'mrpc': 'a=b/', 'sst2': 'SST-2'}
    """
    folders: dict[str, str] = {}
    for given in tasks:
        task, _, folder = given.partition("=")
        if not folder:
            raise ValueError(f'task is "{given}"; give TASK=FOLDER, such as mrpc=MRPC/')
        columns_of(task)  # refuses what it does not know
        if task in folders:
            raise ValueError(f'task {task} is given twice, with "{folders[task]}" and with "{folder}"; give one')
        folders[task] = folder
    return folders


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
    vocab_size: int = VocabularyConfig.vocab_size  # entries of a learned vocabulary
    do_lower_case: bool = PrepareConfig.do_lower_case  # the vocabulary is uncased
    steps_128: int = 900  # training steps at length 128
    steps_512: int = 100  # training steps at length 512; 10 % of all, Devlin et al. 2018, A.2
    batch: int = PretrainConfig.train_batch_size  # sequences per step at length 128
    batch_512: int = 0  # sequences per step at length 512; 0: a quarter of batch, so as many tokens
    learning_rate: float = PretrainConfig.learning_rate  # peak; 2e-5 to go on from a released model (its README)
    learning_rate_decay: str = PretrainConfig.learning_rate_decay  # or linear: no jump where the warm-up ends
    optimizer: str = PretrainConfig.optimizer  # without bias correction; or adamw, lamb
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
    do_whole_word_mask: bool = PrepareConfig.do_whole_word_mask  # as the models released in 2019
    masking: str = PrepareConfig.masking  # or dynamic: fresh masks in each epoch
    segmenter: str = ""  # words of scripts without blanks, masked as a whole: jieba, presegmented, module:function
    schema: str = "compact"  # or canonical: records that google-research/bert's run_pretraining.py reads, too
    # Of the training records: batches of short rows are computed at the width of their bin. With 128,256,384 it leaves
    # at 512 5 % of padding instead of 21 % in novels, 23 instead of 63 % in Wikipedia's many short articles.
    length_bins: str = ""  # such as 64,96,128,256,384; empty: all rows at 128 or 512, as the original
    heldout_share: float = PrepareConfig.heldout_share  # of the documents, never trained on
    evaluate_examples: int = 0  # held-out records scored per length; 0: all, but in training what takes 5 % of its time
    eval_every: int = 0  # steps between scores on held-out records in training; 0: a 20th of all, at least save_every
    tasks: tuple[str, ...] = ()  # to fine-tune on, mrpc=DIR or sst2=DIR: folders with train.tsv and dev.tsv
    finetune_epochs: float = FinetuneConfig.num_train_epochs  # passes over a task's training set
    finetune_length: int = FinetuneConfig.max_seq_length  # word pieces per example of a task
    finetune_learning_rate: float = FinetuneConfig.learning_rate  # google-research/bert's default
    save_every: int = 100  # steps between checkpoints
    num_workers: int = 1  # processes that prepare data; the records are the same for any number
    seed: int = PretrainConfig.seed  # of masks, weights and order
    steps: tuple[StepSetting, ...] = ()  # settings of single steps, over those that follow from the above

    def __post_init__(self) -> None:
        """Refuse budgets that no run can have."""
        require_at_least(self, 1, "steps_128", "steps_512", "batch", "num_workers", "save_every")
        require_at_least(self, 0, "evaluate_examples", "eval_every", "batch_512")
        parse_tasks(self.tasks)


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
TEXT_SOURCES = tuple(INGEST.inputs)


def with_own_text(run: Run) -> Run:
    """`run` without the example's text, what suits its size, and its tasks, for text that the user names."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Run)}
    return dataclasses.replace(run, **{name: defaults[name] for name in OF_EXAMPLE})


def pipeline_arguments(run: Run) -> dict[str, Any]:
    """The arguments of pipelines/pretraining.py that carry out `run`, without store and run name.

    Those of each step are all fields of its config, valid or not.
    """
    derived = derive_settings(run)
    steps = {}
    for step in RUN_STEPS:
        defaults = {field.name: field.default for field in dataclasses.fields(config_class(step))}
        steps[step] = {**defaults, **derived[step], **_select_given(run, step)}
    return {
        **{name: getattr(run, name) for name in TEXT_SOURCES},
        "tasks": _list_tasks(run),
        "vocab": run.vocab,
        "initial": run.initial,
        **steps,
    }


def derive_settings(run: Run) -> dict[str, dict[str, Any]]:
    """What the short names say of every step, which its own settings may say otherwise."""
    records = {step: _records(run, step) for step in ("prepare_128", "prepare_512", "heldout_128", "heldout_512")}
    stages = {"num_train_steps": run.steps_128 + run.steps_512, "num_warmup_steps": _warmup(run)}
    computation = {name: getattr(run, name) for name in COMPUTATION_FIELDS}
    first = {"stop_at_step": run.steps_128, "initialize": run.initialize}
    return {
        "ingest": {"allow_truncated": run.allow_truncated, "num_workers": run.num_workers},
        "split": {"num_workers": run.num_workers},
        "vocabulary": {"vocab_size": run.vocab_size, "do_lower_case": run.do_lower_case},
        **records,
        "pretrain_128": _stage(run, "pretrain_128", run.batch) | stages | first,
        "pretrain_512": _stage(run, "pretrain_512", batch_512(run)) | stages,
        "evaluate": {"eval_batch_size": 16, "max_examples": run.evaluate_examples, **computation},
        "finetune": {
            "num_train_epochs": run.finetune_epochs,
            "max_seq_length": run.finetune_length,
            "learning_rate": run.finetune_learning_rate,
            **computation,
            "seed": run.seed,
        },
        "export": {},
    }


def batch_512(run: Run) -> int:
    """Sequences per step at length 512: if not set, as many word pieces as a step at 128 has."""
    return run.batch_512 or max(1, run.batch // 4)


def _select_given(run: Run, step: str) -> dict[str, Any]:
    return {name: setting.value for name, setting in select_settings(step, run.steps).items()}


def _warmup(run: Run) -> int:
    return max(1, round(run.warmup_share * (run.steps_128 + run.steps_512)))


def _records(run: Run, step: str) -> dict[str, Any]:
    given, length, trained_on = _select_given(run, step), _length(step), step.startswith("prepare")
    masking = given.get("masking", run.masking if trained_on else "static")  # the same held-out masks for every model
    return {
        "max_seq_length": length,
        "max_predictions_per_seq": _predictions(length, given.get("masked_lm_prob", PrepareConfig.masked_lm_prob)),
        "part": "train" if trained_on else "heldout",
        "dupe_factor": run.dupe_factor if step == "prepare_128" and masking == "static" else 1,
        "do_whole_word_mask": run.do_whole_word_mask,
        "do_lower_case": run.do_lower_case,
        "heldout_share": run.heldout_share,
        "masking": masking,
        "segmenter": run.segmenter,
        "schema": run.schema,
        # The first records of a held-out set may be scored alone, so they must be of all lengths.
        "length_bins": _bins_of(length, run.length_bins) if trained_on else "",
        "num_workers": run.num_workers,
        "seed": run.seed,
    }


def _length(step: str) -> int:
    return int(step.rpartition("_")[2])


def _predictions(length: int, masked_lm_prob: float) -> int:
    """20 at length 128 and 77 at 512 for the usual 0.15, as google-research/bert's README advises."""
    return math.ceil(length * masked_lm_prob) if 0 < masked_lm_prob <= 1 else 1  # others are refused by prepare


def _bins_of(length: int, bins: str) -> str:
    """Those of a stage: at 512 all (which refuses wider ones), at 128 the narrow ones."""
    widths = [width.strip() for width in bins.split(",")]
    return ",".join(width for width in widths if length == 512 or (width.isdecimal() and int(width) < length))


def _stage(run: Run, step: str, batch: int) -> dict[str, Any]:
    given = _select_given(run, step)
    batch = given.get("train_batch_size", batch)
    save_every = given.get("save_checkpoints_steps", run.save_every)
    eval_every = run.eval_every or max(save_every, (run.steps_128 + run.steps_512) // EVALUATIONS)
    return {
        **{name: getattr(run, name) for name in STAGE_FIELDS},
        "model": "" if run.initial else run.model,
        "attention_initializer": "random" if run.initial else run.attention_initializer,
        "max_seq_length": _length(step),
        "train_batch_size": batch,
        "save_checkpoints_steps": save_every,
        "eval_every_steps": eval_every,
        "eval_batch_size": batch,
        "max_eval_examples": _eval_examples(run, batch, given.get("eval_every_steps", eval_every)),
    }


def _eval_examples(run: Run, batch: int, eval_every: int) -> int:
    """So many that evaluations take EVAL_SHARE of the time of training; a forward pass is a third of a step."""
    affordable = max(batch, round(EVAL_SHARE * 3 * batch * eval_every))
    return min(affordable, run.evaluate_examples or affordable)


def _list_tasks(run: Run) -> list[dict[str, str]]:
    return [
        {"kind": kind, "train": str(Path(folder) / "train.tsv"), "dev": str(Path(folder) / "dev.tsv")}
        for kind, folder in parse_tasks(run.tasks).items()
    ]
