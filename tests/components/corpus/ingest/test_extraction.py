import sys

import pytest

from bertline.components.corpus.documents import Rejected
from bertline.components.corpus.ingest.extraction import Extractors
from bertline.components.corpus.ingest.wikipedia import Page, Site

# Speaks the protocol of wikiextractor_program and does to each page what its text says.
PROGRAM = """
import json, sys, time
for line in sys.stdin:
    page = json.loads(line)
    if page["text"] == "die":
        sys.exit(3)
    if page["text"] == "hang":
        time.sleep(60)
    if page["text"] == "slow":
        time.sleep(0.05)
    answer = {"paragraphs": [page["title"]]}
    if page["text"] == "fail":
        answer = {"error": "IndexError: string index out of range"}
    print(json.dumps(answer), flush=True)
"""


def page(number, text):
    return Page(str(number), f"T{number}", "0", False, "wikitext", text, Site("xwiki"))


def extract(texts, num_workers=1, timeout_seconds=20.0, program=(sys.executable, "-c", PROGRAM)):
    with Extractors(num_workers, timeout_seconds, program) as extractors:
        pages = (page(number, text) for number, text in enumerate(texts))
        results = extractors.extract(pages, "dump.xml")
        return [result.reason if isinstance(result, Rejected) else result.text for result in results]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_page_order(num_workers):
    texts = ["slow", "fast", "fast", "slow", "fast"] * 10
    assert extract(texts, num_workers) == [f"T{number}" for number in range(50)]


def test_a_page_that_fails_stops_nothing():
    assert extract(["good", "fail", "good"]) == [
        "T0",
        "extractor_failed: IndexError: string index out of range",
        "T2",
    ]


def test_a_program_that_dies_is_replaced():
    assert extract(["good", "die", "die", "good"]) == [
        "T0",
        "extractor_failed: the program ended",
        "extractor_failed: the program ended",
        "T3",
    ]


def test_a_page_that_hangs_is_given_up():
    assert extract(["hang", "good"], timeout_seconds=1.5) == [
        "extractor_timeout: more than 1.5 seconds",
        "T1",
    ]


def test_wikiextractor_drops_headings_lists_tables_and_templates():
    wikitext = """{{Infobox|name={{nowrap|x}}}}
'''Albedo''' ({{IPA|x}}; from [[Latin]] ''albedo'') is the {{convert|3|km|mi}} of ''reflection''.<ref>Note</ref>

== Heading ==
[[File:A.jpg|thumb|A caption]]
* A list item of some length that is no sentence
{| class="wikitable"
| cell
|}
Snow &amp; ice have a high albedo of {{math|x}} <math>\\frac{1}{2}</math>, as everybody knows.
[[Category:Light]]
"""
    with Extractors(1, 60.0) as extractors:
        (result,) = extractors.extract([page(1, wikitext)], "dump.xml")
    assert (result.id, result.title, result.source) == ("wikipedia:xwiki:1", "T1", "dump.xml")
    assert result.text.split("\n") == [
        "Albedo (from Latin albedo) is the 3 km of reflection.",
        "Snow & ice have a high albedo of, as everybody knows.",
    ]
