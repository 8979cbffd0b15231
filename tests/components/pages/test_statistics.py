import re
from html.parser import HTMLParser
from typing import Any

import pytest

from bertline.components.pages.html import MOST_BARS, percent, short
from bertline.components.pages.statistics import draw_statistics

VOID = {"meta", "br", "link", "img", "hr", "input"}  # HTML's elements without an end


class Page(HTMLParser):
    """Refuses tags that are left open or closed in the wrong order; keeps the texts of each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += text

    def classed(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.tags if attrs.get("class") == name]


def statistics(**changes: Any) -> dict[str, Any]:
    """Four rows of at most eight tokens, three of them full."""
    return {
        "kind": "records_8",
        "settings": {"max_seq_length": 8, "random_seed": 12345, "do_whole_word_mask": True, "pairs": "next"},
        "counts": {
            "documents": 1234,
            "tokens": 7_654_321,
            "instances": 4,
            "dropped.empty_document": 3,
            "random_next": 0.500301,
            "padding": 0.09375,
            "unigram_entropy_nats": 6.61234,
            "shards": 1,
        },
        "histograms": {
            "length": [0, 0, 0, 0, 0, 1, 0, 0, 3],
            "masked_share": {"edges": [0, 0.1, 0.2, 0.3], "counts": [0, 4, 0]},
            "padding": {"edges": [0, 0.25, 0.5, 0.75, 1], "counts": [3, 1, 0, 0]},
            "predictions": [0, 4],
            "sentence_length": {"edges": [1, 2, 4, 8], "counts": [0, 2, 2]},
            "document_length": {"edges": [1, 2, 4, 8, 16], "counts": [2, 0, 0, 0]},
        },
        "random_next": {"asked": 0.5, "found": 0.500301},
        "outcomes": {"mask": 0.8003, "same": 0.0999, "random": 0.0998},
        "tokens": {
            "vocabulary": 2000,
            "never_seen": 500,
            "unknown_share": 0.0012,
            "most_frequent": [["the", 4321], [",", 2000], ["of", 17]],
            "never_seen_examples": ["##ness", "quay"],
        },
        "documents_per_source": {"book": 52, "wikipedia": 1182},
        "first_instances": [
            {
                "next_sentence": "random",
                "pieces": [
                    ["[CLS]", None],
                    ["play", None],
                    ["##ing", None],
                    ["[MASK]", "cat"],
                    ["[SEP]", None],
                    ["dog", "dog"],
                    ["[SEP]", None],
                    ["[PAD]", None],
                ],
            }
        ],
        **changes,
    }


EMPTY = statistics(
    settings={},
    counts={},
    histograms={
        "length": [],
        "predictions": [0, 0],
        **{
            name: {"edges": [0, 1], "counts": [0]}
            for name in ("masked_share", "padding", "sentence_length", "document_length")
        },
    },
    random_next=None,
    outcomes=None,
    tokens={"vocabulary": 0, "never_seen": 0, "unknown_share": 0.0, "most_frequent": [], "never_seen_examples": []},
    documents_per_source={},
    first_instances=[],
)


def test_the_figures_are_on_the_page() -> None:
    page = Page(draw_statistics(statistics()))
    assert page.texts["h1"] == ["Statistics of records_8"]
    assert page.texts["p"][0] == "4 instances, 1,234 documents, 7,654,321 tokens, 1 shard."
    facts = dict(zip(page.texts["th"], [text for text in page.texts["td"] if text]))
    assert facts == {
        "max_seq_length": "8",
        "random_seed": "12345",
        "do_whole_word_mask": "true",
        "pairs": "next",
        "documents": "1,234",
        "tokens": "7,654,321",
        "instances": "4",
        "dropped.empty_document": "3",
        "random_next": "50.03 %",
        "padding": "9.38 %",
        "unigram_entropy_nats": "6.612",
        "shards": "1",
        "of all pairs": "50.03 %, asked 50 %",
        "[MASK]": "80.03 %, asked 80 %",
        "a random token": "9.98 %, asked 10 %",
        "the token itself": "9.99 %, asked 10 %",
        "the": "4,321",
        ",": "2,000",
        "of": "17",
        "wikipedia": "1,182",
        "book": "52",
    }
    assert {"0.500301", "0.09375", "6.61234"} <= {attrs.get("title") for tag, attrs in page.tags if tag == "span"}
    assert page.texts["code"] == ["##ness", "quay"]
    assert (
        "500 of 2,000 entries of the vocabulary were never seen (25 %); 0.12 % of the tokens are unknown."
        in (page.texts["p"])
    )


def test_the_page_needs_nothing_from_outside() -> None:
    text = draw_statistics(statistics())
    assert text.startswith("<!doctype html>")
    assert "//" not in text
    assert not re.search(r"<script|<link|url\(|@import|src=", text)


def test_histograms_tell_total_mean_and_every_bar() -> None:
    page = Page(draw_statistics(statistics()))
    assert page.texts["figcaption"] == [
        "4 rows, mean 7.2",
        "4 rows, mean 9.38 %",
        "4 rows, mean 1.0",
        "4 rows, mean about 15.0 %",
        "4 sentences, mean about 4.0",
        "2 documents, mean about 1.0",
    ]
    assert page.texts["title"][1:] == [
        "5: 1 row (25 %)",
        "8: 3 rows (75 %)",
        "0 to 25 %: 3 rows (75 %)",
        "25 to 50 %: 1 row (25 %)",
        "1: 4 rows (100 %)",
        "10 to 20 %: 4 rows (100 %)",
        "2 to 3: 2 sentences (50 %)",
        "4 to 7: 2 sentences (50 %)",
        "1: 2 documents (100 %)",
    ]


def test_a_histogram_of_many_lengths_joins_its_bars_and_shows_the_low_ones() -> None:
    histograms = statistics()["histograms"] | {"length": [0] + [2] * 511 + [90_000]}
    text = draw_statistics(statistics(histograms=histograms))
    figure = Page(text[text.index("<figure>") : text.index("</figure>") + len("</figure>")])
    assert figure.texts["figcaption"] == ["91,022 rows, mean 509.1, 4 to a bar, logarithmic axis"]
    assert len(figure.texts["title"]) == 129 <= MOST_BARS
    assert figure.texts["title"][:2] == ["0 to 3: 6 rows (0.01 %)", "4 to 7: 8 rows (0.01 %)"]
    assert figure.texts["title"][-1] == "512: 90,000 rows (98.88 %)"
    labels = ["1", "10", "100", "1k", "10k", "0", "64", "128", "192", "256", "320", "384", "448", "512"]
    assert figure.texts["text"] == [*labels, "tokens in a row"]
    heights = [float(attrs["height"] or 0) for tag, attrs in figure.tags if tag == "rect" and "class" not in attrs]
    assert heights[-1] == 146
    assert min(heights) > 20


def test_empty_and_missing_parts_say_so() -> None:
    page = Page(draw_statistics(EMPTY))
    assert page.texts["p"][0] == "No counts."
    nothing = [text for text in page.texts["p"] if "Empty" in text or "No " in text or "records" in text]
    assert nothing[1:] == [
        "No settings.",
        "No counts.",
        *["Empty: no rows were counted."] * 4,
        "Empty: no sentences were counted.",
        "Empty: no documents were counted.",
        "These records hold no random next sentences.",
        "Tokens are masked while the model is trained, not in these records.",
        "No tokens.",
        "No sources.",
        "No instances.",
    ]
    assert "svg" not in page.texts


def test_instances_show_segments_words_and_predictions_without_padding() -> None:
    page = Page(draw_statistics(statistics()))
    assert page.texts["summary"] == ["1 B is random7 tokens, 2 to predict"]
    first, second = page.texts["p"][-2:]
    assert (first, second) == ("[CLS] playing [MASK] → cat [SEP]", "dog → dog [SEP]")
    assert [attrs["title"] for attrs in page.classed("more") if "title" in attrs] == ["##ing"]
    assert [attrs["class"] for tag, attrs in page.tags if tag == "mark"] == ["mask", "random", "same", "mask", "same"]


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([["[MASK]", "play"], ["##ing", None]], ["[MASK] → playing"]),
        ([["play", None], ["[MASK]", "##ing"]], ["play[MASK] → ##ing"]),
        ([["a", None], ["##x", "dog"]], ["a ##x → dog"]),  # a random replacement does not join the word before
        ([["a", None], ["[SEP]", "b"], ["c", None]], ["a [SEP] → b c"]),  # nor does it end a segment
        ([["##ing", None]], ["ing"]),
        ([["a", None], ["[SEP]", None], ["[PAD]", None]], ["a [SEP]"]),
        ([["[PAD]", "a"]], ["[PAD] → a"]),
        ([], []),
    ],
)
def test_a_piece_belongs_where_its_original_does(pieces: list[list[str | None]], shown: list[str]) -> None:
    page = Page(draw_statistics(statistics(first_instances=[{"next_sentence": None, "pieces": pieces}])))
    assert len(page.classed("segment")) == len(shown)
    assert page.texts["p"][len(page.texts["p"]) - len(shown) :] == shown


def test_the_smaller_sources_are_shown_as_one() -> None:
    sources = {f"text_{number}": 100 + number for number in range(32)}
    page = Page(draw_statistics(statistics(documents_per_source=sources)))
    assert page.texts["th"][-31:] == [*[f"text_{number}" for number in range(31, 1, -1)], "2 other sources"]
    assert page.texts["td"][-1] == "201"


def test_everything_is_escaped() -> None:
    bad = "<script>\"&'</script>"
    page_text = draw_statistics(
        statistics(
            kind=bad,
            settings={bad: bad},
            counts={bad: 1},
            tokens={
                "vocabulary": 1,
                "never_seen": 0,
                "unknown_share": 0.0,
                "most_frequent": [[bad, 1]],
                "never_seen_examples": [bad],
            },
            documents_per_source={bad: 1},
            first_instances=[
                {"next_sentence": bad, "pieces": [[bad, None], ["##" + bad, None], [bad, "x"], ["x", bad]]}
            ],
        )
    )
    assert "<script" not in page_text
    page = Page(page_text)
    assert page.texts["h1"] == [f"Statistics of {bad}"]
    assert page.texts["code"] == [bad]
    assert page.texts["th"].count(bad) == 4
    assert page.texts["p"][-1] == f"{bad}{bad} {bad} → x x → {bad}"


def test_short_numbers_and_percents() -> None:
    assert [short(number) for number in (0, 5, 1000, 1024, 12_500, 16_384, 2_500_000)] == [
        *("0", "5", "1k", "1,024", "12.5k", "16,384", "2.5M")
    ]
    assert [percent(share) for share in (0, 0.00001, 0.0012, 0.1, 0.5003, 1)] == [
        *("0 %", "under 0.01 %", "0.12 %", "10 %", "50.03 %", "100 %")
    ]
