"""The shapes of training.py's steps: sizes of models, lengths and batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VOCAB_SIZE = 30522  # the released uncased vocabulary
PREDICTIONS = {128: 20, 512: 77}  # 15 % of the length; the original's README
SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "base": (12, 768)}  # layers and their width


@dataclass(frozen=True)
class Shape:
    """A batch of a model; one head for 64 of the width, four times the width between."""

    layers: int
    width: int
    length: int
    batch: int

    @property
    def predictions(self) -> int:
        """Masked positions of a row."""
        return PREDICTIONS.get(self.length, round(0.15 * self.length))

    def job(self, **more: Any) -> Mapping[str, Any]:
        """What a side is started with; `config` has the keys of bert_config.json."""
        config = {
            "vocab_size": VOCAB_SIZE,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.width // 64,
            "intermediate_size": 4 * self.width,
            "type_vocab_size": 2,
        }
        batch = {"length": self.length, "batch": self.batch, "predictions": self.predictions}
        return {"config": config, "vocab_size": VOCAB_SIZE, **batch, **more}

    def flops(self) -> int:
        """Floating-point operations of a step's products of matrices."""
        from bertline.model.config import BertConfig
        from bertline.model.training.speed import pretraining_work

        return pretraining_work(BertConfig(**self.job()["config"]), self.batch, self.length, self.predictions).flops


def shape_of(size: str, length: int, batch: int) -> Shape:
    """That of a named size of model."""
    return Shape(*SIZES[size], length, batch)
