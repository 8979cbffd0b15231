"""What a set of records holds, in numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from bertline.components.pages.statistics import draw_statistics
from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.prepare import run
from bertline.components.pretraining_data.statistics import add_totals, totals_as_json
from bertline.model.records.reader import open_records
from bertline.tokenizer.wordpiece import load_vocabulary

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences")
    text = (DATA / "sentences.txt").read_text(encoding="utf-8")
    (folder / "sentences-00000.txt").write_text(text, encoding="utf-8")
    ids = [f"{'wiki' if number % 3 else 'book'}:tide:{number}" for number in range(21)]
    (folder / "ids-00000.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    return folder


def told(sentences, out, **settings):
    out.mkdir()
    counts = run(sentences, DATA / "vocab.txt", out, PrepareConfig(part="all", dupe_factor=3, **settings))
    return counts, json.loads((out / "stats.json").read_text(encoding="utf-8"))


def test_figures_are_those_of_the_records(sentences, tmp_path):
    counts, statistics = told(sentences, tmp_path / "out")
    assert statistics["counts"] == counts and statistics["kind"] == "records_128"
    records = open_records(tmp_path / "out")
    rows = records.batch(np.arange(len(records)))
    lengths, predicted = rows["input_mask"].sum(axis=1), rows["masked_lm_weights"].sum(axis=1).astype(int)
    histograms = statistics["histograms"]
    assert histograms["length"] == np.bincount(lengths, minlength=129).tolist()
    assert histograms["predictions"] == np.bincount(predicted, minlength=21).tolist()
    for name, shares in (("padding", 1 - lengths / 128), ("masked_share", predicted / lengths)):
        edges, found = histograms[name]["edges"], histograms[name]["counts"]
        assert len(edges) == len(found) + 1 and sum(found) == len(records)
        below_middle = np.count_nonzero(shares < edges[len(found) // 2] - 1e-9)
        assert abs(sum(found[: len(found) // 2]) - below_middle) <= np.count_nonzero(
            abs(shares - edges[len(found) // 2]) < 1e-6
        )
    assert sum(histograms["sentence_length"]["counts"]) == counts["sentences"]
    assert sum(histograms["document_length"]["counts"]) == 21
    assert statistics["documents_per_source"] == {"book:tide": 7, "wiki:tide": 14}
    assert statistics["random_next"]["asked"] == 0.5
    assert statistics["random_next"]["found"] == round(float(rows["next_sentence_labels"].mean()), 6)
    assert sum(statistics["outcomes"].values()) == pytest.approx(1.0, abs=1e-5)


def test_tokens_and_first_instances_are_readable(sentences, tmp_path):
    _, statistics = told(sentences, tmp_path / "out")
    vocabulary = load_vocabulary(DATA / "vocab.txt")
    occurrences = np.load(tmp_path / "out" / "token_counts.npy")
    token, count = statistics["tokens"]["most_frequent"][0]
    assert count == occurrences.max() and vocabulary.ids[token] == occurrences.argmax()
    never = {vocabulary.tokens[number] for number in np.flatnonzero(occurrences == 0)}
    assert set(statistics["tokens"]["never_seen_examples"]) <= never
    assert statistics["tokens"]["never_seen"] == len(never)
    row = open_records(tmp_path / "out").batch(np.array([0]))
    shown = statistics["first_instances"][0]
    length = int(row["input_mask"].sum())
    assert [piece for piece, _ in shown["pieces"]] == [
        vocabulary.tokens[number] for number in row["input_ids"][0, :length]
    ]
    assert [vocabulary.ids[label] for _, label in shown["pieces"] if label is not None] == [
        number for number in row["masked_lm_ids"][0].tolist() if number
    ]
    assert shown["next_sentence"] == ("random" if row["next_sentence_labels"][0] else "next")
    assert len(statistics["first_instances"]) == 10


@pytest.mark.parametrize(
    "settings",
    [
        {"masking": "dynamic"},
        {"pairs": "none"},
        {"pairs": "sentence_order", "schema": "compact", "length_bins": "64"},
        {"max_seq_length": 512, "max_predictions_per_seq": 77},
    ],
)
def test_every_kind_of_records_has_its_page(sentences, tmp_path, settings):
    _, statistics = told(sentences, tmp_path / "out", **settings)
    page = (tmp_path / "out" / "stats.html").read_text(encoding="utf-8")
    assert page == draw_statistics(statistics) and "</html>" in page
    assert (statistics["outcomes"] is None) == (settings.get("masking") == "dynamic")
    assert (statistics["random_next"] is None) == (settings.get("pairs") == "none")


def test_totals_are_added_name_by_name():
    first = {"tokens": 2, "length": np.array([1, 2]), "sources": {"a": 1}, "first_instances": ["x"]}
    second = json.loads(totals_as_json({"tokens": 3, "length": np.array([0, 4]), "sources": {"a": 1, "b": 2}}))
    total = add_totals(first, second)
    assert total["tokens"] == 5 and total["length"].tolist() == [1, 6]
    assert total["sources"] == {"a": 2, "b": 2} and total["first_instances"] == ["x"]
    assert json.loads(totals_as_json(add_totals({}, total)))["length"] == [1, 6]
