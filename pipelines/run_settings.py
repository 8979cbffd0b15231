"""The settings of a whole pipeline run, and what they say of each of its steps."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.components.corpus.vocabulary import VocabularyConfig
from bertline.components.pretraining_data.config import MASKING, PrepareConfig
from bertline.components.promotion import RULES
from bertline.components.step_table import INGEST
from bertline.components.store.folder import SCHEME
from bertline.components.tasks.classification import columns_of
from bertline.model.attention_init import ATTENTION_INITIALIZERS
from bertline.model.finetuning.run import FinetuneConfig
from bertline.model.pretraining.config import PretrainConfig
from bertline.model.records.reader import SCHEMAS
from bertline.model.training.update import DECAYS, OPTIMIZERS
from bertline.pipelines.step_settings import RUN_STEPS, StepSetting, config_class, select_settings
from bertline.settings import BACKENDS, PRECISIONS, one_of, path, require_at_least, require_choices

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

    # the text:
    dump: str = path()  # dumps of Wikipedia, pages-articles (.xml, .xml.bz2, .xml.gz): files or globs, comma-separated
    books: str = path()  # plain-text books: a folder of .txt files, files or globs
    text: str = path()  # plain-text files, a document each: globs
    wikiextractor: str = path()  # a folder of WikiExtractor's output
    jsonl: str = path()  # JSON lines with a "text" each: globs
    allow_truncated: bool = False  # whether a dump that is cut is used up to the cut, and not refused

    # the vocabulary:
    vocab: str = path()  # a released vocab.txt; none: one is learned from the text
    vocab_size: int = VocabularyConfig.vocab_size  # entries of a learned vocabulary at most
    do_lower_case: bool = PrepareConfig.do_lower_case  # whether text is lower-cased and loses its accents

    # the model:
    model: str = "base"  # a size (tiny, mini, small, medium, base, large, or 4/512 for 4 layers of 512), or the path of
    # a bert_config.json
    initial: str = path()  # a released model of any format to go on from; its vocab.txt must be given as vocab
    initialize: str = ""  # its heads to make afresh where it lacks them: pooler, masked_lm, next_sentence
    dropout: float = -1.0  # share of hidden units and of attention dropped in pretraining; -1: the model's own, 0.1
    initializer_range: float = 0.0  # standard deviation of the first weights; 0: the model's own, 0.02
    attention_initializer: str = one_of("random", ATTENTION_INITIALIZERS)  # how heads begin; neighbours: at
    # the words beside, for short trainings

    # the schedule:
    steps_128: int = 900  # training steps at length 128
    steps_512: int = 100  # training steps at length 512; 10 % of all: Devlin et al. 2018, A.2
    batch: int = PretrainConfig.train_batch_size  # sequences of a step at length 128
    batch_512: int = 0  # sequences of a step at length 512; 0: a quarter of batch, so as many tokens
    warmup_share: float = 0.1  # share of all steps in which the learning rate rises; the paper's 1 % is of a million
    learning_rate: float = PretrainConfig.learning_rate  # the learning rate's peak, after the warm-up; 2e-5 for initial
    learning_rate_decay: str = one_of(PretrainConfig.learning_rate_decay, DECAYS)  # how the rate falls: as if
    # from step 0, with a jump after the warm-up as in the original; or linear from the warm-up's end
    optimizer: str = one_of(PretrainConfig.optimizer, OPTIMIZERS)  # the optimizer; bert_adam is the original's
    seed: int = PretrainConfig.seed  # seed of masks, weights and order

    # the records:
    dupe_factor: int = 5  # passes over the text at length 128, differently masked; 1 at 512 and with dynamic masking
    masking: str = one_of(PrepareConfig.masking, MASKING)  # when masks are drawn: once, or in each epoch afresh
    do_whole_word_mask: bool = PrepareConfig.do_whole_word_mask  # whether words are masked as a whole
    segmenter: str = ""  # what finds the words of scripts without blanks: jieba, presegmented, module:function
    schema: str = one_of("compact", SCHEMAS)  # how rows are stored: as run_pretraining.py reads them, or smaller
    length_bins: str = ""  # widths for batches of shorter rows, such as 64,96,128,256,384; none: all at 128 or 512
    heldout_share: float = PrepareConfig.heldout_share  # share of the documents that is never trained on

    # the machine:
    backend: str = one_of("", ("", *BACKENDS))  # what computes; none: the variable KERAS_BACKEND's, or tensorflow
    precision: str = one_of("float32", PRECISIONS)  # how exactly to compute; mixed_bfloat16 is faster on new processors
    devices: int = 1  # devices that share each batch (jax)
    gradient_accumulation_steps: int = 1  # parts in which a batch is computed, one after the other, to need less memory
    recompute_layers: int = 0  # layers whose values the gradient computes again, to need less memory; 0: none
    jit_compile: bool = True  # whether XLA compiles, which repeats to the bit; on processors bfloat16 is faster without
    num_workers: int = 1  # processes that prepare data; the records are the same for any number
    save_every: int = 100  # steps between two snapshots, at which an interrupted training goes on

    # scores on held-out records:
    eval_every: int = 0  # steps between two scores in training; 0: a 20th of all steps, at least save_every
    evaluate_examples: int = 0  # records scored at each length; 0: all, but in training what takes 5 % of its time

    # the newest model:
    promotion: str = one_of("always", RULES)  # when `latest` leads to what the run made: always, or only where it is
    # no_worse than what it led to, or better in something

    # fine-tuning:
    tasks: tuple[str, ...] = ()  # tasks to fine-tune on, mrpc=DIR or sst2=DIR: folders with train.tsv and dev.tsv
    finetune_epochs: float = FinetuneConfig.num_train_epochs  # passes over a task's training set
    finetune_length: int = FinetuneConfig.max_seq_length  # tokens of a task's example, [CLS] and each [SEP] among them
    finetune_learning_rate: float = FinetuneConfig.learning_rate  # the learning rate's peak; google-research/bert's

    steps: tuple[StepSetting, ...] = ()  # settings of single steps, over those that follow from the above

    def __post_init__(self) -> None:
        """Refuse budgets that no run can have."""
        require_choices(self)
        require_at_least(self, 1, "steps_128", "steps_512", "batch", "num_workers", "save_every")
        require_at_least(self, 0, "evaluate_examples", "eval_every", "batch_512")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share is {self.warmup_share}; it must lie between 0 and 1")
        parse_tasks(self.tasks)


# What a run and its steps call alike.
COMPUTATION_FIELDS = ("precision", "jit_compile", "backend")
STAGE_FIELDS = (
    *COMPUTATION_FIELDS,
    *("learning_rate", "learning_rate_decay", "optimizer", "initializer_range", "dropout"),
    *("devices", "gradient_accumulation_steps", "recompute_layers", "do_lower_case", "seed"),
)
TEXT_SOURCES = tuple(INGEST.inputs)


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
        "promotion": run.promotion,
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
        {"kind": kind, **{name: _find_set(folder, name) for name in ("train", "dev")}}
        for kind, folder in parse_tasks(run.tasks).items()
    ]


def _find_set(folder: str, name: str) -> str:
    """A task's set, packed or not; in a bucket it is not."""
    if folder.startswith(SCHEME):
        return f"{folder.rstrip('/')}/{name}.tsv"
    plain, packed = Path(folder) / f"{name}.tsv", Path(folder) / f"{name}.tsv.gz"
    return str(packed if packed.is_file() and not plain.is_file() else plain)
