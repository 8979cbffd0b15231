"""The records: bytes as TensorFlow makes them, and reading them back in any order."""

import json
import subprocess
import sys

import numpy as np
import pytest

from bertline.model.records.canonical import encode_examples
from bertline.model.records.files import shard_name
from bertline.model.records.reader import open_records, require_tokenizer
from bertline.model.records.rows import FEATURES
from bertline.tokenizer.wordpiece import Vocabulary, parse_vocabulary

tf = pytest.importorskip("tensorflow")


def some_rows(count, width=16, predictions=4, largest_id=30_521, seed=0):
    random = np.random.default_rng(seed)
    return {
        "input_ids": random.integers(0, largest_id + 1, (count, width)),
        "input_mask": random.integers(0, 2, (count, width)),
        "segment_ids": random.integers(0, 2, (count, width)),
        "masked_lm_positions": random.integers(0, width, (count, predictions)),
        "masked_lm_ids": random.integers(0, largest_id + 1, (count, predictions)),
        "masked_lm_weights": random.random((count, predictions)).astype(np.float32),
        "next_sentence_labels": random.integers(0, 2, (count, 1)),
    }


def written(folder, *parts):
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(parts):
        (folder / shard_name(number, len(parts))).write_bytes(encode_examples(rows))
    return folder


def as_example(row):
    features = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=values))
        if values.dtype == np.float32
        else tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        for name, values in row.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


@pytest.mark.parametrize(
    ("width", "largest_id"),
    [(5, 100), (16, 127), (16, 128), (16, 16_383), (128, 16_384), (512, 30_521), (5, 2_500_000)],
)
def test_bytes_are_those_of_tensorflow(tmp_path, width, largest_id):
    rows = some_rows(9, width, largest_id=largest_id)
    rows["input_ids"][0], rows["input_ids"][1] = largest_id, 0
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for number in range(9):
            example = as_example({name: array[number] for name, array in rows.items()})
            writer.write(example.SerializeToString(deterministic=True))
    assert encode_examples(rows) == (tmp_path / "theirs").read_bytes()


def test_the_originals_feature_specification_reads_them(tmp_path):
    rows = some_rows(3, width=128, predictions=20)
    file = written(tmp_path / "records", rows) / shard_name(0, 1)
    specification = {
        "input_ids": tf.io.FixedLenFeature([128], tf.int64),
        "input_mask": tf.io.FixedLenFeature([128], tf.int64),
        "segment_ids": tf.io.FixedLenFeature([128], tf.int64),
        "masked_lm_positions": tf.io.FixedLenFeature([20], tf.int64),
        "masked_lm_ids": tf.io.FixedLenFeature([20], tf.int64),
        "masked_lm_weights": tf.io.FixedLenFeature([20], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }
    messages = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    parsed = tf.io.parse_example(messages, specification)
    assert list(FEATURES) == list(specification)
    for name, array in rows.items():
        assert (parsed[name].numpy() == array).all()


def test_no_rows_are_no_bytes():
    assert encode_examples(some_rows(0)) == b""


@pytest.mark.parametrize("value", [-1, 1 << 28])
def test_integers_that_no_id_can_be_are_refused(value):
    rows = some_rows(2)
    rows["masked_lm_ids"][1, 1] = value
    with pytest.raises(ValueError, match=f"masked_lm_ids holds {value}"):
        encode_examples(rows)


def test_any_records_in_any_order(tmp_path):
    parts = [some_rows(count, seed=count) for count in (5, 0, 1, 40)]
    records = open_records(written(tmp_path / "records", *parts), max_seq_length=16, vocab_size=30_522)
    assert (len(records), records.max_seq_length, records.max_predictions_per_seq) == (46, 16, 4)
    indices = np.random.default_rng(0).permutation(46)
    batch = records.batch(indices)
    for name, (dtype, _) in FEATURES.items():
        expected = np.concatenate([part[name] for part in parts])[indices]
        if name == "next_sentence_labels":
            expected = expected[:, 0]
        assert batch[name].dtype == dtype and batch[name].shape == expected.shape
        assert (batch[name] == expected).all()
    assert records.batch(np.array([45, 45]))["input_ids"].shape == (2, 16)
    with pytest.raises(IndexError, match="46"):
        records.batch(np.array([46]))


def test_missing_and_empty_sets_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no such folder of records; run "bertline prepare"'):
        open_records(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no \*\.tfrecord file"):
        open_records(tmp_path)
    with pytest.raises(ValueError, match="holds no records"):
        open_records(written(tmp_path / "empty", some_rows(0)))


def test_records_of_another_length_are_refused(tmp_path):
    folder = written(tmp_path / "records_512", some_rows(3))
    with pytest.raises(
        ValueError,
        match=r"records_512/part-00000-of-00001\.tfrecord: max_seq_length is 16, this stage needs 512; "
        r"give --max_seq_length=16, or make records of the other length",
    ):
        open_records(folder, max_seq_length=512)
    mixed = written(tmp_path / "mixed", some_rows(3), some_rows(3, width=32))
    with pytest.raises(ValueError, match=r"mixed/part-00001-of-00002.*: max_seq_length is 32, but 16 in .*part-00000"):
        open_records(mixed)
    both = tmp_path / "both"
    both.mkdir()
    (both / "x.tfrecord").write_bytes(encode_examples(some_rows(2)) + encode_examples(some_rows(2, predictions=5)))
    with pytest.raises(ValueError, match=r"x\.tfrecord: a record is not one of pretraining with max_seq_length 16"):
        open_records(both)


def test_ids_beyond_the_vocabulary_are_refused(tmp_path):
    for feature in ("input_ids", "masked_lm_ids"):
        rows = some_rows(50, largest_id=99)
        rows[feature][49, 2] = 100
        records = open_records(written(tmp_path / feature, some_rows(3, largest_id=99), rows), vocab_size=100)
        records.batch(np.arange(52))
        with pytest.raises(
            ValueError, match=r"part-00001-of-00002\.tfrecord: holds id 100, but the vocabulary has 100"
        ):
            records.batch(np.array([52]))
    with pytest.raises(ValueError, match="the vocabulary has 50 entries"):
        open_records(tmp_path / "input_ids", vocab_size=50)


def test_another_vocabulary_is_refused_though_it_is_as_large(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two"]
    lines = "\n".join(tokens).encode()
    require_tokenizer(tmp_path, lines, True)  # of records without notes nothing is known
    (tmp_path / "stats.json").write_text(json.dumps({"vocabulary": Vocabulary(tuple(tokens)).note()}))
    for same in (lines, lines + b"\n", lines.replace(b"\n", b"\r\n"), b""):
        require_tokenizer(tmp_path, same, True)
    for other in (lines.replace(b"one\ntwo", b"two\none"), lines + b"\nthree"):
        entries = len(other.split())
        with pytest.raises(ValueError, match=f"another vocabulary, of 7 entries, than the model's, of {entries}; "):
            require_tokenizer(tmp_path, other, True)


@pytest.mark.parametrize("lower", [True, False])
def test_records_of_another_case_than_the_models_are_refused(lower, tmp_path):
    lines = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one"]).encode()
    notes = {"vocabulary": parse_vocabulary(lines, "vocab.txt").note(), "settings": {"do_lower_case": lower}}
    (tmp_path / "stats.json").write_text(json.dumps(notes))
    for vocabulary in (lines, b""):  # a converted model need not have one
        require_tokenizer(tmp_path, vocabulary, lower)
        with pytest.raises(ValueError, match=f"its do_lower_case is {lower}, the model's {not lower}; train".lower()):
            require_tokenizer(tmp_path, vocabulary, not lower)


def test_cut_and_damaged_files_are_refused(tmp_path):
    folder = written(tmp_path / "records", some_rows(40))
    file = folder / shard_name(0, 1)
    whole = file.read_bytes()
    first = 16 + int.from_bytes(whole[:8], "little")
    for length in (len(whole) - 1, len(whole) - 300, first + 5):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part-00000-of-00001\.tfrecord: cut off after \d+ whole records"):
            open_records(folder)
    file.write_bytes(whole[:first] + b"x" + whole[first + 1 :])
    with pytest.raises(ValueError, match=r"damaged at byte \d+|cut off"):
        open_records(folder)
    file.write_bytes(whole[:-20] + b"x" + whole[-19:])
    records = open_records(folder)
    with pytest.raises(ValueError, match=r"record 39 at byte \d+ is damaged"):
        records.batch(np.array([39]))


def test_a_record_of_another_size_is_named_with_its_file(tmp_path):
    parts = [encode_examples(some_rows(40, seed=seed)) for seed in range(3)]
    folder = tmp_path / "records"
    folder.mkdir()
    for number, content in enumerate(parts):
        more = encode_examples(some_rows(1, predictions=5)) if number == 1 else b""
        (folder / shard_name(number, 3)).write_bytes(content + more)
    records = open_records(folder)
    assert records.batch(np.array([100, 3, 79]))["input_ids"].shape == (3, 16)
    with pytest.raises(ValueError, match=r"part-00001-of-00003\.tfrecord: a record is not one of pretraining"):
        records.batch(np.array([100, 80, 3]))


def test_more_files_than_a_process_may_open_at_first(tmp_path):
    written(tmp_path / "records", *(some_rows(1, seed=seed) for seed in range(300)))
    program = (
        "import resource; from pathlib import Path; from bertline.model.records.reader import open_records\n"
        "for hard in (1000, 250):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))\n"
        f"    print(len(open_records(Path({str(tmp_path / 'records')!r}))))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "300\n"
    assert "there are 300 files of records, but a process may open 250 (ulimit -Hn)" in run.stderr


@pytest.mark.parametrize("content", [b"hello", b"no TFRecord file at all, but text" * 9, bytes(100)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.tfrecord").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.tfrecord: (not a TFRecord file|cut off)"):
        open_records(tmp_path)


def test_other_examples_are_refused(tmp_path):
    rows = some_rows(3)
    del rows["masked_lm_ids"], rows["masked_lm_weights"]
    (tmp_path / "x.tfrecord").write_bytes(encode_examples(rows))
    with pytest.raises(ValueError, match=r"not of pretraining \(features: input_ids, input_mask, masked_lm_positions"):
        open_records(tmp_path)
    (tmp_path / "x.tfrecord").write_bytes(encode_examples({**rows, "input_ids": np.ones((3, 16), np.float32)}))
    with pytest.raises(ValueError, match=r"x\.tfrecord: its records are not of pretraining"):
        open_records(tmp_path)


@pytest.mark.golden
def test_the_originals_records_are_read_and_written_alike(reference, tmp_path):
    for name in ("instances_plain", "instances_wwm"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "theirs.tfrecord").write_bytes((reference / f"{name}.tfrecord").read_bytes())
        records = open_records(folder, max_seq_length=128, vocab_size=972)
        assert (len(records), records.max_predictions_per_seq) == (78, 20)
        rows = records.batch(np.arange(78))
        rows["next_sentence_labels"] = rows["next_sentence_labels"][:, None]
        (tmp_path / "ours.tfrecord").write_bytes(encode_examples(rows))
        theirs = [
            tf.train.Example.FromString(message).SerializeToString(deterministic=True)
            for message in tf.data.TFRecordDataset(str(folder / "theirs.tfrecord")).as_numpy_iterator()
        ]
        assert theirs == list(tf.data.TFRecordDataset(str(tmp_path / "ours.tfrecord")).as_numpy_iterator())
