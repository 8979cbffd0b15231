import gzip
import json
from pathlib import Path

import pytest

from bertline.components.tasks.classification import TaskExample, read_examples, read_task

MRPC_HEADER = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "rain", "had", "ceased", '"']


def test_mrpc_columns_with_quotes_as_literal_text(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(MRPC_HEADER + '1\t7\t8\tthe "rain\tthe rain\r\n0\t1\t2\thad\tceased\n', encoding="utf-8-sig")
    assert read_examples("mrpc", file) == [
        TaskExample('the "rain', "the rain", "1"),
        TaskExample("had", "ceased", "0"),
    ]


def test_sst2_columns_from_a_compressed_file(tmp_path: Path) -> None:
    file = tmp_path / "dev.tsv.gz"
    file.write_bytes(gzip.compress(b"sentence\tlabel\nthe rain \t1\n"))
    assert read_examples("sst2", file) == [TaskExample("the rain ", None, "1")]


def test_a_task_is_encoded_with_the_models_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    train.write_text(MRPC_HEADER + "1\t7\t8\tThe rain\thad ceased\n")
    dev.write_text(MRPC_HEADER + "0\t7\t8\tthe the\train\n")
    data = read_task("mrpc", train, dev, tmp_path, 8)
    assert data.labels == ["0", "1"]
    assert data.train["input_ids"].tolist() == [[2, 5, 6, 3, 7, 8, 3, 0]]
    assert data.train["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 0]]
    assert data.train["input_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 1, 0]]
    assert data.train["label_ids"].tolist() == [1]
    assert data.dev["label_ids"].tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MRPC_HEADER + "1\t7\tthe rain\n", r"train\.tsv:2: 3 columns, but mrpc has 5, tab-separated: Quality, "),
        (MRPC_HEADER + "1\t7\t8\ta\tb\tc\n", r"train\.tsv:2: 6 columns, but mrpc has 5"),
        ("1\t7\t8\ta\tb\n", r'train\.tsv:1: an example \(label "1"\) where the header row should be'),
        (MRPC_HEADER + "5\t7\t8\ta\tb\n", r'train\.tsv:2: label "5" is not one of 0, 1'),
        (MRPC_HEADER, "no examples after the header row"),
        ("", "no examples"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_examples("mrpc", file)


def test_a_file_of_another_task_is_refused_by_its_columns(tmp_path: Path) -> None:
    """CoLA's has no header, the source in the first column and the label in the second, as SST-2's."""
    file = tmp_path / "train.tsv"
    file.write_text("gj04\t1\t\tThe rain had ceased.\ngj04\t0\t*\tThe ceased had rain.\n")
    with pytest.raises(ValueError, match=r"train\.tsv:1: 4 columns, but sst2 has 2, tab-separated: sentence, label"):
        read_examples("sst2", file)


def test_missing_binary_and_unknown(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_examples("mrpc", tmp_path / "none.tsv")
    (tmp_path / "train.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a UTF-8"):
        read_examples("mrpc", tmp_path / "train.tsv")
    with pytest.raises(ValueError, match='unknown task "cola"; known: mrpc, sst2'):
        read_examples("cola", tmp_path / "train.tsv")
