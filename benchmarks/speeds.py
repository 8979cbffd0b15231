"""Speeds inside one process, without its start: of tokenizers and of readers of records; counts of records."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from measuring import MEGABYTE

LINES_AT_ONCE = 4096
RECORDS_AT_ONCE = 256


def tokenizer_speeds(text: Path, vocab: Path, rounds: int) -> list[dict[str, float]]:
    """MB a CPU second: our tokenizer's first pass, with no word met yet, its second, and Hugging Face's."""
    from tokenizers import BertWordPieceTokenizer

    from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

    lines = text.read_text(encoding="utf-8").split("\n")
    blocks = [lines[first : first + LINES_AT_ONCE] for first in range(0, len(lines), LINES_AT_ONCE)]
    megabytes = text.stat().st_size / MEGABYTE
    theirs = partial(BertWordPieceTokenizer(str(vocab), lowercase=True).encode_batch, add_special_tokens=False)
    WordPieceTokenizer(load_vocabulary(vocab)).encode_lines(blocks[0])  # loads the compiled loops
    speeds = []
    for _ in range(rounds):
        ours = WordPieceTokenizer(load_vocabulary(vocab))
        work: dict[str, Callable[[Any], Any]]
        work = {"first pass": ours.encode_lines, "known words": ours.encode_lines, "tokenizers": theirs}
        speeds.append({name: megabytes / _cpu_seconds(encode, blocks) for name, encode in work.items()})
    return speeds


def reading_speeds(folders: dict[str, Path], length: tuple[int, int], rounds: int) -> list[dict[str, float]]:
    """Records a CPU second, opening included: of all folders by us, of the one named canonical by tf.data.

    `length` is max_seq_length and max_predictions_per_seq.
    """
    import tensorflow  # noqa: F401 (loaded before the clock runs)

    speeds = []
    for seed in range(rounds + 1):
        speed = {schema: _our_speed(folder, seed) for schema, folder in folders.items()}
        speeds.append(speed | {"tf.data": _tf_data_speed(sorted(folders["canonical"].glob("*.tfrecord")), *length)})
    return speeds[1:]  # what TensorFlow and the compiled loops do once is in the first


def record_counts(files: list[Path]) -> list[int]:
    """How many records the files hold."""
    from bertline.model.records.files import RecordFile

    return [len(RecordFile(file)) for file in files]


def _our_speed(folder: Path, seed: int) -> float:
    """Records a CPU second in random order."""
    import numpy as np

    from bertline.model.records.reader import open_records

    started = time.process_time()
    records = open_records(folder)
    order = np.random.default_rng(seed).permutation(len(records))
    _cpu_seconds(records.batch, np.split(order, range(RECORDS_AT_ONCE, len(order), RECORDS_AT_ONCE)))
    return len(records) / (time.process_time() - started)


def _tf_data_speed(files: list[Path], places: int, predictions: int) -> float:
    """Records a CPU second in the files' order: TFRecordDataset, batch, parse_example."""
    import tensorflow as tf

    integers = {"input_ids": places, "input_mask": places, "segment_ids": places, "next_sentence_labels": 1}
    integers |= dict.fromkeys(["masked_lm_positions", "masked_lm_ids"], predictions)
    features = {name: tf.io.FixedLenFeature([width], tf.int64) for name, width in integers.items()}
    features["masked_lm_weights"] = tf.io.FixedLenFeature([predictions], tf.float32)
    started = time.process_time()
    batches = tf.data.TFRecordDataset([str(file) for file in files]).batch(RECORDS_AT_ONCE)
    parsed = batches.map(lambda batch: tf.io.parse_example(batch, features))
    records = sum(len(batch["input_ids"]) for batch in parsed.as_numpy_iterator())
    return records / (time.process_time() - started)


def _cpu_seconds(work: Callable[[Any], Any], blocks: list[Any]) -> float:
    """The CPU time of the work on all blocks."""
    started = time.process_time()
    for block in blocks:
        work(block)
    return time.process_time() - started
