"""The parts of a text: which documents are trained on and which are held out."""

from typing import NamedTuple

from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.hashing import document_key

KEYS = 2**64


class Part(NamedTuple):
    """A part of a text; one of prepare_config.PARTS."""

    name: str
    heldout_share: float

    def __str__(self) -> str:
        """As messages name it."""
        return f'part "{self.name}" with heldout_share {self.heldout_share}'

    def shares(self) -> tuple[float, float]:
        """Its documents are those whose keys lie between these shares of all keys; not the second itself."""
        share = self.heldout_share
        return {"train": (share, 1.0), "heldout": (0.0, share), "all": (0.0, 1.0)}[self.name]

    def overlaps(self, other: "Part") -> bool:
        """Whether documents of the text can be in both.

        >>> [Part("train", 0.05).overlaps(Part("heldout", share)) for share in (0.05, 0.1)]
        [False, True]
        """
        (first, last), (other_first, other_last) = self.shares(), other.shares()
        return max(first, other_first) < min(last, other_last)


def is_in_part(document_id: str, config: PrepareConfig) -> bool:
    """Whether a document belongs to the part to prepare; a function of its id, not of the seed."""
    first, last = Part(config.part, config.heldout_share).shares()
    return first * KEYS <= document_key(document_id, "heldout") < last * KEYS
