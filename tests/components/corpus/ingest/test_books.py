import gzip
import random
from collections import Counter

import pytest

from bertline.components.corpus.ingest.books import chapters, read_book, strip_frame
from bertline.components.corpus.ingest.paragraphs import split_paragraphs
from bertline.components.corpus.ingest.reading import SourceFile, read_text

SENTENCE = "It was a bright cold day in April, and the clocks were striking thirteen once more."
PROSE = "\n".join([SENTENCE] * 6)  # more than a title page, less than 100 characters wide


def titles(text):
    return [title for title, _ in chapters(text)]


def book(*parts):
    return "\n\n".join(part if part.endswith("\n") else part + "\n\n" + PROSE for part in parts)


@pytest.mark.parametrize(
    "headings",
    [
        ["CHAPTER I", "CHAPTER II", "CHAPTER III"],
        ["Chapter 1", "Chapter 2"],
        ["CHAPTER I. Down the Rabbit-Hole", "CHAPTER II. The Pool of Tears"],
        ["Chapter One", "Chapter Twenty-one"],
        ["I", "II", "XLIX"],
        ["I.", "II.", "III."],
        ["I. A Scandal in Bohemia", "II. The Red-headed League"],
        ["PREFACE", "Book First", "PART TWO", "Letter 4", "EPILOGUE"],
        ["First Period: 1858-1859. EVENTS IN THE PRISON", "ADVENTURE II. THE RED-HEADED LEAGUE"],
    ],
)
def test_headings_begin_chapters(headings):
    assert titles(book(*headings)) == headings


def test_prose_is_no_heading():
    lines = ["Part I took away.", "I went home.", "I", "Chapter and verse.", "Act as you like!", "Book early."]
    assert titles("CHAPTER I\n\n" + PROSE + "\n\n" + "\n\n".join(lines[:2] + lines[3:]) + "\n\n" + PROSE) == [
        "CHAPTER I"
    ]


def test_contents_title_page_titles_and_ornaments_are_left_out():
    text = (
        "THE BOOK\n\nby\n\nA. N. Author\n\nCONTENTS\n\nCHAPTER I\n\nCHAPTER II\n\n\n"
        f"CHAPTER I\n\nTHE BEGINNING OF IT\n\n{PROSE}\n\n* * * * *\n\n{PROSE}\n\n"
        f"CHAPTER II\n\nThe End of It\n\n{PROSE}\n\nTHE END\n"
    )
    paragraph = PROSE.replace("\n", " ")
    assert chapters(text) == [("CHAPTER I", [paragraph, paragraph]), ("CHAPTER II", [paragraph])]


def test_book_without_headings_is_one_document():
    assert titles(PROSE + "\n\n" + PROSE) == [""]
    assert chapters("Short.\n\nBut all there is.\n") == [("", ["Short.", "But all there is."])]


def test_marks_of_the_edition_are_removed():
    text = f"CHAPTER I\n\n[Illustration: A _fine_ horse]\n\nShe _was_ glad.[12] [Pg 7]He said so.\n\n{PROSE}"
    assert chapters(text)[0][1][0] == "She was glad. He said so."


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***", "*** END OF THIS PROJECT GUTENBERG EBOOK EMMA ***"),
        ("*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***", "*** END OF THE PROJECT GUTENBERG EBOOK EMMA ***"),
        ("***START OF THE PROJECT GUTENBERG EBOOK EMMA***", "***END OF THE PROJECT GUTENBERG EBOOK EMMA***"),
        (
            "*** START OF THIS PROJECT GUTENBERG EBOOK A VERY\nLONG TITLE ***",
            "End of the Project Gutenberg EBook of Emma",
        ),
        (
            "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
            "End of Project Gutenberg's Etext of Emma",
        ),
        ("*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*", "End of this Project Gutenberg Etext"),
    ],
)
def test_project_gutenberg_frame_is_cut(start, end):
    prose = "Produced by An Anonymous Volunteer\n\n\nEMMA\n\nProse."
    text = f"Title: Emma\nEBook #158\n\n{start}\n\n\n{prose}\n\n\n{end}\n\nLicence."
    assert strip_frame(text).split() == ["EMMA", "Prose."]


def test_text_without_a_frame_stays_whole():
    assert strip_frame("Produced by nobody.\n\nA.\n\nB.") == "Produced by nobody.\n\nA.\n\nB."


@pytest.mark.parametrize(
    ("text", "paragraphs"),
    [
        ("One line\nis wrapped.\n\nThe next\nparagraph.\n", ["One line is wrapped.", "The next paragraph."]),
        ("One " * 30 + "line.\nAnother paragraph.\n", [("One " * 30 + "line."), "Another paragraph."]),
        ("a fine self-\nconfidence and a walk--\nyes", ["a fine self-confidence and a walk--yes"]),
        ("The mean-\nwhile is the meanwhile.", ["The meanwhile is the meanwhile."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_paragraphs_of_wrapped_and_long_lines(text, paragraphs):
    assert split_paragraphs(text) == paragraphs


def test_paragraphs_without_blank_lines_end_at_short_lines():
    wrapped = [
        "The schoolmaster was leaving the village, and everybody seemed",
        "sorry about it, as they said.",
        '"Yes."',
    ]
    assert split_paragraphs("\n".join(wrapped * 20)) == [f"{wrapped[0]} {wrapped[1]}", wrapped[2]] * 20


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_encodings_line_ends_and_ids(tmp_path, encoding):
    path = tmp_path / "emma.txt.gz"
    text = f"Chapter I\n\nThe café’s door.\n\n{PROSE}\n\nChapter II\n\n{PROSE}\n".replace("\n", "\r\n")
    path.write_bytes(gzip.compress(text.encode(encoding)))
    counts = Counter()
    documents = list(read_book(SourceFile("books", path, "shelf/emma.txt.gz"), counts, lambda size: None))
    assert [(each.id, each.title, each.source) for each in documents] == [
        ("book:shelf/emma:001", "Chapter I", "shelf/emma.txt.gz"),
        ("book:shelf/emma:002", "Chapter II", "shelf/emma.txt.gz"),
    ]
    assert documents[0].text == "The café’s door.\n" + PROSE.replace("\n", " ")
    assert counts == {"books.read": 1} | ({"repaired.not_utf8": 1} if encoding == "cp1252" else {})


def test_file_that_is_in_no_encoding_is_read_as_latin_1(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xe9 \x81 ol\xe9.")
    counts = Counter()
    (document,) = read_book(SourceFile("books", path, "a.txt"), counts, lambda size: None)
    assert (document.text, counts["repaired.not_utf8"]) == ("café olé.", 1)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "noise.txt").write_bytes(random.Random(0).randbytes(5000))
    with pytest.raises(ValueError, match=r"noise\.txt: holds NUL bytes, so it is no text"):
        read_text(tmp_path / "noise.txt", Counter(), lambda size: None)
    (tmp_path / "book.txt").write_bytes(b"A line." * 1000 + b"\0")
    assert read_text(tmp_path / "book.txt", Counter(), lambda size: None).startswith("A line.")
