import bz2
import gzip
import random
import tracemalloc
from collections import Counter

import pytest

from bertline.components.corpus.ingest.wikipedia import Page, Site, read_pages, reason_to_drop

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo><sitename>Wikipedia</sitename><dbname>enwiki</dbname>
    <namespaces><namespace key="0" /><namespace key="1">Talk</namespace><namespace>Livre</namespace></namespaces>
  </siteinfo>
"""
PAGE = """  <page><title>{title}</title><ns>0</ns><id>{id}</id>
    <revision><id>9</id><model>wikitext</model><text xml:space="preserve">{text}</text></revision></page>
"""
TWO_PAGES = PAGE.format(title="A", id=1, text="First &amp; best.") + PAGE.format(title="B", id=2, text="Second.")
DUMP = HEAD + TWO_PAGES + "</mediawiki>\n"


def pages_of(path, allow_truncated=False, counts=None):
    return list(read_pages(path, allow_truncated, Counter() if counts is None else counts, lambda size: None))


def written(tmp_path, content, name="dump.xml"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        DUMP.encode(),
        bz2.compress(DUMP.encode()),
        gzip.compress(DUMP.encode()),
        bz2.compress(HEAD.encode()) + bz2.compress(TWO_PAGES.encode()) + bz2.compress(b"</mediawiki>\n"),
        DUMP.encode("utf-16"),
        b"\xef\xbb\xbf" + DUMP.encode(),
    ],
    ids=["plain", "bz2", "gz", "multi-stream", "utf-16", "byte-order mark"],
)
def test_pages_of_any_compression_and_encoding(tmp_path, content):
    pages = pages_of(written(tmp_path, content))
    assert [(page.id, page.title, page.namespace, page.text) for page in pages] == [
        ("1", "A", "0", "First & best."),
        ("2", "B", "0", "Second."),
    ]
    assert pages[0].site.dbname == "enwiki"
    assert "livre" in pages[0].site.namespaces


@pytest.mark.parametrize("schema", ['xmlns="http://www.mediawiki.org/xml/export-0.8/" version="0.8"', ""])
def test_any_export_schema_and_a_dump_without_siteinfo(tmp_path, schema):
    dump = f'<mediawiki {schema} xml:lang="it">' + TWO_PAGES + "</mediawiki>"
    pages = pages_of(written(tmp_path, dump))
    assert [page.title for page in pages] == ["A", "B"]
    assert pages[0].site.dbname == "itwiki"


def test_namespace_comes_from_the_title_where_the_schema_has_none(tmp_path):
    pages = "".join(PAGE.format(title=title, id=1, text="x") for title in ("Talk:A", "Star Trek: Picard"))
    dump = HEAD + pages.replace("<ns>0</ns>", "") + "</mediawiki>"
    assert [page.namespace for page in pages_of(written(tmp_path, dump))] == ["Talk", "0"]


def test_last_of_several_revisions_and_redirect_element(tmp_path):
    page = (
        "<page><title>A</title><ns>0</ns><id>1</id><redirect title='B'/>"
        "<revision><text>old</text></revision><revision><text>new</text></revision></page>"
    )
    (found,) = pages_of(written(tmp_path, HEAD + page + "</mediawiki>"))
    assert (found.text, found.redirect) == ("new", True)


def test_memory_does_not_grow_with_pages(tmp_path):
    page = PAGE.format(title="A", id=1, text="word " * 20_000)
    path = written(tmp_path, gzip.compress((HEAD + page * 200 + "</mediawiki>").encode(), 1), "dump.xml.gz")
    tracemalloc.start()
    assert sum(1 for _ in read_pages(path, False, Counter(), lambda size: None)) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20  # the text is 20 MB


def test_invalid_utf8_is_replaced_and_counted(tmp_path):
    counts = Counter()
    content = DUMP.encode().replace(b"best", b"b\xff\xfest").replace(b"Second", "Sec\ufffdnd".encode())
    pages = pages_of(written(tmp_path, content), counts=counts)
    assert [page.text for page in pages] == ["First & b\ufffd\ufffdst.", "Sec\ufffdnd."]
    assert counts["repaired.invalid_utf8"] == 2


def test_control_characters_are_removed_and_counted(tmp_path):
    counts = Counter()
    pages = pages_of(written(tmp_path, DUMP.replace("First", "Fi\x00r\x0bst\uffff")), counts=counts)
    assert pages[0].text == "First & best."
    assert counts["repaired.illegal_characters"] == 3


def test_page_of_one_long_line(tmp_path):
    text = "word " * 1_000_000
    (page,) = pages_of(written(tmp_path, HEAD + PAGE.format(title="A", id=1, text=text) + "</mediawiki>"))
    assert len(page.text) == 5_000_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty"),
        ("Just a text file.", "syntax error"),
        ("<html><body/></html>", "root element is <html>"),
        (b"BZh9 this is no bzip2", "cut or damaged"),
        (b"\x1f\x8b\x08\x00rubbish", "cut or damaged"),
        (bytes(range(256)) * 10, "not well-formed"),
    ],
)
def test_file_that_is_no_dump_is_named(tmp_path, content, reason):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match="not a MediaWiki XML dump") as error:
        pages_of(path, allow_truncated=True)
    assert str(path) in str(error.value)
    assert reason in str(error.value)


def many_pages():
    letters = random.Random(0)
    return (
        HEAD
        + "".join(PAGE.format(title=f"P{n}", id=n, text=letters.randbytes(20_000).hex()) for n in range(60))
        + "</mediawiki>\n"
    )


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress], ids=["bz2", "gz"])
def test_cut_compressed_dump_is_refused_or_used_up_to_the_cut(tmp_path, compress):
    whole = compress(many_pages().encode())
    path = written(tmp_path, whole[: len(whole) * 3 // 4])
    with pytest.raises(
        ValueError, match=r"cut or damaged .* set allow_truncated to use the (\d+) whole pages"
    ) as error:
        pages_of(path)
    counts = Counter()
    pages = pages_of(path, True, counts)
    assert 10 < len(pages) < 60
    assert f"{len(pages)} whole pages" in str(error.value)
    assert [page.id for page in pages] == [str(n) for n in range(len(pages))]
    assert (counts["truncated"], counts["truncated.pages_used"]) == (1, len(pages))


@pytest.mark.parametrize(
    ("dump", "pages", "bytes_lost"),
    [
        (HEAD + TWO_PAGES, 2, 1),  # the line end after </page>
        (DUMP[: DUMP.index("Second") + 3], 1, DUMP.index("Second") + 3 - DUMP.index("</page>") - len("</page>")),
        (HEAD, 0, len(HEAD)),
        (DUMP.replace("<title>B", "<title>B</wrong>"), 1, None),
    ],
    ids=["without </mediawiki>", "inside a page", "before the first page", "malformed"],
)
def test_cut_xml_is_refused_or_used_up_to_the_cut(tmp_path, dump, pages, bytes_lost):
    path = written(tmp_path, dump)
    with pytest.raises(ValueError, match=f"the {pages} whole pages before the cut"):
        pages_of(path)
    counts = Counter()
    assert len(pages_of(path, True, counts)) == pages
    assert counts["truncated.pages_used"] == pages
    assert bytes_lost is None or counts["truncated.bytes_lost"] == bytes_lost


def test_whole_xml_in_a_cut_stream_is_refused_all_the_same(tmp_path):
    path = written(tmp_path, gzip.compress(DUMP.encode())[:-4])
    with pytest.raises(ValueError, match="2 whole pages"):
        pages_of(path)
    assert len(pages_of(path, allow_truncated=True)) == 2


def article(text="Prose.", title="A", namespace="0", redirect=False, model="wikitext"):
    return Page("1", title, namespace, redirect, model, text, Site("enwiki"))


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (article(), None),
        (article(namespace="10"), "namespace"),
        (article(redirect=True), "redirect"),
        (article("#REDIRECT [[B]]"), "redirect"),
        (article("#перенаправление [[Б]]"), "redirect"),
        (article("#WEITERLEITUNG [[B]]"), "redirect"),
        (article("# [[B]] is the first item"), None),
        (article(model="javascript"), "not_wikitext"),
        (article(title="Atlas (disambiguation)"), "disambiguation"),
        (article(title="Merkur (Begriffsklärung)"), "disambiguation"),
        (article("'''A''' may be: {{Disambiguation|geo}}"), "disambiguation"),
        (article("{{disambig}}"), "disambiguation"),
        (article("{{Human name disambiguation}}"), "disambiguation"),
        (article("{{hndis|Smith, John}}"), "disambiguation"),
        (article("{{geodis}}"), "disambiguation"),
        (article("{{Begriffsklärung}}"), "disambiguation"),
        (article("{{homonymie}}"), "disambiguation"),
        (article("{{desambiguación}}"), "disambiguation"),
        (article("{{Disambigua}}"), "disambiguation"),
        (article("{{曖昧さ回避}}"), "disambiguation"),
        (article("{{dp}}"), "disambiguation"),
        (article("The planet {{dp|Haumea}} is [[one]]{{disambiguation needed|date=May 2020}}."), None),
    ],
)
def test_pages_that_are_no_articles(candidate, reason):
    assert reason_to_drop(candidate) == reason
