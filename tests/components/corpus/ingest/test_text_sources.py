import json
from collections import Counter

import pytest

from bertline.components.corpus.documents import Document, Rejected
from bertline.components.corpus.ingest.reading import SourceFile
from bertline.components.corpus.ingest.text import read_jsonl_file, read_text_file, read_wikiextractor_file

DOC = """<doc id="12" url="https://en.wikipedia.org/wiki?curid=12" title="A &amp; "B"">
A & "B"

Early years.
The first () paragraph &amp; more of it.
A life.
It ended, they say.

</doc>
<doc id="13" url="u" title="Empty">
Empty

</doc>
"""


def read(reader, tmp_path, content, name="a.txt", counts=None):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(reader(SourceFile("text", path, name), Counter() if counts is None else counts, lambda size: None))


def test_a_text_file_is_one_document(tmp_path):
    text = "\ufeffWrapped\r\nlines.\r\n\r\nSecond\x00 paragraph.\r\n"
    assert read(read_text_file, tmp_path, text) == [
        Document("text:a.txt:0", "a.txt", "Wrapped lines.\nSecond paragraph.", "a.txt")
    ]


def test_empty_text_file_gives_an_empty_document(tmp_path):
    assert [document.text for document in read(read_text_file, tmp_path, "")] == [""]


def test_five_megabytes_on_one_line(tmp_path):
    (document,) = read(read_text_file, tmp_path, "word " * 1_000_000)
    assert len(document.text) == 4_999_999


def test_wikiextractor_doc_form_without_title_and_section_titles(tmp_path):
    assert read(read_wikiextractor_file, tmp_path, DOC, "wiki_00") == [
        Document("wikiextractor:12", 'A & "B"', "The first paragraph & more of it.\nIt ended, they say.", "wiki_00"),
        Document("wikiextractor:13", "Empty", "", "wiki_00"),
    ]


def test_wikiextractor_json_form(tmp_path):
    line = json.dumps(
        {
            "id": "12",
            "url": "u",
            "title": "A",
            "text": "A\n\nThe first (, x) paragraph.\n\nIt is the second one of all, they say.",
        }
    )
    assert read(read_wikiextractor_file, tmp_path, line + "\n", "wiki_00") == [
        Document("wikiextractor:12", "A", "The first (x) paragraph.\nIt is the second one of all, they say.", "wiki_00")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Plain text.\n", "wiki_00:1: not WikiExtractor's output"),
        (DOC[: DOC.index("It ended")], 'the document with id "12"'),
    ],
)
def test_files_that_are_not_wikiextractors_or_cut_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(read_wikiextractor_file, tmp_path, content, "wiki_00")


def test_jsonl_lines_with_and_without_id_and_title(tmp_path):
    lines = (
        '{"text": "One.\\n\\nTwo.", "id": "x\\ny", "title": "T"}\n\n{"text": "A\u2028b."}\r\n{"text": "C.", "id": 7}'
    )
    assert read(read_jsonl_file, tmp_path, lines, "a.jsonl") == [
        Document("x y", "T", "One.\nTwo.", "a.jsonl"),
        Document("jsonl:a.jsonl:3", "", "A b.", "a.jsonl"),
        Document("7", "", "C.", "a.jsonl"),
    ]


def test_jsonl_lines_that_are_no_documents_are_rejected(tmp_path):
    lines = ['{"text": "cut', '["list"]', '{"title": "no text"}', '{"text": 5}', "[" * 100_000]
    rejected = read(read_jsonl_file, tmp_path, "\n".join(lines), "a.jsonl")
    assert all(isinstance(each, Rejected) for each in rejected)
    assert [(each.id, each.reason.partition(":")[0]) for each in rejected] == [
        ("jsonl:a.jsonl:1", "not_json"),
        ("jsonl:a.jsonl:2", "no_text"),
        ("jsonl:a.jsonl:3", "no_text"),
        ("jsonl:a.jsonl:4", "no_text"),
        ("jsonl:a.jsonl:5", "not_json"),
    ]


def test_invalid_utf8_in_a_line_is_replaced_and_counted(tmp_path):
    counts = Counter()
    (document,) = read(read_jsonl_file, tmp_path, b'{"text": "caf\xe9."}\n', "a.jsonl", counts)
    assert (document.text, counts["repaired.invalid_utf8"]) == ("caf\ufffd.", 1)
