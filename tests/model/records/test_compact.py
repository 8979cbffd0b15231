"""Compact and unmasked records: bytes that TensorFlow parses, rows that come back, bins of lengths."""

import json

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.heads import pretraining_losses, pretraining_whole
from bertline.model.records.canonical import encode_examples
from bertline.model.records.files import shard_name
from bertline.model.records.masking import MaskConfig, mask, mask_rules, write_masking
from bertline.model.records.reader import encode_rows, open_records, training_batch
from bertline.model.records.rows import Spans, assemble, features
from bertline.tokenizer.wordpiece import Vocabulary

tf = pytest.importorskip("tensorflow")

VOCABULARY = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(30_517))))


def some_rows(count, width=16, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(5, len(VOCABULARY), 5000).astype(np.uint16)
    lengths_a = random.integers(1, width - 4, count)
    lengths_b = 1 + (random.random(count) * (width - 3 - lengths_a)).astype(np.int64)
    spans = Spans(random.integers(0, 4000, count), lengths_a, random.integers(0, 4000, count), lengths_b)
    labels = random.integers(0, 2, count).astype(np.uint8)
    return assemble(ids, random.random(5000) < 0.3, spans, labels, width, VOCABULARY)


def masked_rows(count, width=16, predictions=4, seed=0):
    keys = np.random.default_rng(seed).integers(0, 2**63, count).astype(np.uint64)
    rules = mask_rules(MaskConfig(max_predictions_per_seq=predictions), VOCABULARY, width)
    return mask(some_rows(count, width, seed), keys, rules)[:2]


def written(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.tfrecord").write_bytes(content)
    return folder


def unmasked(folder, rows, config, seed=7):
    write_masking(written(folder, part=encode_rows(rows, None, "compact", len(VOCABULARY))), config, seed, VOCABULARY)
    return folder


@pytest.mark.parametrize(("width", "vocab_size"), [(16, 30_522), (256, 65_536), (257, 65_537), (512, 30_522)])
def test_compact_rows_come_back_as_the_canonical_ones(tmp_path, width, vocab_size):
    rows, predictions = masked_rows(50, width)
    compact = open_records(
        written(tmp_path / "compact", x=encode_rows(rows, predictions, "compact", vocab_size)), width, len(VOCABULARY)
    )
    canonical = open_records(
        written(tmp_path / "canonical", x=encode_rows(rows, predictions, "canonical", vocab_size)), width
    )
    assert (compact.schema, canonical.schema) == ("compact", "canonical")
    assert (compact.max_seq_length, compact.max_predictions_per_seq, len(compact)) == (width, 4, 50)
    order = np.random.default_rng(0).permutation(50)
    ours, theirs = compact.batch(order), canonical.batch(order)
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype and (array == theirs[name]).all()


def test_tensorflow_parses_compact_records(tmp_path):
    rows, predictions = masked_rows(3)
    file = tmp_path / "x.tfrecord"
    file.write_bytes(encode_rows(rows, predictions, "compact", 30_522))
    specification = {
        name: tf.io.FixedLenFeature([], tf.string) for name in ("shape", "token_ids", "positions", "originals")
    }
    messages = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    parsed = tf.io.parse_example(messages, specification)
    ids = tf.io.decode_raw(parsed["token_ids"], tf.uint16).numpy()
    assert (ids == rows.token_ids).all()
    assert (tf.io.decode_raw(parsed["positions"], tf.uint8).numpy() == predictions.positions).all()
    shape = tf.io.decode_raw(parsed["shape"], tf.uint16).numpy()
    assert (shape[:, 0] == rows.lengths).all() and (shape[:, 2] == predictions.counts).all()
    for message in messages:  # the bytes are those of protobuf's own serialisation
        assert tf.train.Example.FromString(message).SerializeToString(deterministic=True) == message


def test_ids_beyond_sixteen_bits_are_kept(tmp_path):
    rows, predictions = masked_rows(3)
    rows.token_ids[1, 1] = 70_000
    records = open_records(written(tmp_path, x=encode_rows(rows, predictions, "compact", 70_001)))
    assert records.batch(np.arange(3))["input_ids"][1, 1] == 70_000


def test_compact_records_take_half_the_bytes():
    rows, predictions = masked_rows(200, width=128, predictions=20)
    sizes = [len(encode_rows(rows, predictions, schema, 30_522)) for schema in ("compact", "canonical")]
    assert sizes[0] < 0.6 * sizes[1]


def test_unmasked_records_are_masked_afresh_in_each_epoch_and_alike_whenever_they_are_read(tmp_path):
    rows = some_rows(200, width=32)
    records = open_records(unmasked(tmp_path / "a", rows, MaskConfig(max_predictions_per_seq=5)), 32, len(VOCABULARY))
    assert (records.schema, records.max_predictions_per_seq) == ("unmasked", 5)
    everything = np.arange(200)
    first, second = records.batch(everything), records.batch(everything, epochs=1)
    assert (first["input_ids"] != second["input_ids"]).any(axis=1).mean() > 0.9
    for epoch, batch in enumerate((first, second)):
        before = batch["input_ids"].copy()
        row, rank = np.nonzero(batch["masked_lm_weights"])
        before[row, batch["masked_lm_positions"][row, rank]] = batch["masked_lm_ids"][row, rank]
        assert (before == rows.token_ids).all() and len(row) > 400
        some = records.batch(everything[90:30:-7], np.full(9, epoch))
        for name, array in some.items():
            assert (array == batch[name][90:30:-7]).all()
    mixed = records.batch(np.array([3, 3]), np.array([0, 1]))
    assert (mixed["input_ids"][0] == first["input_ids"][3]).all()
    assert (mixed["input_ids"][1] == second["input_ids"][3]).all()
    other_seed = open_records(unmasked(tmp_path / "b", rows, MaskConfig(max_predictions_per_seq=5), seed=8))
    assert (other_seed.batch(everything)["input_ids"] != first["input_ids"]).any()


def test_word_boundaries_are_stored_with_unmasked_rows(tmp_path):
    rows = some_rows(300, width=32)
    records = open_records(unmasked(tmp_path / "a", rows, MaskConfig(max_predictions_per_seq=32, masked_lm_prob=0.4)))
    batch = records.batch(np.arange(300))
    chosen = np.zeros(rows.token_ids.shape, bool)
    row, rank = np.nonzero(batch["masked_lm_weights"])
    chosen[row, batch["masked_lm_positions"][row, rank]] = True
    column = np.arange(31)
    inside = (column >= 1) & ~rows.unit_starts[:, 1:] & (column + 1 < rows.lengths[:, None] - 1)
    inside &= (column + 1 != rows.first_lengths[:, None] - 1) & (column != rows.first_lengths[:, None] - 1)
    assert inside.sum() > 500 and (chosen[:, 1:] == chosen[:, :-1])[inside].all()


def test_unmasked_records_without_their_rules_are_refused(tmp_path):
    written(tmp_path, x=encode_rows(some_rows(3), None, "compact", 30_522))
    with pytest.raises(FileNotFoundError, match=r"masking\.json: missing, but the records are unmasked"):
        open_records(tmp_path)
    (tmp_path / "masking.json").write_text(json.dumps({"mask": {"ngrams": 2}, "seed": 1, "tokens": ["a"]}))
    with pytest.raises(ValueError, match="unknown MaskConfig keys: ngrams"):
        open_records(tmp_path)
    for foreign in ("{}", "[]", "cut {"):
        (tmp_path / "masking.json").write_text(foreign)
        with pytest.raises(ValueError, match=r"masking\.json: not how records are to be masked"):
            open_records(tmp_path)


def in_bins(folder, schema="compact", **bins):
    """A set with a subfolder of each name: rows and predictions, or rows alone."""
    for name, rows_of_bin in bins.items():
        rows, predictions = rows_of_bin if len(rows_of_bin) == 2 else (rows_of_bin, None)
        (folder / name).mkdir(parents=True)
        (folder / name / shard_name(0, 1)).write_bytes(encode_rows(rows, predictions, schema, len(VOCABULARY)))
    return folder


@pytest.mark.parametrize("schema", ["canonical", "compact"])
def test_length_bins_are_read_at_their_width_or_filled_up(tmp_path, schema):
    short, middle, long = masked_rows(5, 16, 2), masked_rows(6, 24, 3, seed=2), masked_rows(7, 32, 5, seed=1)
    # As names are sorted, the widest comes first; the bins are numbered by width.
    folder = in_bins(tmp_path, schema, a_long=long, length_16=short, length_24=middle)
    records = open_records(folder, max_seq_length=32, vocab_size=len(VOCABULARY))
    assert (records.bin_widths, records.bin_sizes, len(records)) == ((16, 24, 32), (5, 6, 7), 18)
    assert (records.max_seq_length, records.max_predictions_per_seq) == (32, 5)
    whole = records.batch(np.arange(18))
    assert whole["input_ids"].shape == (18, 32) and whole["masked_lm_ids"].shape == (18, 5)
    for first, (rows, predictions) in ((0, short), (5, middle), (11, long)):
        indices = first + np.arange(len(rows.labels))[::-1]
        shape = records.shape_of(indices)
        assert shape == (rows.token_ids.shape[1], predictions.positions.shape[1])
        batch, expected = records.batch(indices, shape=shape), features(rows, predictions)
        for name, array in batch.items():
            given = expected[name][::-1]
            assert (array == (given[:, 0] if array.ndim == 1 else given)).all()
            filled = whole[name][indices]
            assert array.ndim == 1 or (filled[:, : array.shape[1]] == array).all()
            assert array.ndim == 1 or not filled[:, array.shape[1] :].any()
    mixed = np.array([8, 0])
    assert records.shape_of(mixed) == (24, 3)
    batch = records.batch(mixed, shape=records.shape_of(mixed))
    assert (batch["input_ids"][0] == middle[0].token_ids[3]).all()
    assert (batch["input_ids"][1, :16] == short[0].token_ids[0]).all() and not batch["input_ids"][1, 16:].any()


def test_the_widest_bin_may_be_empty(tmp_path):
    folder = in_bins(tmp_path, length_16=masked_rows(5, 16, 2), length_32=masked_rows(0, 32, 5))
    records = open_records(folder, max_seq_length=32)
    assert (records.max_seq_length, records.bin_widths) == (32, (16,))
    assert records.batch(np.arange(5))["input_ids"].shape == (5, 32)
    assert training_batch(records, 4, 1, 0)["input_ids"].shape == (4, 16)
    with pytest.raises(ValueError, match="max_seq_length is 32, this stage needs 16"):
        open_records(folder, max_seq_length=16)


def test_training_batches_are_as_wide_as_their_bin_on_every_host(tmp_path):
    records = open_records(in_bins(tmp_path, length_16=masked_rows(40, 16, 2), length_32=masked_rows(43, 32, 5)))
    widths = []
    for step in range(2 * 83 // 8):
        batch = training_batch(records, 8, 1, step)
        widths.append(batch["input_ids"].shape[1])
        assert batch["masked_lm_ids"].shape == (8, {16: 2, 32: 5}[widths[-1]])
        shares = [training_batch(records, 8, 1, step, host, hosts=4) for host in range(4)]
        for name, array in batch.items():
            assert np.array_equal(np.concatenate([share[name] for share in shares]), array)
    assert widths.count(16) == 10


def test_a_batch_at_its_bins_width_has_the_losses_of_the_filled_up_one(tmp_path):
    records = open_records(in_bins(tmp_path, length_16=masked_rows(9, 16, 2), length_32=masked_rows(9, 32, 5)))
    shape = BertConfig(len(VOCABULARY), 32, 2, 2, intermediate_size=64, max_position_embeddings=32)
    weights = initial_weights(pretraining_shapes(shape), 0.3, seed=1)
    narrow, filled = records.batch(np.arange(9), shape=records.shape_of(np.arange(9))), records.batch(np.arange(9))
    assert (narrow["input_ids"].shape, filled["input_ids"].shape) == ((9, 16), (9, 32))
    losses = [pretraining_losses(weights, shape, batch, pretraining_whole(batch)) for batch in (narrow, filled)]
    for name, value in losses[0].items():
        assert float(value) == pytest.approx(float(losses[1][name]), rel=1e-6)


def test_rows_of_a_bin_are_masked_within_its_predictions(tmp_path):
    short, long = some_rows(200, 16), some_rows(100, 32, seed=1)
    folder = in_bins(tmp_path, length_16=short, length_32=long)
    write_masking(folder, MaskConfig(max_predictions_per_seq=5), 7, VOCABULARY)
    records = open_records(folder, 32)
    everything = np.arange(200)
    assert records.shape_of(everything) == (16, 2)  # 15 % of 16
    epochs = [records.batch(everything, epoch, records.shape_of(everything)) for epoch in (0, 1)]
    assert (epochs[0]["input_ids"] != epochs[1]["input_ids"]).any(axis=1).mean() > 0.8
    for epoch, batch in enumerate(epochs):
        before = batch["input_ids"].copy()
        row, rank = np.nonzero(batch["masked_lm_weights"])
        before[row, batch["masked_lm_positions"][row, rank]] = batch["masked_lm_ids"][row, rank]
        assert (before == short.token_ids).all()
        # Filled up to the set's width, and beside rows of another bin, they are masked alike.
        beside = records.batch(np.append(everything, 299), epoch)
        assert (beside["input_ids"][:200, :16] == batch["input_ids"]).all()
        assert (beside["masked_lm_ids"][:200, :2] == batch["masked_lm_ids"]).all()


def test_kinds_are_not_mixed(tmp_path):
    short = masked_rows(5, width=16)
    mixed = written(
        tmp_path / "mixed",
        a=encode_rows(*short, "compact", 30_522),
        b=encode_rows(*short, "canonical", 30_522),
    )
    with pytest.raises(ValueError, match=r"b\.tfrecord: schema is canonical, but compact in"):
        open_records(mixed)
    sizes = written(
        tmp_path / "sizes",
        a=encode_rows(*short, "compact", 65_536),
        b=encode_rows(*short, "compact", 65_537),
    )
    with pytest.raises(ValueError, match=r"b\.tfrecord: the size of a record in bytes is \d+, but \d+ in .*a\."):
        open_records(sizes)


def test_cut_and_damaged_compact_files_are_refused(tmp_path):
    whole = encode_rows(*masked_rows(40), "compact", 30_522)
    file = written(tmp_path, x=whole) / "x.tfrecord"
    file.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"x\.tfrecord: cut off after 39 whole records"):
        open_records(tmp_path)
    file.write_bytes(whole[:-20] + b"x" + whole[-19:])
    with pytest.raises(ValueError, match=r"record 39 at byte \d+ is damaged"):
        open_records(tmp_path).batch(np.array([39]))
    file.write_bytes(whole + encode_examples(features(*masked_rows(1))))
    with pytest.raises(ValueError, match="record 40 differs in layout from the first"):
        open_records(tmp_path).batch(np.array([40]))
