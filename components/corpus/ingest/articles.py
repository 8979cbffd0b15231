"""Wikipedia dumps to documents: which pages are articles, and the article's text."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from bertline.components.corpus.documents import Document, Rejected, one_line
from bertline.components.corpus.ingest.extraction import Extractors
from bertline.components.corpus.ingest.markup import free_titles_with_colons
from bertline.components.corpus.ingest.reading import Advance
from bertline.components.corpus.ingest.sources import IngestConfig, SourceFile
from bertline.components.corpus.ingest.wikipedia import Page, read_pages

# "#REDIRECT [[...]]" in any language, for dumps that do not mark redirects by an element.
REDIRECT = re.compile(r"\s*#\w[\w ]{1,30}:?\s*\[\[[^\]\n]+\]\]")

# Templates that mark a page as a list of meanings; "disambiguation needed" marks a link and is not among them.
DISAMBIGUATION_TEMPLATES = (
    r"(?:[\w –-]{2,40} )?disambiguation(?: page| cleanup)?|disambig(?:[ -]cleanup)?|disamb|dab|hndis|hndab|geodis|"
    r"(?:hn|geo)dis-cleanup|mil-unit-dis|numberdis|roaddis|schooldis|hospitaldis|callsigndis|mathdab|letter–numbercombdisambig|"
    r"begriffsklärung|homonymie|(?:homonymie|paronymie|patronymie)[\w ]*|desambiguación|desambig|disambigua|"
    r"desambiguação|doorverwijspagina|неоднозначность|неоднозначність|ujednoznacznienie|förgrening|grensida|aimai|曖昧さ回避|"
    r"消歧义|消歧義|disambig-cn|동음이의|trang định hướng|định hướng|توضيح|ابهام‌زدایی|פירושונים|बहुविकल्पी|बहुविकल्पी शब्द|"
    r"anlam ayrımı|rozcestník|egyért|täsmennyssivu|peker|flertydig|dezambiguizare|пояснение|desambiguació|"
    r"αποσαφήνιση|disambiguasi|apartigilo"
)
DISAMBIGUATION = re.compile(
    rf"\{{\{{\s*(?:{DISAMBIGUATION_TEMPLATES})\s*(?:\|[^{{}}]*)?\}}\}}|\{{\{{dp\}}\}}|__DISAMBIG__", re.IGNORECASE
)
DISAMBIGUATION_TITLE = re.compile(
    r"[(（](?:disambiguation|begriffsklärung|homonymie|desambiguación|desambiguação|disambigua|doorverwijspagina|"
    r"значения|значення|ujednoznacznienie|olika betydelser|曖昧さ回避|消歧义|消歧義|동음이의|định hướng|توضيح|"
    r"ابهام‌زدایی|פירושונים|बहुविकल्पी|anlam ayrımı|rozcestník|egyértelműsítő lap|täsmennyssivu|пояснение|"
    r"desambiguació)[)）]$",
    re.IGNORECASE,
)


def read_articles(
    file: SourceFile, config: IngestConfig, extractors: Extractors, counts: Counter[str], advance: Advance
) -> Iterator[Document | Rejected]:
    """The articles of one dump in its order; pages that are none are only counted, `dropped.<reason>`.

    Rejected are pages on which WikiExtractor failed. A page of templates alone has an empty text.
    """
    pages = read_pages(file.path, config.allow_truncated, counts, advance)
    for extraction in extractors.extract(_articles(pages, counts)):
        page = extraction.page
        identity = f"wikipedia:{page.site.dbname}:{page.id}"
        title = one_line(page.title)
        if extraction.failure:
            yield Rejected(identity, title, extraction.failure, file.name, page.text)
        else:
            yield Document(identity, title, "\n".join(extraction.paragraphs), file.name)


def reason_to_drop(page: Page) -> str | None:
    """Why a page is no article: namespace, redirect, not_wikitext or disambiguation; None for an article."""
    if page.namespace != "0":
        return "namespace"
    if page.redirect or REDIRECT.match(page.text):
        return "redirect"
    if page.model != "wikitext":
        return "not_wikitext"
    if DISAMBIGUATION_TITLE.search(page.title) or DISAMBIGUATION.search(page.text):
        return "disambiguation"
    return None


def _articles(pages: Iterator[Page], counts: Counter[str]) -> Iterator[Page]:
    for page in pages:
        reason = reason_to_drop(page)
        if reason is not None:
            counts["dropped." + reason] += 1
        else:
            yield replace(page, text=free_titles_with_colons(page.text, page.site.namespaces))
