"""A model with another vocabulary: the embeddings of shared pieces are kept, those of new ones made of old ones.

In the original a model and a vocabulary of another size give a loss of NaN (google-research/bert #82).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bertline.model.training.checkpoint import Arrays, Checkpoint
from bertline.tokenizer.wordpiece import CONTINUATION, SPECIAL_TOKENS, Vocabulary

TABLE, OUTPUT_BIAS = "bert/embeddings/word_embeddings", "cls/predictions/output_bias"


def change_vocabulary(
    checkpoint: Checkpoint, content: bytes, old: Vocabulary, new: Vocabulary
) -> tuple[Checkpoint, dict[str, int]]:
    """The model for the vocabulary `new`, whose file is `content`; counts of kept, new and dropped pieces.

    A new piece has the mean of the embeddings, and of the output biases, of the old pieces that it is made
    of; the mean of all if nothing matches. Adam's slots of new pieces are zero. Nothing is random. Raises
    ValueError for a new vocabulary that is the old one.
    """
    if new.tokens == old.tokens:
        raise ValueError("the vocabulary is the model's own; there is nothing to change")
    sources = [[old.ids[token]] if token in old.ids else split_token(token, old) for token in new.tokens]
    kept = np.array([token in old.ids for token in new.tokens])
    weights = dict(checkpoint.weights)
    for name in (TABLE, OUTPUT_BIAS):
        if name in weights:
            weights[name] = _average(weights[name], sources, _list_ordinary(old))
    slots = None if checkpoint.slots is None else _change_slots(checkpoint.slots, sources, kept)
    config = replace(checkpoint.bert_config, vocab_size=len(new))
    counts = {"kept": int(kept.sum()), "new": int((~kept).sum()), "dropped": len(set(old.ids) - set(new.ids))}
    return replace(checkpoint, bert_config=config, weights=weights, vocabulary=content, slots=slots), counts


def split_token(token: str, vocabulary: Vocabulary) -> list[int]:
    """The ids that a token is made of, longest match first; an empty list if some of it matches nothing.

    "##ings" can be "##ing" and "##s".
    """
    inside, letters = token.startswith(CONTINUATION), token.removeprefix(CONTINUATION)
    ids, start = [], 0
    while start < len(letters):
        prefix = CONTINUATION if inside or start else ""
        for end in range(len(letters), start, -1):
            number = vocabulary.ids.get(prefix + letters[start:end])
            if number is not None:
                ids.append(number)
                start = end
                break
        else:
            return []
    return ids


def _list_ordinary(vocabulary: Vocabulary) -> list[int]:
    """The ids of all tokens but the special ones."""
    return [number for number, token in enumerate(vocabulary.tokens) if token not in SPECIAL_TOKENS]


def _average(array: np.ndarray, sources: Sequence[Sequence[int]], ordinary: Sequence[int]) -> np.ndarray:
    """A row for each list of ids: the row itself, the mean of several, or that of all `ordinary` ones for none."""

    def mean(ids: Sequence[int]) -> np.ndarray:
        return array[list(ids)].mean(axis=0, dtype=np.float64).astype(array.dtype)

    of_all = mean(ordinary)
    return np.stack([array[ids[0]] if len(ids) == 1 else mean(ids) if ids else of_all for ids in sources])


def _change_slots(slots: Arrays, sources: Sequence[Sequence[int]], kept: np.ndarray) -> dict[str, np.ndarray]:
    changed = dict(slots)
    first = np.array([ids[0] if ids else 0 for ids in sources])
    for name, array in slots.items():
        if name.rpartition("/")[0] in (TABLE, OUTPUT_BIAS):
            changed[name] = array[first]
            changed[name][~kept] = 0
    return changed
