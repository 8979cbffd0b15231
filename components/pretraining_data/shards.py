"""The documents of one shard -> its files of records, and its contents in numbers.

Everything random is a function of the document ids and the configuration, so a shard's bytes depend neither
on the order in which its documents arrive nor on who writes it.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.files import (
    DocumentPlace,
    DocumentText,
    document_key,
    draft_for,
    exists,
    open_bytes,
    read_documents,
)
from bertline.components.pretraining_data.instances import Instances, TokenizedDocuments, pack
from bertline.components.pretraining_data.statistics import (
    Totals,
    add_totals,
    describe_files,
    document_totals,
    first_instances,
    row_totals,
    totals_as_json,
)
from bertline.model.records.files import bin_folder, shard_name
from bertline.model.records.masking import MaskRules, mask
from bertline.model.records.reader import encode_rows
from bertline.model.records.rows import Predictions, Rows, Spans, assemble
from bertline.tokenizer.compiled import compiled
from bertline.tokenizer.segment import Segmenter, encode_units
from bertline.tokenizer.wordpiece import Vocabulary, WordPieceTokenizer

ROWS_AT_ONCE = 1024  # enough to hide the cost of a NumPy call, few enough for a core's cache
DONE = ".done-"  # begins the names of files as many bytes long as documents of a shard are done; for this machine alone
TOTALS = "totals-"  # begins those of what was counted in a shard
TOTAL_FILE = "totals.json"  # of all shards
TOKENIZED_AT_ONCE = 4096  # sentences; more would only take memory

Encoder = Callable[[list[str]], tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]]


class ShardWriter(NamedTuple):
    """What all shards of a set have in common."""

    folder: str  # the files' folder, as workers find it
    shards: int
    config: PrepareConfig
    vocabulary: Vocabulary
    encode: Encoder  # lines to ids
    mask_rules: MaskRules

    def paths(self, number: int) -> list[str]:
        """The files of shard `number`, one for each width of rows."""
        return [f"{self.folder}/{name}" for name in shard_files(number, self.shards, self.config)]

    def totals_path(self, number: int) -> str:
        """Where the totals of shard `number` are kept, written last."""
        return totals_path(self.folder, number)


def shard_files(number: int, shards: int, config: PrepareConfig) -> list[str]:
    """Names of the files of shard `number`; rows of each length bin have a folder of their own."""
    name = shard_name(number, shards)
    return [f"{bin_folder(width)}/{name}" for width in config.bins] if len(config.bins) > 1 else [name]


def totals_path(folder: str, number: int) -> str:
    """The file of a shard's totals; a shard that has one is whole."""
    return f"{folder}/{TOTALS}{number:05}.json"


def write_shard(number: int, documents: Iterable[DocumentPlace | DocumentText], writer: ShardWriter) -> Totals:
    """Write the records of the documents, unless an interrupted run has done so; returns what was counted.

    The files appear under their names when they are whole. A shard of one document has no random pairs.
    """
    if exists(writer.totals_path(number)):
        with open_bytes(writer.totals_path(number)) as file:
            return dict(json.load(file))
    ordered = sorted(documents)  # they arrive in any order
    texts = ((document_key(document_id), sentences) for document_id, sentences in read_documents(ordered))
    tokenized = tokenize_documents(texts, writer.encode, len(writer.vocabulary))
    names = [document.document_id for document in ordered]
    totals = document_totals(tokenized, names, len(writer.vocabulary))
    config, rows_written = writer.config, 0
    if config.semantics == "fixed":
        tokenized = cut_long_sentences(tokenized, config.packing_rules().room)
    instances = pack(tokenized, config.packing_rules())
    instances = instances.take(np.argsort(instances.keys, kind="stable"))
    with ExitStack() as stack:
        drafts = [stack.enter_context(draft_for(path)) for path in writer.paths(number)]
        files = [stack.enter_context(draft.open("wb")) for draft in drafts]
        for block in _blocks(instances):
            spans = Spans(block.starts_a, block.lengths_a, block.starts_b, block.lengths_b)
            rows = assemble(
                tokenized.ids,
                tokenized.continues,
                spans,
                block.labels,
                config.max_seq_length,
                writer.vocabulary,
                join_segments=config.semantics == "google",
            )
            more, rows, predictions = _mask_block(rows, block, writer)
            if number == 0 and "first_instances" not in totals:
                more["first_instances"] = first_instances(rows, predictions, writer.vocabulary, config)
            totals = add_totals(totals, more)
            _write(rows, predictions, files, writer)
            rows_written += len(block.keys)
            _note_done(len(ordered) * rows_written // len(instances.keys), number, writer.folder)
        if "://" in writer.folder:  # whoever asked for them does not read the files
            for file in files:
                file.flush()
            totals |= describe_files(shard_files(number, writer.shards, config), drafts)
    write_totals(totals, writer.totals_path(number))
    return totals


def _note_done(documents: int, number: int, folder: str) -> None:
    """Make a file, empty but as long, that tells whoever watches how many of a shard's are done; not in a bucket."""
    if "://" not in folder:
        with Path(folder, f"{DONE}{number:05}").open("ab") as file:
            file.truncate(documents)


def count_finished(work: Path) -> int:
    """How many shards in the folder are whole."""
    return len(list(work.glob(f"{TOTALS}*.json")))


def count_done(work: Path, documents: int, shards: int) -> int:
    """How many of all documents are done, by what workers leave in the folder: they may be other processes."""
    begun = finished = 0
    with os.scandir(work) as entries:
        for entry in entries:
            finished += entry.name.startswith(TOTALS)
            if entry.name.startswith(DONE):
                begun += entry.stat().st_size
    return max(begun, documents * finished // shards)


def forget_done(work: Path) -> None:
    """Remove what tells of documents that are done: of shards that were interrupted, or when all are whole."""
    for path in work.glob(f"{DONE}*"):
        path.unlink()


def _blocks(instances: Instances) -> Iterator[Instances]:
    for first in range(0, len(instances.keys), ROWS_AT_ONCE):
        yield instances.take(slice(first, first + ROWS_AT_ONCE))


def _mask_block(rows: Rows, block: Instances, writer: ShardWriter) -> tuple[Totals, Rows, Predictions | None]:
    """The rows as they are stored, and their totals."""
    if writer.config.masking == "dynamic":
        return row_totals(rows, None, None, writer.config), rows, None
    rows, predictions, outcomes = mask(rows, block.keys, writer.mask_rules)
    return row_totals(rows, predictions, outcomes, writer.config), rows, predictions


def _write(rows: Rows, predictions: Predictions | None, files: Sequence[BinaryIO], writer: ShardWriter) -> None:
    """Each row to the file of the narrowest bin that holds it."""
    if len(files) == 1:
        files[0].write(encode_rows(rows, predictions, writer.config.schema, len(writer.vocabulary)))
        return
    bins = writer.config.bins_of(rows.lengths, 0 if predictions is None else predictions.counts)
    for number, (width, most) in enumerate(zip(writer.config.bins, writer.config.bin_predictions)):
        mine = np.flatnonzero(bins == number)
        narrow = rows.take(mine)
        narrow = narrow._replace(
            token_ids=np.ascontiguousarray(narrow.token_ids[:, :width]),
            unit_starts=np.ascontiguousarray(narrow.unit_starts[:, :width]),
        )
        theirs = None
        if predictions is not None:
            positions, originals = (
                np.ascontiguousarray(column[mine, :most]) for column in (predictions.positions, predictions.originals)
            )
            theirs = Predictions(positions, originals, predictions.counts[mine])
        files[number].write(encode_rows(narrow, theirs, writer.config.schema, len(writer.vocabulary)))


def write_totals(totals: Totals, path: str) -> None:
    """Make the totals appear as the file `path`, whole."""
    with draft_for(path) as draft:
        draft.write_text(totals_as_json(totals), encoding="utf-8")


def word_pieces(tokenizer: WordPieceTokenizer, whole_words: bool, segment: Segmenter | None = None) -> Encoder:
    """The function that encodes lines: ids, offsets of the lines, and which pieces continue a unit.

    Units are words ("##" pieces continue them), the segmenter's units where there is one, or single pieces
    without `whole_words`.
    """
    if whole_words and segment is not None:
        return lambda lines: encode_units(tokenizer, lines, segment)
    continues_word = tokenizer.vocabulary.continuations & whole_words

    def encode(lines: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]:
        ids, offsets = tokenizer.encode_lines(lines)
        return ids, offsets, continues_word[ids]

    return encode


def tokenize_documents(
    documents: Iterable[tuple[int, list[str]]], encode: Encoder, vocab_size: int
) -> TokenizedDocuments:
    """Documents given as (key, sentences), without the sentences and documents that hold no token."""
    # Ids of up to 65,536 entries take two bytes each: half a megabyte for a megabyte of text.
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.int32
    keys, sentence_counts = [], []
    ids, continues, lengths = [np.zeros(0, dtype)], [np.zeros(0, bool)], [np.zeros(0, np.int64)]
    waiting: list[str] = []

    def tokenize_waiting() -> None:
        encoded, offsets, flags = encode(waiting)
        ids.append(encoded.astype(dtype))
        continues.append(flags)
        lengths.append(np.diff(offsets))
        waiting.clear()

    for key, sentences in documents:
        keys.append(key)
        sentence_counts.append(len(sentences))
        waiting.extend(sentences)
        if len(waiting) >= TOKENIZED_AT_ONCE:
            tokenize_waiting()
    tokenize_waiting()
    offsets = _offsets_without_empty(np.concatenate(lengths), np.array(sentence_counts, np.int64))
    kept = np.array(keys, np.uint64)[offsets[2]]
    return TokenizedDocuments(np.concatenate(ids), np.concatenate(continues), offsets[0], offsets[1], kept)


def _offsets_without_empty(
    lengths: NDArray[np.int64], sentence_counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Offsets of the sentences and of the documents that hold a token, and which documents [D] those are."""
    document_of_sentence = np.repeat(np.arange(len(sentence_counts)), sentence_counts)
    kept_counts = np.bincount(document_of_sentence[lengths > 0], minlength=len(sentence_counts))
    sentence_offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
    return sentence_offsets, np.concatenate([[0], np.cumsum(kept_counts[kept_counts > 0])]), kept_counts > 0


def cut_long_sentences(documents: TokenizedDocuments, room: int) -> TokenizedDocuments:
    """The same tokens with every sentence of more than `room` ones cut in pieces of about half of it, between units.

    The original shortens such sentences to one instance's length and never uses the rest; two pieces fill
    an instance.
    """
    lengths = np.diff(documents.sentence_offsets)
    piece = (room + 1) // 2
    most = len(lengths) + int((lengths[lengths > room] // piece).sum())
    sentence_offsets = np.zeros(most + 1, np.int64)
    document_offsets = np.zeros_like(documents.document_offsets)
    count = _cut_sentences(documents, room, piece, sentence_offsets, document_offsets)
    return documents._replace(sentence_offsets=sentence_offsets[: count + 1].copy(), document_offsets=document_offsets)


@compiled
def _cut_sentences(
    documents: TokenizedDocuments,
    room: int,
    piece: int,
    sentence_offsets: NDArray[np.int64],
    document_offsets: NDArray[np.int64],
) -> int:
    count = 0
    for document in range(len(documents.keys)):
        for sentence in range(documents.document_offsets[document], documents.document_offsets[document + 1]):
            start, end = documents.sentence_offsets[sentence], documents.sentence_offsets[sentence + 1]
            if end - start > room:
                for middle in range(start + piece, end, piece):
                    cut = middle
                    while documents.continues[cut] and cut > start:
                        cut -= 1
                    if cut > sentence_offsets[count]:
                        count += 1
                        sentence_offsets[count] = cut
            count += 1
            sentence_offsets[count] = end
        document_offsets[document + 1] = count
    return count
