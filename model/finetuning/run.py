"""A pretrained checkpoint -> a classifier of one task, with its scores on the task's development set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.model.config import BertConfig, classifier_shapes, encoder_shapes
from bertline.model.records.reader import batch_indices, host_share
from bertline.model.training.backends.choice import Hosts, use_backend
from bertline.model.training.best import Measure
from bertline.model.training.checkpoint import Arrays, Checkpoint, digest_of, read_checkpoint, select
from bertline.model.training.snapshots import restore
from bertline.model.training.speed import classification_work
from bertline.model.training.stage import Stage, Training
from bertline.model.training.update import Schedule
from bertline.settings import (
    BACKENDS,
    PRECISIONS,
    list_settings,
    one_of,
    require_at_least,
    require_choices,
    require_length,
    require_positive,
    require_seed,
)

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights
    from bertline.model.training.update import Update

INPUTS = ("input_ids", "input_mask", "segment_ids")  # of examples, int32 [N, W]; beside them label_ids int32 [N]
LOGGED = ("accuracy", "loss", "f1")  # of the scores on the way


@dataclass(frozen=True)
class FinetuneConfig:
    """One fine-tuning; defaults are run_classifier's unless said otherwise."""

    # the schedule:
    max_seq_length: int = 128  # tokens of an example, [CLS] and each [SEP] among them; the rest is cut off
    train_batch_size: int = 32  # examples of a step
    num_train_epochs: float = 3.0  # passes over the training set
    learning_rate: float = 5e-5  # the learning rate's peak, at the end of the warm-up
    warmup_proportion: float = 0.1  # share of the steps in which the learning rate rises
    seed: int = 12345  # seed of the head's first weights, the order of examples and dropout

    # the machine:
    backend: str = one_of("", ("", *BACKENDS))  # what computes; none: the variable KERAS_BACKEND's, or tensorflow
    precision: str = one_of("float32", PRECISIONS)  # precision of the computation; mixed_bfloat16 is faster on
    # processors that have it
    steps_per_call: int = 1  # updates of one compiled call; more keep a fast device busy where a step takes few ms
    jit_compile: bool = True  # whether XLA compiles, which repeats to the bit

    # scores on the development set:
    eval_every_steps: int = 0  # steps between two scores; 0: at the end of each epoch
    eval_batch_size: int = 32  # examples that are scored at a time; any number gives the same scores but for rounding

    # checkpoints and log:
    save_checkpoints_steps: int = field(default=1000, metadata={"volatile": True})  # steps between two snapshots, at
    # which an interrupted training goes on
    log_every_steps: int = 20  # steps between two rows of training_log.jsonl

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_at_least(self, 1, "max_seq_length", "train_batch_size", "eval_batch_size")
        require_at_least(self, 1, "log_every_steps", "steps_per_call", "save_checkpoints_steps")
        require_at_least(self, 0, "eval_every_steps")
        require_positive(self, "learning_rate", "num_train_epochs")
        require_choices(self)
        require_seed(self.seed)
        if not 0 <= self.warmup_proportion <= 1:
            raise ValueError(f"warmup_proportion is {self.warmup_proportion}; it must lie between 0 and 1")


def run(
    checkpoint: Path,
    train: Arrays,
    dev: Arrays,
    labels: Sequence[str],
    out: Path,
    config: FinetuneConfig,
    *,
    work: Path,
    log_dir: Path | None = None,
    digests: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, int | float]:
    """Train on the examples `train`, score on `dev`; label_ids count in `labels`.

    Writes the model's folder, scores.json and predictions.tsv (index, label, probabilities in the order of
    `labels`) into `out`, all of the last weights, and the weights of the highest accuracy on the way into `out/best`
    if they are others. Snapshots go to `work`, which the caller deletes, and TensorBoard events to `log_dir`: as in
    pretraining, the same call after a crash goes on to the same bytes, and is refused with other settings, examples or
    `digests` of its input.
    Raises PreemptedError when SIGTERM came, after a snapshot.
    """
    use_backend(config.backend)
    pretrained = read_checkpoint(checkpoint)
    require_length(config.max_seq_length, pretrained.bert_config.max_position_embeddings)
    for name, examples in (("train", train), ("dev", dev)):
        _require_fitting(name, examples, len(labels), config.max_seq_length)
    start = _put_head_on(pretrained, checkpoint, len(labels), config)
    stage = _new_stage(start, train, dev, labels, config, digests)
    reached, log = restore(work, start, (), stage.identity, config)
    training = Training(stage, reached, log, work, log_dir=log_dir)
    del pretrained, start, reached  # the training has copies of its own
    final = training.run()
    counts = training.write(out, dataclasses.replace(final, slots=None))
    assert isinstance(stage.score, DevelopmentScore)
    probabilities = stage.score.probabilities  # of the last weights, which are always scored
    scores = {"steps": stage.last_step, **classification_scores(probabilities, dev["label_ids"], train["label_ids"])}
    (out / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (out / "predictions.tsv").write_text(_predictions_table(probabilities, labels), encoding="utf-8")
    return {**scores, **{name: value for name, value in counts.items() if name.startswith("best.")}}


def classification_scores(
    probabilities: np.ndarray, label_ids: np.ndarray, train_label_ids: np.ndarray
) -> dict[str, int | float]:
    """Accuracy, that of always answering with the training set's commonest label, and F1 of label 1 of two."""
    predicted = probabilities.argmax(axis=-1)
    commonest = np.bincount(train_label_ids).argmax()
    scores: dict[str, int | float] = {
        "accuracy": float(np.mean(predicted == label_ids)),
        "majority_accuracy": float(np.mean(label_ids == commonest)),
        "loss": float(np.mean(-np.log(np.maximum(probabilities[np.arange(len(label_ids)), label_ids], 1e-30)))),
        "examples.train": len(train_label_ids),
        "examples.dev": len(label_ids),
    }
    if probabilities.shape[1] == 2:
        both = int(np.sum((predicted == 1) & (label_ids == 1)))
        either = int(np.sum(predicted == 1) + np.sum(label_ids == 1))
        scores["f1"] = 2 * both / either if either else 0.0
    return scores


def _require_fitting(name: str, examples: Arrays, num_labels: int, max_seq_length: int) -> None:
    count, length = examples["input_ids"].shape
    if not count:
        raise ValueError(f"{name}: no examples")
    if length != max_seq_length:
        raise ValueError(
            f"{name}: examples have length {length}, max_seq_length is {max_seq_length}; encode them again"
        )
    wrong = np.flatnonzero((examples["label_ids"] < 0) | (examples["label_ids"] >= num_labels))
    if len(wrong):
        label = examples["label_ids"][wrong[0]]
        raise ValueError(f"{name}: example {wrong[0]} has label id {label}, but there are {num_labels} labels")


def _put_head_on(pretrained: Checkpoint, checkpoint: Path, num_labels: int, config: FinetuneConfig) -> Checkpoint:
    """The pretrained encoder under a fresh head; the pretraining heads are left behind."""
    from bertline.model.bert import initial_weights

    shape = pretrained.bert_config
    encoder = select(pretrained.weights, encoder_shapes(shape), checkpoint)
    head = {name: size for name, size in classifier_shapes(shape, num_labels).items() if name not in encoder}
    weights = encoder | initial_weights(head, shape.initializer_range, config.seed)
    return dataclasses.replace(pretrained, weights=weights, state={"step": 0})


def _new_stage(
    start: Checkpoint,
    train: Arrays,
    dev: Arrays,
    labels: Sequence[str],
    config: FinetuneConfig,
    digests: Mapping[str, Any],
) -> Stage:
    count, size, shape = len(train["label_ids"]), config.train_batch_size, start.bert_config
    steps = max(1, int(count / size * config.num_train_epochs))
    identity = {
        **list_settings(config),
        **digests,
        "first_weights": digest_of(start.weights),
        "labels": list(labels),
        "train": digest_of(train),
        "dev": digest_of(dev),
    }
    return Stage(
        label="finetune",
        update=_new_update(shape, steps, config),
        data=TaskBatches(train, size, config.seed),
        first_step=0,
        last_step=steps,
        work_of=lambda batch: classification_work(shape, size, batch["input_ids"].shape[-1], len(labels)),
        identity=identity,
        score=DevelopmentScore(dev, train["label_ids"], shape, config),
        eval_every_steps=config.eval_every_steps or -(-count // size),
        save_checkpoints_steps=config.save_checkpoints_steps,
        steps_per_call=config.steps_per_call,
        jit_compile=config.jit_compile,
        state={"labels": list(labels)},
    )


def _new_update(shape: BertConfig, steps: int, config: FinetuneConfig) -> Update:
    from bertline.model.heads import classifier_losses, classifier_whole
    from bertline.model.training.update import Objective, Update

    return Update(
        Objective(classifier_whole, lambda weights, *rest: classifier_losses(weights, shape, *rest)),
        Schedule(config.learning_rate, steps, int(steps * config.warmup_proportion)),
        seed=config.seed,
        precision=config.precision,
    )


@dataclass(frozen=True)
class TaskBatches:
    """The batches of a task's training set (bertline.model.training.stage.Data)."""

    examples: Arrays
    batch_size: int
    seed: int

    def batch_at(self, step: int, hosts: Hosts) -> dict[str, np.ndarray]:
        """This host's rows of the batch that follows `step` updates."""
        places = self.examples_at(step)[host_share(self.batch_size, hosts.number, hosts.count)]
        return {name: self.examples[name][places] for name in (*INPUTS, "label_ids")}

    def examples_at(self, step: int) -> np.ndarray:
        """The numbers of the examples of that batch."""
        return batch_indices(len(self.examples["label_ids"]), self.batch_size, self.seed, step)


class DevelopmentScore:
    """The scores of weights on a task's development set (bertline.model.training.stage.Score)."""

    measure = Measure("accuracy", highest=True)
    probabilities: np.ndarray  # of the weights scored last, float32 [N, labels]

    def __init__(self, dev: Arrays, train_label_ids: np.ndarray, shape: BertConfig, config: FinetuneConfig) -> None:
        """`train_label_ids` say what the commonest label is."""
        self._dev, self._train_label_ids, self._shape, self._config = dev, train_label_ids, shape, config

    def compute(self, weights: Weights, batch: Mapping[str, Tensor]) -> Tensor:
        """Probabilities of a batch."""
        return _probabilities(weights, self._shape, batch, self._config.precision)

    def score(self, forward: Callable[[Arrays], Any], stopping: Callable[[], bool]) -> dict[str, float] | None:
        """Scores of all examples; None once `stopping` says so."""
        found = []
        for batch in _batches(self._dev, self._config):
            if stopping():
                return None
            found.append(np.asarray(forward(batch)))
        label_ids = self._dev["label_ids"]
        self.probabilities = np.concatenate(found)[: len(label_ids)]
        scores = classification_scores(self.probabilities, label_ids, self._train_label_ids)
        return {name: scores[name] for name in LOGGED if name in scores}

    def describe(self, scores: Mapping[str, float]) -> str:
        """The scores as the user is told of them."""
        return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _probabilities(weights: Weights, shape: BertConfig, batch: Mapping[str, Tensor], precision: str) -> Tensor:
    from keras import ops

    from bertline.model.bert import in_precision
    from bertline.model.heads import classifier_logits, encode_batch

    computing = in_precision(weights, precision)
    return ops.softmax(classifier_logits(computing, encode_batch(computing, shape, batch).pooled))


def _batches(examples: Arrays, config: FinetuneConfig) -> Iterator[dict[str, np.ndarray]]:
    """The inputs of all examples, eval_batch_size at a time.

    Every batch has the same size, the last filled up with its last example, so that one graph serves all.
    """
    count, size = len(examples["input_ids"]), config.eval_batch_size
    for first in range(0, count, size):
        places = np.minimum(np.arange(first, first + size), count - 1)
        yield {name: examples[name][places] for name in INPUTS}


def _predictions_table(probabilities: np.ndarray, labels: Sequence[str]) -> str:
    lines = ["\t".join(["index", "label", *labels])]
    for index, row in enumerate(probabilities):
        lines.append("\t".join([str(index), labels[int(row.argmax())], *(f"{value:.7g}" for value in row)]))
    return "\n".join(lines) + "\n"
