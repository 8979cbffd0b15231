"""What google-research/bert's create_pretraining_data.py makes of sentences.txt, over many seeds.

    python tests/data/make_original_statistics.py PATH_OF_google-research/bert PATH_OF_PYTHON_WITH_TENSORFLOW_1.15

runs the unmodified program once per seed (about 6 seconds each) and writes original_statistics.json beside this
file: mean and standard deviation over the seeds of figures that another implementation must meet.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertline.model.records.reader import open_records
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary, WordPieceTokenizer, load_vocabulary

HERE = Path(__file__).parent
SENTENCES, VOCAB, STATISTICS = HERE / "sentences.txt", HERE / "vocab.txt", HERE / "original_statistics.json"
MADE_BY = (
    "google-research/bert @ eedf571, create_pretraining_data.py, unmodified, TensorFlow 1.15.5, Python 3.7, "
    "on sentences.txt and vocab.txt beside this file, random_seed 1 to the number of seeds; "
    "by tests/data/make_original_statistics.py"
)

Flags = dict[str, Any]
COMMON: Flags = {"do_lower_case": True, "dupe_factor": 10, "masked_lm_prob": 0.15, "short_seq_prob": 0.1}
LENGTH_128: Flags = {"max_seq_length": 128, "max_predictions_per_seq": 20}
LENGTH_512: Flags = {"max_seq_length": 512, "max_predictions_per_seq": 77}
SETTINGS: dict[str, tuple[Flags, int]] = {  # name -> flags and number of seeds
    "whole_word_128": (COMMON | LENGTH_128 | {"do_whole_word_mask": True}, 24),
    "piece_128": (COMMON | LENGTH_128 | {"do_whole_word_mask": False}, 8),
    "whole_word_512": (COMMON | LENGTH_512 | {"do_whole_word_mask": True}, 8),
}


@dataclass(frozen=True)
class Rows:
    """All rows of one run, as the model gets them; those of `masked` come from `open_records`."""

    masked: dict[str, NDArray[Any]]  # feature -> [rows, width]
    whole: NDArray[np.int32]  # input ids with the predicted tokens put back, [rows, max_seq_length]
    lengths: NDArray[np.int64]  # tokens with [CLS] and both [SEP], [rows]
    b_starts: NDArray[np.int64]  # position of B's first token, [rows]

    def texts(self) -> Iterator[NDArray[np.int32]]:
        """A and B of every row."""
        for ids, start, length in zip(self.whole, self.b_starts.tolist(), self.lengths.tolist()):
            yield ids[1 : start - 1]
            yield ids[start : length - 1]


def main(original: Path, python: Path) -> None:
    """Run the original for all settings and seeds, write the statistics."""
    settings = {}
    for name, (flags, seeds) in SETTINGS.items():
        figures = []
        for seed in range(1, seeds + 1):
            print(f"{name}: seed {seed} of {seeds}", file=sys.stderr)
            figures.append(run_original(original, python, flags, seed))
        settings[name] = {"flags": flags, "seeds": seeds, "figures": over_seeds(figures)}
    content = json.dumps({"made_by": MADE_BY, "settings": settings}, indent=1)
    STATISTICS.write_text(content + "\n", encoding="utf-8")


def run_original(original: Path, python: Path, flags: Flags, seed: int) -> dict[str, float]:
    """The figures of one run of the original. Raises CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"input_file": SENTENCES, "vocab_file": VOCAB, "random_seed": seed, **flags}
        given["output_file"] = Path(folder) / "original.tfrecord"
        command = [str(python), str(original / "create_pretraining_data.py")]
        command += [f"--{name}={value}" for name, value in given.items()]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return figures_of_folder(Path(folder))


def figures_of_folder(folder: Path) -> dict[str, float]:
    """The figures of a folder of records that were made of sentences.txt with vocab.txt."""
    vocabulary = load_vocabulary(VOCAB)
    records = open_records(folder)
    rows = rows_of(records.batch(np.arange(len(records))))
    return {**figures_of(rows, vocabulary), "tokens_never_used": share_never_used(rows, vocabulary)}


def rows_of(masked: dict[str, NDArray[Any]]) -> Rows:
    """The rows of a batch with every feature of pretraining records."""
    whole = masked["input_ids"].copy()
    rows, columns = np.nonzero(masked["masked_lm_weights"])
    whole[rows, masked["masked_lm_positions"][rows, columns]] = masked["masked_lm_ids"][rows, columns]
    return Rows(
        masked,
        whole,
        masked["input_mask"].sum(axis=1, dtype=np.int64),
        masked["segment_ids"].argmax(axis=1).astype(np.int64),
    )


def figures_of(rows: Rows, vocabulary: Vocabulary) -> dict[str, float]:
    """Counts, means over the rows and shares; names say of what."""
    tokens = np.array(vocabulary.tokens)
    starts_inside_word = np.char.startswith(tokens, "##")[rows.whole[np.arange(len(rows.whole)), rows.b_starts]]
    predictions = rows.masked["masked_lm_weights"].sum(axis=1)
    return {
        "instances": len(rows.whole),
        "mean_length": rows.lengths.mean(),  # with [CLS] and both [SEP]
        "mean_length_of_a": (rows.b_starts - 2).mean(),  # without them
        "mean_length_of_b": (rows.lengths - rows.b_starts - 1).mean(),
        "full_rows": (rows.lengths == rows.whole.shape[1]).mean(),
        "random_next": rows.masked["next_sentence_labels"].mean(),
        "predictions_per_row": predictions.mean(),
        "masked_tokens": predictions.sum() / rows.lengths.sum(),
        "b_starts_inside_word": starts_inside_word.mean(),
        "masked_across_separator": (starts_inside_word & ends_masked(rows)).mean(),
        **outcomes(rows, vocabulary),
    }


def ends_masked(rows: Rows) -> NDArray[np.bool_]:
    """Whether both the last token of A and the first of B are predicted, [rows]."""
    predicted = np.zeros(rows.whole.shape, bool)
    row, column = np.nonzero(rows.masked["masked_lm_weights"])
    predicted[row, rows.masked["masked_lm_positions"][row, column]] = True
    numbers = np.arange(len(predicted))
    return predicted[numbers, rows.b_starts - 2] & predicted[numbers, rows.b_starts]


def outcomes(rows: Rows, vocabulary: Vocabulary) -> dict[str, float]:
    """Shares of the predicted tokens that were replaced by [MASK], kept, and replaced by another token.

    `special_replacements` is the share of special and [unused] tokens among the last.
    """
    row, column = np.nonzero(rows.masked["masked_lm_weights"])
    labels = rows.masked["masked_lm_ids"][row, column]
    shown = rows.masked["input_ids"][row, rows.masked["masked_lm_positions"][row, column]]
    other = shown[(shown != vocabulary.mask_id) & (shown != labels)]
    special = np.array([token in SPECIAL_TOKENS or token.startswith("[unused") for token in vocabulary.tokens])
    return {
        "outcome_mask": (shown == vocabulary.mask_id).mean(),
        "outcome_same": (shown == labels).mean(),
        "outcome_other": len(other) / len(shown),
        "special_replacements": special[other].mean(),
    }


def share_never_used(rows: Rows, vocabulary: Vocabulary) -> float:
    """The share of the tokens of sentences.txt that are in no row; a text counts wherever it occurs."""
    corpus, is_token = corpus_of(vocabulary)
    used = np.zeros(len(corpus), bool)
    for ids in rows.texts():
        text = "".join(map(chr, ids.tolist()))
        start = corpus.find(text)
        if start < 0:
            raise ValueError(f"a row holds {text!r}, which is nowhere in {SENTENCES}")
        while start >= 0:
            used[start : start + len(text)] = True
            start = corpus.find(text, start + 1)
    return float((is_token & ~used).sum() / is_token.sum())


def corpus_of(vocabulary: Vocabulary) -> tuple[str, NDArray[np.bool_]]:
    """The ids of sentences.txt as characters, documents set apart by one that is no id; which are tokens."""
    apart = len(vocabulary)
    tokenizer = WordPieceTokenizer(vocabulary)
    documents = SENTENCES.read_text(encoding="utf-8").strip().split("\n\n")
    ids = [number for document in documents for number in [*tokenizer.encode(document.replace("\n", " ")), apart]]
    return "".join(map(chr, ids)), np.array(ids) != apart


def over_seeds(figures: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of a sample: n - 1) of every figure."""
    values = {name: np.array([of_seed[name] for of_seed in figures]) for name in figures[0]}
    return {
        name: {"mean": round(float(each.mean()), 7), "standard_deviation": round(float(each.std(ddof=1)), 7)}
        for name, each in values.items()
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
