"""What a set of records holds, in numbers: counted shard by shard, added up, and told in stats.json."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.instances import TokenizedDocuments
from bertline.components.store.manifests import sha256_of
from bertline.model.records.rows import Predictions, Rows
from bertline.tokenizer.wordpiece import Vocabulary

MASKED_BARS, PADDING_BARS = 30, 20  # of the histograms of shares
FILE = "file "  # begins the names, in totals, of what is said of a file
DOUBLINGS = 24  # bars of a histogram whose bounds double
SHOWN_INSTANCES, SHOWN_TOKENS, SHOWN_NEVER_SEEN = 10, 30, 50
LABELS = {"next_sentence": ("next", "random"), "sentence_order": ("in order", "swapped")}

# Integers, arrays of them, counts by name, lists: what shards count, and what is added up.
Totals = dict[str, Any]
Counts = dict[str, int | float]


def document_totals(documents: TokenizedDocuments, names: Sequence[str], vocab_size: int) -> Totals:
    """What is counted before instances are made of the documents; `names` are the ids of all, empty ones too."""
    return {
        "documents": len(documents.keys),
        "sentences": len(documents.sentence_offsets) - 1,
        "tokens": len(documents.ids),
        "dropped.empty_document": len(names) - len(documents.keys),
        "token_counts": np.bincount(documents.ids, minlength=vocab_size).astype(np.int64),  # [vocabulary]
        "sentence_length": _by_doubling(np.diff(documents.sentence_offsets)),
        "document_length": _by_doubling(np.diff(documents.document_offsets)),
        "sources": dict(Counter(name.rpartition(":")[0] or name for name in names)),
    }


def row_totals(
    rows: Rows, predictions: Predictions | None, outcomes: NDArray[np.int64] | None, config: PrepareConfig
) -> Totals:
    """What is counted of a block of rows."""
    widths = np.array(config.bins)[config.bins_of(rows.lengths, 0 if predictions is None else predictions.counts)]
    totals: Totals = {
        "instances": len(rows.labels),
        "random_next": int(rows.labels.sum()),
        "tokens_in_rows": int(rows.lengths.sum()),
        "places_in_rows": int(widths.sum()),
        "length": np.bincount(rows.lengths, minlength=config.max_seq_length + 1),
        "padding": _by_share((widths - rows.lengths) / widths, 1.0, PADDING_BARS),
    }
    if predictions is not None and outcomes is not None:
        totals |= {
            "masked_tokens": int(predictions.counts.sum()),
            "outcomes": outcomes,
            "predictions": np.bincount(predictions.counts, minlength=config.max_predictions_per_seq + 1),
            "masked_share": _by_share(predictions.counts / rows.lengths, _largest_share(config), MASKED_BARS),
        }
    return totals


def add_totals(first: Mapping[str, Any], second: Mapping[str, Any]) -> Totals:
    """Two totals added up name by name."""
    total = {**first, **second}
    for name in first.keys() & second.keys():
        total[name] = _sum(first[name], second[name])
    return total


def sum_totals(totals: Iterable[Totals]) -> Totals:
    """All of them added up."""
    total: Totals = {}
    for more in totals:
        total = add_totals(total, more)
    return total


def describe_files(names: Iterable[str], files: Iterable[Path]) -> Totals:
    """Path, size and sha256 of files as totals: whoever asked for them may not read the files."""
    return {
        f"{FILE}{name}": {"path": name, "size_bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for name, file in zip(names, files, strict=True)
    }


def take_files(totals: Totals) -> list[dict[str, Any]]:
    """Take out of totals what they say of files."""
    return [totals.pop(name) for name in list(totals) if name.startswith(FILE)]


def totals_as_json(totals: Totals) -> str:
    """The totals as text, to be read by `json.loads`."""
    return json.dumps(totals, default=lambda counts: counts.tolist())


def first_instances(
    rows: Rows, predictions: Predictions | None, vocabulary: Vocabulary, config: PrepareConfig
) -> list[dict[str, Any]]:
    """The first rows in readable form: pieces as (what is shown, what stood there or None)."""
    shown = []
    for row in range(min(SHOWN_INSTANCES, len(rows.labels))):
        originals: dict[int, str] = {}
        if predictions is not None:
            found = range(predictions.counts[row])
            originals = {
                int(predictions.positions[row, rank]): vocabulary.tokens[predictions.originals[row, rank]]
                for rank in found
            }
        tokens = [vocabulary.tokens[token] for token in rows.token_ids[row, : rows.lengths[row]]]
        pieces = [[token, originals.get(column)] for column, token in enumerate(tokens)]
        label = LABELS[config.pairs][rows.labels[row]] if config.pairs in LABELS else None
        shown.append({"next_sentence": label, "pieces": pieces})
    return shown


def counts_of(totals: Totals, shards: int, unk_id: int, config: PrepareConfig) -> Counts:
    """The figures that a person acts on, for the terminal and the manifest."""
    occurrences = np.array(totals["token_counts"])
    shares = occurrences[occurrences > 0] / totals["tokens"]
    counts: Counts = {name: totals[name] for name in ("documents", "sentences", "tokens", "instances")}
    if config.pairs in LABELS:
        counts["random_next"] = round(totals["random_next"] / totals["instances"], 6)
    counts |= {
        "padding": round(1 - totals["tokens_in_rows"] / totals["places_in_rows"], 6),
        "unknown": round(int(occurrences[unk_id]) / totals["tokens"], 6),
        "tokens_never_seen": int(np.count_nonzero(occurrences == 0)),
        "dropped.empty_document": totals["dropped.empty_document"],
        "shards": shards,
        # What a model that knows only the frequencies of tokens would lose per masked token.
        "unigram_entropy_nats": round(float(-(shares * np.log(shares)).sum()), 6),
    }
    if "outcomes" in totals:
        names = ("masked.mask", "masked.same", "masked.random")
        counts |= {"masked_tokens": totals["masked_tokens"], **dict(zip(names, np.array(totals["outcomes"]).tolist()))}
    return counts


def statistics(totals: Totals, counts: Counts, vocabulary: Vocabulary, config: PrepareConfig) -> dict[str, Any]:
    """The content of stats.json: settings, counts, histograms, tokens, sources, the first instances."""
    outcomes = np.array(totals["outcomes"]) if "outcomes" in totals else None
    asked = {"asked": config.random_next_prob, "found": counts.get("random_next")}
    return {
        "settings": {
            name: value
            for name, value in asdict(config).items()
            if name not in ("num_workers", "runner", "beam_options")
        },
        "vocabulary": vocabulary.note(),
        "counts": counts,
        "histograms": _histograms(totals, config),
        "random_next": asked if config.pairs in LABELS else None,
        "outcomes": None
        if outcomes is None
        else dict(zip(("mask", "same", "random"), (outcomes / max(1, outcomes.sum())).round(6).tolist())),
        "tokens": _tokens(np.array(totals["token_counts"]), vocabulary, counts["unknown"]),
        "documents_per_source": dict(sorted(totals["sources"].items())),
        "first_instances": totals.get("first_instances", []),
    }


def _histograms(totals: Totals, config: PrepareConfig) -> dict[str, Any]:
    doubled = [2**power for power in range(DOUBLINGS + 1)]
    masked = "masked_share" in totals

    def shares(name: str, largest: float, bars: int) -> dict[str, Any]:
        counts = np.array(totals[name]).tolist() if name in totals else [0] * bars
        return {"edges": np.linspace(0, largest, bars + 1).round(6).tolist(), "counts": counts}

    return {
        "length": np.array(totals["length"]).tolist(),
        "masked_share": shares("masked_share", _largest_share(config), MASKED_BARS),
        "padding": shares("padding", 1.0, PADDING_BARS),
        "predictions": np.array(totals["predictions"]).tolist() if masked else [],
        "sentence_length": {"edges": doubled, "counts": np.array(totals["sentence_length"]).tolist()},
        "document_length": {"edges": doubled, "counts": np.array(totals["document_length"]).tolist()},
    }


def _tokens(occurrences: NDArray[np.int64], vocabulary: Vocabulary, unknown: float) -> dict[str, Any]:
    frequent = np.argsort(-occurrences, kind="stable")[:SHOWN_TOKENS].tolist()
    never = np.flatnonzero(occurrences == 0).tolist()
    return {
        "vocabulary": len(vocabulary),
        "never_seen": len(never),
        "unknown_share": unknown,
        "most_frequent": [[vocabulary.tokens[token], int(occurrences[token])] for token in frequent],
        "never_seen_examples": [vocabulary.tokens[token] for token in never[:: max(1, len(never) // SHOWN_NEVER_SEEN)]][
            :SHOWN_NEVER_SEEN
        ],
    }


def _largest_share(config: PrepareConfig) -> float:
    """Of masked tokens in a row: beyond twice what was asked for there are only the shortest rows."""
    return min(1.0, 2 * config.masked_lm_prob)


def _by_share(shares: NDArray[np.float64], largest: float, bars: int) -> NDArray[np.int64]:
    """[bars], how many of `shares` lie in each of as many equal steps up to `largest`, larger ones in the last."""
    steps = np.minimum((shares / largest * bars).astype(np.int64), bars - 1)
    return np.bincount(steps, minlength=bars)


def _by_doubling(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """[DOUBLINGS], how many of `lengths` are 1, 2-3, 4-7, ..."""
    powers = np.minimum(np.frexp(lengths.astype(np.float64))[1] - 1, DOUBLINGS - 1)
    return np.bincount(powers, minlength=DOUBLINGS)


def _sum(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return dict(Counter(first) + Counter(second))
    if isinstance(first, list) or isinstance(second, list):
        return np.asarray(first) + np.asarray(second)
    return first + second
