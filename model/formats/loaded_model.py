"""What a reader of another format hands over."""

from dataclasses import dataclass
from pathlib import Path

from bertline.model.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Opened:
    """A model read from some format."""

    path: Path
    format: str  # bertline, tf1, huggingface, sentence-transformers or savedmodel
    checkpoint: Checkpoint  # weights by google-research/bert's names, without what is no part of a BERT
    parts: tuple[str, ...]  # bertline.model.formats.parts: the encoder first
    unused: tuple[str, ...] = ()  # variables of the file that no part of a BERT knows
    remarks: tuple[str, ...] = ()  # what a person should know, such as a guessed case
