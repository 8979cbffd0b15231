"""The documents of one shard -> its files of records, and its contents in numbers.

Everything random is a function of the document ids and the configuration, so a shard's bytes depend neither
on the order in which its documents arrive nor on who writes it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

import numpy as np

from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.hashing import document_key
from bertline.components.pretraining_data.instances import Instances, pack
from bertline.components.pretraining_data.paths import draft_for, exists, open_bytes, publish_draft
from bertline.components.pretraining_data.sentence_reader import CarriedDocument, DocumentPlace, read_documents
from bertline.components.pretraining_data.statistics import (
    Totals,
    added,
    document_totals,
    first_instances,
    row_totals,
    totals_as_json,
)
from bertline.components.pretraining_data.tokenized_documents import Encoder, cut_long_sentences, tokenize_documents
from bertline.model.records.masking import MaskRules, mask
from bertline.model.records.reader import bin_folder, encode_rows, shard_name
from bertline.model.records.rows import Predictions, Rows, Spans, assemble
from bertline.tokenizer.wordpiece import Vocabulary

ROWS_AT_ONCE = 1024  # enough to hide the cost of a NumPy call, few enough for a core's cache


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
        return [f"{self.folder}/{name}" for name in part_files(number, self.shards, self.config)]

    def totals_path(self, number: int) -> str:
        """Where the totals of shard `number` are kept, written last."""
        return totals_path(self.folder, number)


def part_files(number: int, shards: int, config: PrepareConfig) -> list[str]:
    """Names of the files of shard `number`; rows of each length bin have a folder of their own."""
    name = shard_name(number, shards)
    return [f"{bin_folder(width)}/{name}" for width in config.bins] if len(config.bins) > 1 else [name]


def totals_path(folder: str, number: int) -> str:
    """The file of a shard's totals; a shard that has one is whole."""
    return f"{folder}/totals-{number:05}.json"


def write_shard(number: int, documents: Iterable[DocumentPlace | CarriedDocument], writer: ShardWriter) -> Totals:
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
    config = writer.config
    if config.semantics == "fixed":
        tokenized = cut_long_sentences(tokenized, config.packing_rules().room)
    instances = pack(tokenized, config.packing_rules())
    instances = instances.take(np.argsort(instances.keys, kind="stable"))
    drafts = [draft_for(path) for path in writer.paths(number)]
    with ExitStack() as stack:
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
            more, rows, predictions = _masked(rows, block, writer)
            if number == 0 and "first_instances" not in totals:
                more["first_instances"] = first_instances(rows, predictions, writer.vocabulary, config)
            totals = added(totals, more)
            _write(rows, predictions, files, writer)
    for draft, path in zip(drafts, writer.paths(number)):
        publish_draft(draft, path)
    _keep_totals(totals, writer.totals_path(number))
    return totals


def _blocks(instances: Instances) -> Iterator[Instances]:
    for first in range(0, len(instances.keys), ROWS_AT_ONCE):
        yield instances.take(slice(first, first + ROWS_AT_ONCE))


def _masked(rows: Rows, block: Instances, writer: ShardWriter) -> tuple[Totals, Rows, Predictions | None]:
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


def _keep_totals(totals: Totals, path: str) -> None:
    draft = draft_for(path)
    draft.write_text(totals_as_json(totals), encoding="utf-8")
    publish_draft(draft, path)
