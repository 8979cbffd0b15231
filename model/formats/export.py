"""A checkpoint -> the files that another library loads."""

from dataclasses import dataclass
from pathlib import Path

from bertline.model.features.pooling import POOLINGS
from bertline.model.training.backends.choice import use_backend
from bertline.model.training.checkpoint import Checkpoint, read_checkpoint
from bertline.settings import one_of, require_choices

TARGETS = ("huggingface", "sentence-transformers", "tf1", "savedmodel", "onnx")
BOOLEANS = ("", "true", "false")  # of a setting that may be left to the model

Counts = dict[str, int | float]


@dataclass(frozen=True)
class ExportConfig:
    """Which library to export to, and how."""

    to: str = one_of("huggingface", TARGETS)  # the format that is written

    # sentence vectors (sentence-transformers):
    pooling: str = one_of("", ("", *POOLINGS))  # how a text's tokens become its vector; none: the model's own
    # way, or mean
    normalize: str = one_of("", BOOLEANS)  # whether a text's vector has length 1; none: as the model says, or true

    def __post_init__(self) -> None:
        """Refuse unknown values."""
        require_choices(self)


def run(checkpoint: Path, out: Path, config: ExportConfig) -> Counts:
    """Write the checkpoint in a folder, pretrained or fine-tuned, into the existing folder `out`."""
    return write_export(out, read_checkpoint(checkpoint), config)


def write_export(folder: Path, checkpoint: Checkpoint, options: ExportConfig) -> Counts:
    """Write a model into an existing folder, in the format that `options` names; returns counts.

    Raises ValueError for a model with a part that is not whole, or that the format cannot hold.
    """
    if checkpoint.bert_config.pre_layer_norm:
        raise ValueError(
            f"pre_layer_norm is true, which {options.to} cannot express; keep the model as a bertline checkpoint"
        )
    # Each writer is imported when it is asked for: together they would load three libraries of deep learning.
    if options.to in ("tf1", "savedmodel"):
        use_backend("")  # both are written by TensorFlow
    if options.to == "tf1":
        from bertline.model.formats.tf1.checkpoint import write_tf1

        write_tf1(folder, checkpoint)
        sizes = [array.size for array in checkpoint.weights.values()]
        return {"tensors": len(sizes), "parameters": sum(sizes), "slots": len(checkpoint.slots or ())}
    if options.to == "savedmodel":
        from bertline.model.formats.savedmodel.write import write_savedmodel

        return write_savedmodel(folder, checkpoint)
    if options.to == "onnx":
        from bertline.model.formats.onnx import write_onnx

        return write_onnx(folder, checkpoint)
    if options.to == "sentence-transformers":
        from bertline.model.formats.huggingface.sentence_transformers import write_sentence_transformers

        return write_sentence_transformers(folder, checkpoint, *choose_pooling(checkpoint, options))
    from bertline.model.formats.huggingface.write import write_huggingface

    return write_huggingface(folder, checkpoint)


def choose_pooling(checkpoint: Checkpoint, options: ExportConfig) -> tuple[str, bool]:
    """Pooling and normalization: what the options ask for, else the model's own, else mean and normalized."""
    normalize = options.normalize == "true" if options.normalize else checkpoint.state.get("normalize", True)
    return options.pooling or checkpoint.state.get("pooling", "mean"), normalize
