"""The documents of one shard -> one file of records, and its contents in numbers.

Everything random is a function of the document ids and the configuration, so a shard's bytes depend neither
on the order in which its documents arrive nor on who writes it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.components.hashing import document_key
from bertline.components.instances import (
    SPECIAL_TOKENS_IN_PAIR,
    Instances,
    TokenizedDocuments,
    cut_long_sentences,
    pack,
    tokenize_documents,
)
from bertline.components.masking import MaskRules, mask_rules, masked_rows
from bertline.components.sentence_reader import DocumentPlace, read_documents
from bertline.model.records import encode_examples
from bertline.tokenizer.wordpiece import WordPieceTokenizer

if TYPE_CHECKING:
    from bertline.components.prepare import PrepareConfig

ROWS_AT_ONCE = 2048  # enough to hide the cost of a NumPy call, few enough for a core's cache

Totals = dict[str, Any]  # integers, and arrays of them, that are added up over shards


def write_shard(
    documents: Iterable[DocumentPlace], path: Path, tokenizer: WordPieceTokenizer, config: "PrepareConfig"
) -> Totals:
    """Write the records of the documents at these places; returns what was counted.

    The file appears under its name only when it is whole. A shard of one document has no random pairs.
    """
    ordered = sorted(documents)  # they arrive in any order
    texts = ((document_key(document_id), sentences) for document_id, sentences in read_documents(ordered))
    tokenized = tokenize_documents(texts, tokenizer)
    rules = mask_rules(
        tokenizer.vocabulary,
        max_seq_length=config.max_seq_length,
        max_predictions_per_seq=config.max_predictions_per_seq,
        masked_lm_prob=config.masked_lm_prob,
        do_whole_word_mask=config.do_whole_word_mask,
    )
    totals = _text_totals(tokenized, tokenizer) | {"dropped.empty_document": len(ordered) - len(tokenized.keys)}
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        for instances in _blocks(_shuffled_instances(tokenized, rules, config)):
            rows = masked_rows(tokenized.ids, instances, rules)
            file.write(encode_examples(rows))
            totals = added(totals, _row_totals(rows, rules))
    unfinished.replace(path)
    return totals


def added(first: Totals, second: Totals) -> Totals:
    """Two totals added up name by name."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in first | second}


def _shuffled_instances(tokenized: TokenizedDocuments, rules: MaskRules, config: "PrepareConfig") -> Instances:
    cut = cut_long_sentences(tokenized, config.max_seq_length - SPECIAL_TOKENS_IN_PAIR, rules.continues_word)
    instances = pack(
        cut,
        seed=config.seed,
        dupe_factor=config.dupe_factor,
        max_seq_length=config.max_seq_length,
        short_seq_prob=config.short_seq_prob,
    )
    return instances.take(np.argsort(instances.keys, kind="stable"))


def _blocks(instances: Instances) -> Iterator[Instances]:
    for first in range(0, len(instances), ROWS_AT_ONCE):
        yield instances.take(slice(first, first + ROWS_AT_ONCE))


def _text_totals(tokenized: TokenizedDocuments, tokenizer: WordPieceTokenizer) -> Totals:
    occurrences = np.bincount(tokenized.ids, minlength=len(tokenizer.vocabulary))
    return {
        "documents": len(tokenized.keys),
        "sentences": len(tokenized.sentence_offsets) - 1,
        "tokens": len(tokenized.ids),
        "token_counts": occurrences.astype(np.int64),  # [vocabulary]
    }


def _row_totals(rows: dict[str, Any], rules: MaskRules) -> Totals:
    row, rank = np.nonzero(rows["masked_lm_weights"])
    labels = rows["masked_lm_ids"][row, rank]
    shown = rows["input_ids"][row, rows["masked_lm_positions"][row, rank]]
    masked, kept = shown == rules.vocabulary.mask_id, shown == labels
    return {
        "instances": len(rows["input_ids"]),
        "random_next": int(rows["next_sentence_labels"].sum()),
        "tokens_in_rows": int(rows["input_mask"].sum()),
        "masked_tokens": len(labels),
        "masked.mask": int(np.count_nonzero(masked)),
        "masked.same": int(np.count_nonzero(kept & ~masked)),
        "masked.random": int(np.count_nonzero(~kept & ~masked)),
    }
