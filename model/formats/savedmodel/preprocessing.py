"""Our tokenizer -> a SavedModel of plain TensorFlow operations, from sentences to the encoder's inputs.

It gives the ids of `bertline.tokenizer` for every text, which tensorflow_text's two BERT tokenizers do not. Nothing is
needed to load it but TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertline.model.formats.savedmodel.repeatable_bytes import save_repeatably
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.encode import NO_SECOND_SEGMENT
from bertline.tokenizer.wordpiece import Vocabulary, parse_vocabulary

DEFAULT_LENGTH = 128  # word pieces, as TF Hub's

Tensor = Any


def write_preprocessing(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a SavedModel with the interface of TF Hub's BERT preprocessors into an existing folder.

    `model = tf.saved_model.load(folder)`, then `model(sentences)`, string [batch], gives input_word_ids, input_mask
    and input_type_ids, int32 [batch, 128], or as many as the model has positions. For other lengths and for pairs
    `model.bert_pack_inputs([model.tokenize(a), model.tokenize(b)], seq_length=64)` is
    `encode_pairs(tokenizer, a, b, 64)`. `model.tokenize(sentences)` gives ids, ragged [batch, (words), (pieces)], and
    `model.tokenize.get_special_tokens_dict()` those of the special tokens. Bytes that are not UTF-8 are left out.
    """
    import tensorflow as tf

    from bertline.model.formats.savedmodel.preprocessing_tokenizer import GraphTokenizer

    vocabulary = parse_vocabulary(checkpoint.vocabulary, "vocab.txt")
    tokenizer = GraphTokenizer(vocabulary, checkpoint.do_lower_case)
    packer = _Packer(vocabulary)
    length = min(DEFAULT_LENGTH, checkpoint.bert_config.max_position_embeddings)
    sentences = tf.TensorSpec([None], tf.string, "sentences")
    tokenize = tf.function(tokenizer.tokenize, [sentences], autograph=False)  # a graph that both functions call

    def prepare(sentences: Tensor) -> dict[str, Tensor]:
        return packer.pack([tokenize(sentences)], length)

    root = tf.train.Checkpoint()
    root.__call__ = tf.function(prepare, [sentences], autograph=False)
    root.tokenize = tf.train.Checkpoint()
    root.tokenize.__call__ = tokenize
    root.tokenize.get_special_tokens_dict = tf.train.Checkpoint()
    root.tokenize.get_special_tokens_dict.__call__ = tf.function(packer.special_tokens, [], autograph=False)
    root.bert_pack_inputs = tf.train.Checkpoint()
    root.bert_pack_inputs.__call__ = _pack_function(packer, length)
    root.tables = list(tokenizer.tables.values())
    save_repeatably(root, folder, {"serving_default": root.__call__.get_concrete_function()})


def _pack_function(packer: "_Packer", default_length: int) -> Any:
    """A function of one or two ragged tensors, of tokens or of words and their tokens."""
    import tensorflow as tf

    def pack(inputs: Sequence[Tensor], seq_length: Tensor = default_length) -> dict[str, Tensor]:
        return packer.pack(inputs, seq_length)

    function = tf.function(pack, autograph=False)
    for ranks in (1, 2):
        for segments in (1, 2):
            spec = tf.RaggedTensorSpec([None] * (ranks + 1), tf.int32)
            function.get_concrete_function([spec] * segments, seq_length=tf.TensorSpec([], tf.int32))
    return function


class _Packer:
    """Ids of one or two segments -> [CLS] A [SEP] B [SEP] and zeros, as `bertline.tokenizer.encode` has them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def special_tokens(self) -> dict[str, Tensor]:
        """The ids of the special tokens by TF Hub's names, int32 scalars."""
        import tensorflow as tf

        ids = {
            "vocab_size": len(self._vocabulary),
            "padding_id": self._vocabulary.pad_id,
            "start_of_sequence_id": self._vocabulary.cls_id,
            "end_of_segment_id": self._vocabulary.sep_id,
            "mask_id": self._vocabulary.mask_id,
        }
        return {name: tf.constant(number, tf.int32) for name, number in ids.items()}

    def pack(self, segments: Sequence[Tensor], length: Tensor) -> dict[str, Tensor]:
        """Rows of `length` from segments that are ragged [batch, (ids)] or [batch, (words), (ids)].

        Too long a pair loses ids from the end of the longer segment, of the second when both are equally long.
        """
        import tensorflow as tf

        lengths, starts, ids = _lay_out(segments, tf.cast(length, tf.int64))
        column = tf.cast(tf.range(length), tf.int64)[None, :]  # [1, length]
        first_end = lengths[0][:, None] + 1  # [batch, 1], the place of the [SEP] after the first segment
        last_end = first_end + lengths[1][:, None] + 1
        in_first = column < first_end
        place = tf.where(in_first, starts[0][:, None] + column - 1, starts[1][:, None] + column - first_end - 1)
        found = tf.gather(ids, tf.clip_by_value(place, 0, tf.size(ids, tf.int64) - 1))  # [batch, length]
        found = tf.where((column == first_end) | (column == last_end), self._vocabulary.sep_id, found)
        found = tf.where(column == 0, self._vocabulary.cls_id, found)
        used = tf.cast(column <= last_end, tf.int32)
        return {
            "input_word_ids": found * used,
            "input_mask": used,
            "input_type_ids": tf.cast(column > first_end, tf.int32) * used,
        }


def _lay_out(segments: Sequence[Tensor], width: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Of each segment what fits and where it starts, two times int64 [batch], in the ids of all, int32 [N].

    It is the rule of bertline.tokenizer.encode.truncated_lengths. A missing second one has NO_SECOND_SEGMENT ids.
    """
    import tensorflow as tf

    values, splits = zip(*(_flatten_words(segment) for segment in segments))
    first, starts = splits[0][1:] - splits[0][:-1], [splits[0][:-1]]
    if len(segments) == 1:
        kept = tf.minimum(first, tf.maximum(width - 2, 0))
        lengths, starts = [kept, tf.ones_like(kept) * NO_SECOND_SEGMENT], starts * 2
    else:
        room = tf.maximum(width - 3, 0)
        second = splits[1][1:] - splits[1][:-1]
        kept = tf.minimum(first, tf.maximum((room + 1) // 2, room - second))
        lengths = [kept, tf.minimum(second, room - kept)]
        starts.append(splits[1][:-1] + tf.size(values[0], tf.int64))
    return lengths, starts, tf.concat([*values, [0]], 0)  # at least one, for the places that are not used


def _flatten_words(segment: Tensor) -> tuple[Tensor, Tensor]:
    """The ids of all rows, int32 [ids], and where each row begins and ends among them, int64 [batch + 1]."""
    import tensorflow as tf

    values, splits = segment.values, segment.row_splits
    if segment.shape.rank == 3:
        values, splits = values.values, tf.gather(values.row_splits, splits)
    return values, tf.cast(splits, tf.int64)
