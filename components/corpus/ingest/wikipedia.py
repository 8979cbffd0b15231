"""Articles of a MediaWiki XML dump, streamed: a dump of 90 GB needs the memory of its longest page."""

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bertline.components.corpus.ingest.markup import free_titles_with_colons
from bertline.components.corpus.ingest.reading import Advance, CutFileError, decode_stream, read_blocks

# What XML 1.0 does not allow even in a valid encoding; the parser would stop at the first.
ILLEGAL_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
PAGE_END = "</page>"
XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"

# The names that every wiki accepts beside its own; "image" is the old name of "file".
CANONICAL_NAMESPACES = frozenset(
    ["media", "special", "talk", "user", "wikipedia", "project", "file", "image", "template", "help", "category"]
)

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


@dataclass
class Site:
    """What a dump says of its wiki; filled while the head of the dump is read."""

    dbname: str = ""  # "enwiki"
    namespaces: set[str] = field(default_factory=lambda: set(CANONICAL_NAMESPACES))  # lower case


@dataclass(frozen=True, slots=True)
class Page:
    """One page with the text of its last revision."""

    id: str
    title: str
    namespace: str  # "0" for articles
    redirect: bool
    model: str  # "wikitext" for articles
    text: str  # wikitext
    site: Site


def read_articles(path: Path, allow_truncated: bool, counts: Counter[str], advance: Advance) -> Iterator[Page]:
    """The pages of one dump that are articles, in its order; the others are only counted, `dropped.<reason>`."""
    for page in read_pages(path, allow_truncated, counts, advance):
        reason = reason_to_drop(page)
        if reason is not None:
            counts["dropped." + reason] += 1
        else:
            yield replace(page, text=free_titles_with_colons(page.text, page.site.namespaces))


def reason_to_drop(page: Page) -> str | None:
    """Why a page is not an article: namespace, redirect, not_wikitext or disambiguation; None for an article."""
    if page.namespace != "0":
        return "namespace"
    if page.redirect or REDIRECT.match(page.text):
        return "redirect"
    if page.model != "wikitext":
        return "not_wikitext"
    if DISAMBIGUATION_TITLE.search(page.title) or DISAMBIGUATION.search(page.text):
        return "disambiguation"
    return None


def read_pages(path: Path, allow_truncated: bool, counts: Counter[str], advance: Advance) -> Iterator[Page]:
    """The pages of one dump: any export schema, plain, bzip2 (also multi-stream) or gzip.

    Counts `pages.read`, `repaired.invalid_utf8` and `repaired.illegal_characters`. A dump that ends before
    `</mediawiki>`, or is damaged, raises ValueError at that place; with `allow_truncated` it ends after
    the last whole page, and `truncated`, `truncated.pages_used`, `truncated.bytes_lost` say so.
    Raises ValueError for a file that is not a dump.
    """
    stream = _Stream(path, counts, advance)
    site = Site()
    root: ElementTree.Element | None = None
    pages = 0
    try:
        for event, element in stream.events():
            if root is None:
                root = _require_mediawiki(path, element)
                site.dbname = f"{root.get(XML_LANGUAGE, '')}wiki"
            elif event == "end" and _name(element) == "siteinfo":
                _read_site(element, site)
            elif event == "end" and _name(element) == "page":
                pages += 1
                counts["pages.read"] += 1
                yield _page(element, site)
                root.clear()  # the parser keeps what it has read until the end
    except (ElementTree.ParseError, CutFileError) as error:
        if root is None:
            raise _not_a_dump(path, _strip_path(path, error)) from error
        if not allow_truncated:
            raise _cut(path, pages, stream, error) from error
        counts["truncated"] += 1
        counts["truncated.pages_used"] += pages
        counts["truncated.bytes_lost"] += stream.bytes_after_last_page


class _Stream:
    """Parser events of a file that may end anywhere, with the place of the last whole page."""

    def __init__(self, path: Path, counts: Counter[str], advance: Advance) -> None:
        self._path, self._counts, self._advance = path, counts, advance
        self._tail = ""
        self.bytes_before = 0  # of XML up to the end of the last page, as UTF-8
        self.bytes_after_last_page = 0

    def events(self) -> Iterator[tuple[str, ElementTree.Element]]:
        """Starts and ends of elements; at a cut, all before it, then ParseError or CutFileError."""
        parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(("start", "end"))
        cut: CutFileError | None = None
        try:
            for text in decode_stream(read_blocks(self._path, self._advance), self._counts):
                parser.feed(self._legal(text))
                yield from parser.read_events()  # type: ignore[misc]
        except CutFileError as error:
            cut = error
        try:
            parser.close()
            yield from parser.read_events()  # type: ignore[misc]
        except ElementTree.ParseError as error:
            raise (cut or error) from None
        if cut is not None:
            raise cut

    def _legal(self, text: str) -> str:
        text, removed = ILLEGAL_IN_XML.subn("", text)
        if removed:
            self._counts["repaired.illegal_characters"] += removed
        joined = self._tail + text
        end = joined.rfind(PAGE_END)
        if end < 0:
            self.bytes_after_last_page += len(text.encode())
        else:
            end += len(PAGE_END)
            self.bytes_before += self.bytes_after_last_page + len(joined[len(self._tail) : end].encode())
            self.bytes_after_last_page = len(joined[end:].encode())
        self._tail = joined[1 - len(PAGE_END) :]
        return text


def _name(element: ElementTree.Element) -> str:
    """The element's name without the export schema's version: "page" of "{...export-0.11/}page"."""
    return element.tag.rpartition("}")[2]


def _require_mediawiki(path: Path, root: ElementTree.Element) -> ElementTree.Element:
    if _name(root) != "mediawiki":
        raise _not_a_dump(path, f"its root element is <{_name(root)}>")
    return root


def _read_site(siteinfo: ElementTree.Element, site: Site) -> None:
    for element in siteinfo.iter():
        text = (element.text or "").strip()
        if _name(element) == "dbname" and text:
            site.dbname = text
        elif _name(element) == "namespace" and text:
            site.namespaces.add(text.lower())


def _page(element: ElementTree.Element, site: Site) -> Page:
    fields = {_name(child): child for child in element}  # of several revisions the last
    revision = {_name(child): child.text or "" for child in fields.get("revision", ())}
    texts = {name: child.text or "" for name, child in fields.items()}
    title = texts.get("title", "")
    prefix, colon, _ = title.partition(":")
    in_articles = not colon or prefix.lower() not in site.namespaces  # schemas before 0.5 have no <ns>
    return Page(
        id=texts.get("id", ""),
        title=title,
        namespace=texts.get("ns", "0" if in_articles else prefix),
        redirect="redirect" in fields,
        model=revision.get("model", "wikitext"),
        text=revision.get("text", ""),
        site=site,
    )


def _not_a_dump(path: Path, reason: str) -> ValueError:
    reason = reason if path.stat().st_size else "the file is empty"
    return ValueError(f"{path}: not a MediaWiki XML dump ({reason}); give a pages-articles .xml, .xml.bz2 or .xml.gz")


def _cut(path: Path, pages: int, stream: _Stream, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: the dump is cut or damaged ({_strip_path(path, error)}): {pages:,} whole pages "
        f"({stream.bytes_before:,} bytes of XML) come before that, {stream.bytes_after_last_page:,} bytes of the next "
        f"one are lost; fetch the file again, or set allow_truncated to use the {pages:,} whole pages before the cut"
    )


def _strip_path(path: Path, error: Exception) -> str:
    return str(error).removeprefix(f"{path}: ").removesuffix("; fetch the file again")
