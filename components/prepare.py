"""Sentences -> records of masked-LM / next-sentence instances, by Apache Beam.

Only the places of documents cross a shuffle: a sentence or an example that did would cost more there than all
the work on it, and the local runner keeps in memory what it shuffles. Each document goes to the shard that a
hash of its id names; one worker then makes the shard's file. The workers read the sentences from where they
lie, so all of them must reach that folder. Memory grows with the largest shard: use more for large corpora.
"""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.components.hashing import document_key
from bertline.components.sentence_reader import DocumentPlace, document_places, sentence_files
from bertline.components.shards import Totals, added, write_shard
from bertline.model.progress import Progress
from bertline.model.records import part_name
from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

PARTS = ("train", "heldout", "all")
# Negatives come from the other documents of a shard: fewer would repeat the same ones.
LEAST_DOCUMENTS_PER_SHARD = 32
TOKEN_COUNTS_FILE = "token_counts.npy"
SECONDS_BETWEEN_LOOKS = 0.5

Counts = dict[str, int | float]


@dataclass(frozen=True)
class PrepareConfig:
    """How sentences become training instances; defaults are those of create_pretraining_data unless noted."""

    max_seq_length: int = 128  # includes [CLS] and both [SEP]
    max_predictions_per_seq: int = 20  # at most; 77 suits 512
    masked_lm_prob: float = 0.15  # Devlin et al. 2018, 3.1
    short_seq_prob: float = 0.1  # of a document's pass having a shorter target length
    dupe_factor: int = 10  # passes over the corpus, each with fresh pairs and masks
    do_whole_word_mask: bool = True  # as the models released in 2019; the original's default is False
    do_lower_case: bool = True  # must be what the vocabulary was made with
    seed: int = 12345
    part: str = "train"  # train, heldout or all; which documents are held out depends on their ids alone
    heldout_share: float = 0.05  # of the documents
    num_shards: int = 8  # files; fewer when there are fewer than 32 documents for each
    num_workers: int = field(default=1, metadata={"volatile": True})  # processes on this machine
    runner: str = field(default="FnApiRunner", metadata={"volatile": True})  # or any that Beam knows

    def __post_init__(self) -> None:
        """Refuse values that no run can mean."""
        for name, least in (
            ("max_seq_length", 5),
            ("max_predictions_per_seq", 1),
            ("dupe_factor", 1),
            ("seed", 0),
            ("num_shards", 1),
            ("num_workers", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("masked_lm_prob", "short_seq_prob", "heldout_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if self.masked_lm_prob == 0:
            raise ValueError("masked_lm_prob is 0; without masked tokens there is nothing to learn")
        if self.part not in PARTS:
            raise ValueError(f'part is "{self.part}"; it must be one of {", ".join(PARTS)}')


def run(sentences: Path, vocab: Path, out: Path, config: PrepareConfig) -> Counts:
    """Write the records of one part of the documents, and how often each token occurs in it, into `out`.

    `sentences` is a folder of sentences-*.txt and ids-*.txt, `vocab` a vocab.txt. Raises FileNotFoundError
    for missing inputs, ValueError for files that do not correspond and for a part without instances.
    """
    vocabulary = load_vocabulary(vocab)
    files = sentence_files(sentences)
    documents = _documents_of_part(sentences, files, config)
    shards = min(config.num_shards, max(1, documents // LEAST_DOCUMENTS_PER_SHARD))
    with _progress_of_parts(out, shards):
        totals = _run_beam(files, vocab, out, shards, config)
    if not totals.get("instances"):
        raise ValueError(f'{sentences}: the documents of part "{config.part}" hold too little text for one instance')
    np.save(out / TOKEN_COUNTS_FILE, np.array(totals["token_counts"], np.int64))
    return _counts(totals, shards, vocabulary.unk_id, config)


def is_in_part(document_id: str, config: PrepareConfig) -> bool:
    """Whether a document belongs to the part to prepare; a function of its id, not of the seed."""
    if config.part == "all":
        return True
    is_held_out = document_key(document_id, "heldout") < config.heldout_share * 2**64
    return is_held_out == (config.part == "heldout")


def _documents_of_part(folder: Path, files: list[tuple[Path, Path]], config: PrepareConfig) -> int:
    """How many documents there are to prepare; reads everything once, so that errors come before the work."""
    total = chosen = 0
    for text, ids in files:
        for place in document_places(text, ids):
            total += 1
            chosen += is_in_part(place.document_id, config)
    if not total:
        raise ValueError(f'{folder}: no document in it; run "bertline split" on documents with text')
    if not chosen:
        advice = "raise heldout_share" if config.part == "heldout" else "lower heldout_share"
        raise ValueError(
            f'{folder}: none of its {total} documents is in part "{config.part}" with heldout_share '
            f"{config.heldout_share}; {advice}, or add documents"
        )
    return chosen


def _run_beam(files: list[tuple[Path, Path]], vocab: Path, out: Path, shards: int, config: PrepareConfig) -> Totals:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    # An explicit empty list: Beam would otherwise read this process's command line.
    options = PipelineOptions(
        [],
        runner=config.runner,
        direct_num_workers=config.num_workers,
        direct_running_mode="in_memory" if config.num_workers == 1 else "multi_processing",
    )
    totals_file = out / "totals.json"
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | "Sentence files" >> beam.Create(files)
            | "To all workers" >> beam.Reshuffle()
            | "Documents" >> beam.FlatMap(_keyed_documents, shards, config)
            | "By shard" >> beam.GroupByKey()
            | "Records" >> beam.Map(_write_part, vocab, out, shards, config)
            | "Sum" >> beam.CombineGlobally(_summed)
            | "Totals" >> beam.Map(_write_totals, totals_file)
        )
    totals: Totals = json.loads(totals_file.read_text(encoding="utf-8"))
    totals_file.unlink()
    return totals


def _keyed_documents(
    files: tuple[Path, Path], shards: int, config: PrepareConfig
) -> Iterator[tuple[int, DocumentPlace]]:
    """(shard, place) of every document of the part."""
    for place in document_places(*files):
        if is_in_part(place.document_id, config):
            yield document_key(place.document_id) % shards, place


def _write_part(
    shard: tuple[int, Iterable[DocumentPlace]], vocab: Path, out: Path, shards: int, config: PrepareConfig
) -> Totals:
    number, documents = shard
    tokenizer = _tokenizer(vocab, config.do_lower_case)
    return write_shard(documents, out / part_name(number, shards), tokenizer, config)


@lru_cache(maxsize=1)
def _tokenizer(vocab: Path, do_lower_case: bool) -> WordPieceTokenizer:
    """One for all shards of a worker: it gets faster with every word that it has met."""
    return WordPieceTokenizer(load_vocabulary(vocab), do_lower_case)


def _summed(totals: Iterable[Totals]) -> Totals:
    total: Totals = {}
    for more in totals:
        total = added(total, more)
    return total


def _write_totals(totals: Totals, file: Path) -> None:
    file.write_text(json.dumps(totals, default=_as_list), encoding="utf-8")


def _as_list(counts: NDArray[np.int64]) -> list[int]:
    return counts.tolist()


def _counts(totals: Totals, shards: int, unk_id: int, config: PrepareConfig) -> Counts:
    occurrences = np.array(totals["token_counts"])
    shares = occurrences[occurrences > 0] / totals["tokens"]
    names = ("documents", "sentences", "tokens", "instances", "masked_tokens")
    outcomes = ("masked.mask", "masked.same", "masked.random", "dropped.empty_document")
    return {
        **{name: totals[name] for name in names},
        "random_next": round(totals["random_next"] / totals["instances"], 6),
        "padding": round(1 - totals["tokens_in_rows"] / (totals["instances"] * config.max_seq_length), 6),
        "unknown": round(int(occurrences[unk_id]) / totals["tokens"], 6),
        **{name: totals[name] for name in outcomes},
        "shards": shards,
        # What a model that knows only the frequencies of tokens would lose per masked token.
        "unigram_entropy_nats": round(float(-(shares * np.log(shares)).sum()), 6),
    }


@contextmanager
def _progress_of_parts(out: Path, shards: int) -> Iterator[None]:
    """Shows how many parts are whole, by looking into `out`: the workers may be other processes."""
    finished = threading.Event()
    with Progress("prepare", shards, "parts") as progress:

        def look() -> None:
            while not finished.wait(SECONDS_BETWEEN_LOOKS):
                progress.advance(len(list(out.glob("*.tfrecord"))) - progress.done)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            finished.set()
            looking.join()
            progress.advance(len(list(out.glob("*.tfrecord"))) - progress.done)
