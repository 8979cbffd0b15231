"""A pretrained checkpoint -> a classifier of one task, with its scores on the task's development set."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertline.model.config import BertConfig
from bertline.model.records.batches import batch_indices
from bertline.model.training.backends.use import use_backend
from bertline.model.training.checkpoint import Checkpoint, read_checkpoint, select, write_checkpoint
from bertline.settings import (
    require_at_least,
    require_backend,
    require_length,
    require_positive,
    require_precision,
    require_seed,
)

if TYPE_CHECKING:
    from bertline.model.bert import Tensor, Weights

Examples = Mapping[str, np.ndarray]  # input_ids, input_mask, segment_ids int32 [N, W], label_ids int32 [N]


@dataclass(frozen=True)
class FinetuneConfig:
    """One fine-tuning; defaults are run_classifier's unless said otherwise."""

    max_seq_length: int = 128  # of the examples
    train_batch_size: int = 32
    eval_batch_size: int = 32  # run_classifier has 8; any size gives the same scores but for rounding
    learning_rate: float = 5e-5  # its peak
    num_train_epochs: float = 3.0
    warmup_proportion: float = 0.1  # of the steps
    seed: int = 12345  # of the head's first weights, the order of examples and dropout
    precision: str = "float32"  # or mixed_bfloat16
    jit_compile: bool = True  # by XLA, as in pretraining
    backend: str = ""  # tensorflow or jax; none: the variable KERAS_BACKEND's, or tensorflow

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_at_least(self, 1, "max_seq_length", "train_batch_size", "eval_batch_size")
        require_positive(self, "learning_rate", "num_train_epochs")
        require_precision(self.precision)
        require_backend(self.backend)
        require_seed(self.seed)
        if not 0 <= self.warmup_proportion <= 1:
            raise ValueError(f"warmup_proportion is {self.warmup_proportion}; it must lie between 0 and 1")


def run(
    checkpoint: Path, train: Examples, dev: Examples, labels: Sequence[str], out: Path, config: FinetuneConfig
) -> dict[str, int | float]:
    """Train on `train`, score on `dev`; label_ids count in `labels`.

    Writes the model's folder, scores.json and predictions.tsv (index, label, probabilities in the order of
    `labels`) into `out`.
    """
    use_backend(config.backend)
    pretrained = read_checkpoint(checkpoint)
    require_length(config.max_seq_length, pretrained.bert_config.max_position_embeddings)
    for name, examples in (("train", train), ("dev", dev)):
        _refuse_unfit(name, examples, len(labels), config.max_seq_length)
    steps = max(1, int(len(train["label_ids"]) / config.train_batch_size * config.num_train_epochs))
    weights = _trained(_initial_weights(pretrained, checkpoint, len(labels), config), pretrained, train, steps, config)
    probabilities = predict(weights, pretrained.bert_config, dev, config)
    scores = {"steps": steps, **classification_scores(probabilities, dev["label_ids"], train["label_ids"])}
    state = {"step": steps, "labels": list(labels)}
    write_checkpoint(out, dataclasses.replace(pretrained, weights=weights, state=state))
    (out / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (out / "predictions.tsv").write_text(_predictions_table(probabilities, labels), encoding="utf-8")
    return scores


def predict(
    weights: Mapping[str, np.ndarray], shape: BertConfig, examples: Examples, config: FinetuneConfig
) -> np.ndarray:
    """Probabilities of the labels, float32 [N, labels]."""
    from keras import ops

    from bertline.model.bert import in_precision
    from bertline.model.heads import classifier_logits, encode_batch
    from bertline.model.training.backends.choice import compiled_forward

    def probabilities(weights: "Weights", batch: Mapping[str, "Tensor"]) -> "Tensor":
        computing = in_precision(weights, config.precision)
        return ops.softmax(classifier_logits(computing, encode_batch(computing, shape, batch).pooled))

    forward = compiled_forward(probabilities, weights, jit_compile=config.jit_compile)
    count, size = len(examples["input_ids"]), config.eval_batch_size
    # Every batch has the same size, the last filled up with its last example, so that one graph serves all.
    places = [np.minimum(np.arange(first, first + size), count - 1) for first in range(0, count, size)]
    return np.concatenate([np.asarray(forward(_inputs(examples, place))) for place in places])[:count]


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


def _refuse_unfit(name: str, examples: Examples, num_labels: int, max_seq_length: int) -> None:
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


def _initial_weights(
    pretrained: Checkpoint, checkpoint: Path, num_labels: int, config: FinetuneConfig
) -> dict[str, np.ndarray]:
    """The pretrained encoder under a fresh head; the pretraining heads are left behind."""
    from bertline.model.bert import encoder_shapes, initial_weights
    from bertline.model.heads import classifier_shapes

    shape = pretrained.bert_config
    encoder = select(pretrained.weights, encoder_shapes(shape), checkpoint)
    head = {name: size for name, size in classifier_shapes(shape, num_labels).items() if name not in encoder}
    return encoder | initial_weights(head, shape.initializer_range, config.seed)


def _trained(
    weights: dict[str, np.ndarray], pretrained: Checkpoint, examples: Examples, steps: int, config: FinetuneConfig
) -> dict[str, np.ndarray]:
    from bertline.model.heads import classifier_losses, classifier_whole
    from bertline.model.training.loop import new_trainer, train
    from bertline.model.training.optimizer_config import Schedule
    from bertline.model.training.update import Objective, Update

    shape = pretrained.bert_config
    update = Update(
        Objective(classifier_whole, lambda weights, *rest: classifier_losses(weights, shape, *rest)),
        Schedule(config.learning_rate, steps, int(steps * config.warmup_proportion)),
        seed=config.seed,
        precision=config.precision,
    )
    trainer = new_trainer(weights, None, update, jit_compile=config.jit_compile)

    def batch_at(step: int) -> dict[str, np.ndarray]:
        place = batch_indices(len(examples["label_ids"]), config.train_batch_size, config.seed, step)
        return _inputs(examples, place) | {"label_ids": examples["label_ids"][place]}

    train(trainer, batch_at, lambda step, metrics: None, start_step=0, stop_step=steps, label="finetune")
    return trainer.weights()


def _inputs(examples: Examples, place: np.ndarray) -> dict[str, np.ndarray]:
    return {name: examples[name][place] for name in ("input_ids", "input_mask", "segment_ids")}


def _predictions_table(probabilities: np.ndarray, labels: Sequence[str]) -> str:
    lines = ["\t".join(["index", "label", *labels])]
    for index, row in enumerate(probabilities):
        lines.append("\t".join([str(index), labels[int(row.argmax())], *(f"{value:.7g}" for value in row)]))
    return "\n".join(lines) + "\n"
