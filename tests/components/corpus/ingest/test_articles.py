import pytest

from bertline.components.corpus.ingest.articles import reason_to_drop
from bertline.components.corpus.ingest.wikipedia import Page, Site


def page(text="Prose.", title="A", namespace="0", redirect=False, model="wikitext"):
    return Page("1", title, namespace, redirect, model, text, Site("enwiki"))


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (page(), None),
        (page(namespace="10"), "namespace"),
        (page(redirect=True), "redirect"),
        (page("#REDIRECT [[B]]"), "redirect"),
        (page("#перенаправление [[Б]]"), "redirect"),
        (page("#WEITERLEITUNG [[B]]"), "redirect"),
        (page("# [[B]] is the first item"), None),
        (page(model="javascript"), "not_wikitext"),
        (page(title="Atlas (disambiguation)"), "disambiguation"),
        (page(title="Merkur (Begriffsklärung)"), "disambiguation"),
        (page("'''A''' may be: {{Disambiguation|geo}}"), "disambiguation"),
        (page("{{disambig}}"), "disambiguation"),
        (page("{{Human name disambiguation}}"), "disambiguation"),
        (page("{{hndis|Smith, John}}"), "disambiguation"),
        (page("{{geodis}}"), "disambiguation"),
        (page("{{Begriffsklärung}}"), "disambiguation"),
        (page("{{homonymie}}"), "disambiguation"),
        (page("{{desambiguación}}"), "disambiguation"),
        (page("{{Disambigua}}"), "disambiguation"),
        (page("{{曖昧さ回避}}"), "disambiguation"),
        (page("{{dp}}"), "disambiguation"),
        (page("The planet {{dp|Haumea}} is [[one]]{{disambiguation needed|date=May 2020}}."), None),
    ],
)
def test_pages_that_are_no_articles(candidate, reason):
    assert reason_to_drop(candidate) == reason
