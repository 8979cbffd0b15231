"""bertline.read_records: rows by number, slices of them, and rows to read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertline.model.formats.tokenizer import Tokenizer
from bertline.model.records.compact import encode_compact
from bertline.model.records.masking import MaskConfig, write_masking
from bertline.model.records.reader import encode_rows
from bertline.model.records.rows import FEATURES, Predictions, Rows, features
from bertline.model.records.sequence import RecordSequence, read_records
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary

WORDS = (*SPECIAL_TOKENS, *(f"w{number}" for number in range(15)))
TOKENIZER = Tokenizer(WORDS)


def made(count: int, seed: int = 1) -> tuple[Rows, Predictions]:
    """Rows of [CLS] five words [SEP] two words [SEP] and four zeros, with two predictions each."""
    generator = np.random.default_rng(seed)
    ids = np.zeros((count, 14), np.int32)
    ids[:, :10] = generator.integers(5, len(WORDS), (count, 10))
    ids[:, 0], ids[:, 6], ids[:, 9] = 2, 3, 3
    originals = ids[:, [2, 8]].copy()
    ids[:, 2] = 4
    lengths, firsts = np.full(count, 10, np.int32), np.full(count, 7, np.int32)
    labels = generator.integers(0, 2, count).astype(np.uint8)
    rows = Rows(ids, lengths, firsts, labels, ids > 4)
    positions, counts = np.tile(np.array([2, 8], np.int32), (count, 1)), np.full(count, 2, np.int32)
    zeros = np.zeros((count, 1), np.int32)
    return rows, Predictions(np.hstack([positions, zeros]), np.hstack([originals, zeros]), counts)


@pytest.fixture(params=["canonical", "compact"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two files of 5 and 3 rows."""
    for number, count in enumerate((5, 3)):
        file = tmp_path / f"part-{number:05}-of-00002.tfrecord"
        file.write_bytes(encode_rows(*made(count, number), request.param, len(WORDS)))
    return tmp_path


def expected() -> dict[str, np.ndarray]:
    parts = [features(*made(count, number)) for number, count in enumerate((5, 3))]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in FEATURES}
    return joined | {"next_sentence_labels": joined["next_sentence_labels"].reshape(-1)}


def assert_rows(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(FEATURES)
    for name, (kind, _) in FEATURES.items():
        assert found[name].dtype == kind
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.parametrize(
    "key", [slice(2, 7), slice(None), slice(None, None, -3), slice(4, 4), [7, 0, -1], np.array([3])]
)
def test_a_slice_is_a_batch(folder: Path, key: Any) -> None:
    records = read_records(folder)
    assert (len(records), records.max_seq_length, records.max_predictions_per_seq) == (8, 14, 3)
    assert_rows(records[key], {name: values[key] for name, values in expected().items()})


def test_a_number_is_a_row_and_an_iteration_gives_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, wanted = read_records(str(folder)), expected()
    for number in (0, 7, -1, -8, np.int64(4)):
        row = records[number]
        assert row["input_ids"].shape == (14,) and row["masked_lm_ids"].shape == (3,)
        assert row["next_sentence_labels"].shape == ()
        assert_rows(row, {name: values[number] for name, values in wanted.items()})
    monkeypatch.setattr("bertline.model.records.sequence.ROWS_AT_ONCE", 3)
    rows = list(records)
    assert len(rows) == 8
    assert_rows({name: np.stack([row[name] for row in rows]) for name in FEATURES}, wanted)


def test_files_may_be_named(folder: Path) -> None:
    first, second = sorted(folder.glob("*.tfrecord"))
    assert (len(read_records(first)), len(read_records([second])), len(read_records([first, str(second)]))) == (5, 3, 8)


def test_a_row_can_be_read(folder: Path) -> None:
    records = read_records(folder)
    ids, originals = expected()["input_ids"][1], expected()["masked_lm_ids"][1]
    pieces = [WORDS[number] for number in ids[:10]]
    pieces[2], pieces[8] = f"[MASK]{{{WORDS[originals[0]]}}}", f"{pieces[8]}{{{WORDS[originals[1]]}}}"
    assert records.text(1, TOKENIZER) == " ".join(pieces)
    with pytest.raises(ValueError, match="the vocabulary 6 pieces; take that of the records"):
        records.text(1, Tokenizer((*SPECIAL_TOKENS, "a")))
    with pytest.raises(TypeError, match=r"number is slice.*; it must be a whole number"):
        records.text(slice(2), TOKENIZER)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [8, -9, [0, 8]])
def test_a_number_beyond_the_last_is_refused(folder: Path, key: Any) -> None:
    with pytest.raises(IndexError, match="there are 8, numbered from 0"):
        read_records(folder)[key]


@pytest.mark.parametrize("key", ["input_ids", 1.5, [0.5], [[1]]])
def test_other_keys_are_refused(folder: Path, key: Any) -> None:
    with pytest.raises(TypeError, match="found by a number, a slice or a list of numbers"):
        read_records(folder)[key]


def test_records_say_what_they_are(folder: Path) -> None:
    records = read_records(folder)
    assert repr(records) == f"<RecordSequence {folder}: 8 rows of 14 tokens, 3 predictions at most, {records.schema}>"


def test_unmasked_records_are_masked_as_in_an_epoch(tmp_path: Path) -> None:
    rows, _ = made(5)
    unmasked = rows._replace(token_ids=np.where(rows.token_ids == 4, 5, rows.token_ids))
    (tmp_path / "part-00000-of-00001.tfrecord").write_bytes(encode_compact(unmasked, None, len(WORDS)))
    write_masking(tmp_path, MaskConfig(max_predictions_per_seq=3, masked_lm_prob=0.3), 7, Vocabulary(WORDS))
    epochs: Callable[[int], RecordSequence] = lambda epoch: read_records(tmp_path, epoch=epoch)  # noqa: E731
    first, again, second = (epochs(epoch)[:]["masked_lm_positions"] for epoch in (0, 0, 1))
    assert epochs(0).schema == "unmasked"
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    file = tmp_path / "part-00000-of-00001.tfrecord"
    np.testing.assert_array_equal(read_records(file)[:]["masked_lm_positions"], first)


def test_missing_and_empty_places_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "nothere", [tmp_path / "nothere.tfrecord"], tmp_path):
        with pytest.raises(FileNotFoundError, match="bertline prepare"):
            read_records(place)
    with pytest.raises(ValueError, match="no file of records"):
        read_records([])


def test_an_epoch_is_a_number_from_0(folder: Path) -> None:
    with pytest.raises(TypeError, match="epoch is '1'; it must be a whole number"):
        read_records(folder, epoch="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epoch is -1; it must be at least 0"):
        read_records(folder, epoch=-1)
