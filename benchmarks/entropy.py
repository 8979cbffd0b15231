"""What a unigram and a trigram model make of the masked words that BERT is scored on, in nats a word piece.

    python benchmarks/entropy.py --records records_128 --heldout heldout_128

Both are counted on the training records and scored on the held-out records' predictions: the unigram by frequencies,
the trigram by interpolated Kneser-Ney smoothing from the two pieces on the left (Chen and Goodman 1999, section 2.7),
with one discount an order, n1 / (n1 + 2 n2). A masked-LM loss below the trigram's shows that both sides are used.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.reader import Records, open_records

ROWS = 4096  # of records, read at a time
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """How often each key was seen; keys ascending."""

    keys: Ids
    counts: Ids

    @classmethod
    def of(cls, keys: Ids) -> "Counts":
        return cls(*np.unique(keys, return_counts=True))

    def __call__(self, keys: Ids) -> Ids:
        """The counts of these keys; 0 for one that was not seen."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.counts[places], 0)

    def discount(self) -> float:
        once, twice = (int((self.counts == times).sum()) for times in (1, 2))
        return once / (once + 2 * twice) if once else 0.0

    def total(self, divisor: int) -> "Counts":
        """Counts summed over the keys that are equal when divided."""
        keys, where = np.unique(self.keys // divisor, return_inverse=True)
        return Counts(keys, np.bincount(where, self.counts).astype(np.int64))


class KneserNey:
    """An interpolated Kneser-Ney trigram model."""

    def __init__(self, trigrams: Ids, vocabulary: int) -> None:
        """`trigrams` is [N, 3], all of the training text."""
        self._vocabulary = size = vocabulary
        u, v, w = trigrams.T
        self._trigrams = Counts.of((u * size + v) * size + w)
        self._bigrams = Counts.of(self._trigrams.keys % size**2)  # before how many pieces each pair came
        self._unigrams = Counts.of(self._bigrams.keys % size)
        # Of each context: all its counts, and how many different pieces followed it.
        self._after = [(each.total(size), Counts.of(each.keys // size)) for each in (self._trigrams, self._bigrams)]

    def probabilities(self, trigrams: Ids) -> NDArray[np.float64]:
        """Of the last piece of each row after the two before."""
        size = self._vocabulary
        u, v, w = trigrams.T
        of_unigrams = (self._unigrams(w) + 1) / (self._unigrams.counts.sum() + size)  # unseen pieces have a share
        of_bigrams = self._mixed(self._bigrams, self._after[1], v, w, of_unigrams)
        return self._mixed(self._trigrams, self._after[0], u * size + v, w, of_bigrams)

    def _mixed(
        self, counts: Counts, after: tuple[Counts, Counts], context: Ids, w: Ids, lower: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        discount, (total, different) = counts.discount(), after
        seen = total(context)
        own = np.maximum(counts(context * self._vocabulary + w) - discount, 0.0)
        mixed = (own + discount * different(context) * lower) / np.maximum(seen, 1)
        return np.where(seen > 0, mixed, lower)


def trigrams_of(records: Records, *, at_predictions: bool) -> Ids:
    """The pieces of all rows with the two before them, masks undone: [N, 3]; the first two pieces have none."""
    found = []
    for first in range(0, len(records), ROWS):
        batch = records.batch(np.arange(first, min(first + ROWS, len(records))))
        ids, used = batch["input_ids"].astype(np.int64), batch["masked_lm_weights"] > 0
        rows, columns = np.nonzero(used)[0], batch["masked_lm_positions"][used]
        ids[rows, columns] = batch["masked_lm_ids"][used]
        if not at_predictions:
            rows, columns = np.nonzero(batch["input_mask"])
        rows, columns = rows[columns >= 2], columns[columns >= 2]
        found.append(np.stack([ids[rows, columns - 2], ids[rows, columns - 1], ids[rows, columns]], axis=1))
    return np.concatenate(found)


def entropies(records: Records, heldout: Records) -> dict[str, float]:
    """Cross entropies in nats of the held-out predictions."""
    seen, asked = trigrams_of(records, at_predictions=False), trigrams_of(heldout, at_predictions=True)
    size = int(max(seen.max(), asked.max())) + 1
    frequencies = Counts.of(seen[:, 2])
    unigram = (frequencies(asked[:, 2]) + 1) / (len(seen) + size)
    trigram = KneserNey(seen, size).probabilities(asked)
    return {
        "predictions": len(asked),
        "unigram": float(-np.log(unigram).mean()),
        "trigram": float(-np.log(trigram).mean()),
    }


def main() -> None:
    """Print the entropies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True, metavar="DIR", help="training records of one pass over the text")
    parser.add_argument("--heldout", required=True, metavar="DIR", help="held-out records")
    flags = parser.parse_args()
    for name, value in entropies(open_records(Path(flags.records)), open_records(Path(flags.heldout))).items():
        print(f"{name:12} {value:,.4f}" if isinstance(value, float) else f"{name:12} {value:,}")


if __name__ == "__main__":
    main()
