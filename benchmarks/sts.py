"""A model's score on Semantic Textual Similarity: how its cosines of sentence pairs rank against people's scores."""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bertline.model.features.pooling import POOLINGS, embed_texts
from bertline.model.formats.detect import read_model
from bertline.model.formats.export import ExportConfig, choose_pooling
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.encode import encode_pairs
from bertline.tokenizer.wordpiece import WordPieceTokenizer, parse_vocabulary

COLUMNS = {"score": 4, "sentence1": 5, "sentence2": 6}  # of stsbenchmark's files, which have no header
BATCH = 64


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a model of any format that bertline reads")
    parser.add_argument("--tsv", type=Path, required=True, help="stsbenchmark's sts-test.csv, or GLUE's STS-B dev.tsv")
    parser.add_argument("--pooling", choices=POOLINGS, default="", help="default: the model's own, or mean")
    parser.add_argument("--max_seq_length", type=int, default=0, help="word pieces; 0: as the model says")
    given = parser.parse_args(arguments)
    scores, first, second = read_pairs(given.tsv)
    checkpoint = read_model(given.model).checkpoint
    pooling, _ = choose_pooling(checkpoint, ExportConfig(pooling=given.pooling))
    longest = given.max_seq_length or checkpoint.state.get(
        "max_seq_length", checkpoint.bert_config.max_position_embeddings
    )
    start = time.perf_counter()
    vectors = text_vectors(checkpoint, [*first, *second], pooling, longest)
    seconds = time.perf_counter() - start
    cosines = (vectors[: len(first)] * vectors[len(first) :]).sum(axis=1)
    print(f"{len(scores)} pairs, {pooling} pooling, at most {longest} pieces: Spearman {spearman(cosines, scores):.4f}")
    print(f"{len(vectors)} sentences in {seconds:.1f} s, {len(vectors) / seconds:.0f} a second")
    return 0


def read_pairs(path: Path) -> tuple[list[float], list[str], list[str]]:
    """Scores and both sentences; columns by name where the first row names them."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    columns = COLUMNS
    if "sentence1" in rows[0]:
        columns = {name: rows[0].index(name) for name in COLUMNS if name in rows[0]}
        rows = rows[1:]
    if len(columns) < len(COLUMNS):
        raise ValueError(f"{path}: has no scores; take a file with labels")
    return (
        [float(row[columns["score"]]) for row in rows],
        [row[columns["sentence1"]] for row in rows],
        [row[columns["sentence2"]] for row in rows],
    )


def text_vectors(checkpoint: Checkpoint, texts: Sequence[str], pooling: str, longest: int) -> np.ndarray:
    """Vectors of length 1, float32 [texts, hidden], computed in batches of texts of like length."""
    vocabulary = parse_vocabulary(checkpoint.vocabulary, "vocab.txt")
    encoded = encode_pairs(WordPieceTokenizer(vocabulary, checkpoint.do_lower_case), texts, None, longest)
    lengths = encoded["input_mask"].sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    vectors = np.empty((len(texts), checkpoint.bert_config.hidden_size), np.float32)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = {name: array[rows, : lengths[rows].max()] for name, array in encoded.items()}
        vectors[rows] = embed_texts(checkpoint, batch, pooling)
    return vectors


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Correlation of ranks; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(np.asarray(first)), _ranks(np.asarray(second)))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


if __name__ == "__main__":
    sys.exit(main())
