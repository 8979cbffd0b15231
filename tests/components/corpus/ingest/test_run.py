import bz2
import gzip
import json
from pathlib import Path

import pytest

from bertline.components.corpus.documents import list_document_shards, read_documents
from bertline.components.corpus.ingest.run import IngestConfig, Sources, run

PROSE = "A sentence of the article that is long enough to be kept. And another one."
PAGES = [
    ("Good", f"'''Good''' is {PROSE} [[Star Trek: Picard]] is a film."),
    ("Templates only", "{{Infobox|a=b}}\n{{Stub}}"),
    ("Stub", "A short one."),
    ("Many (disambiguation)", "Many"),
    ("Moved", "#REDIRECT [[Good]]"),
    ("Last", f"== Heading ==\n{PROSE}"),
]


def dump(pages=PAGES, end="</mediawiki>"):
    text = '<mediawiki xml:lang="en"><siteinfo><dbname>testwiki</dbname></siteinfo>'
    for number, (title, wikitext) in enumerate(pages, 1):
        text += f"<page><title>{title}</title><ns>0</ns><id>{number}</id>"
        text += f"<revision><text>{wikitext}</text></revision></page>"
    return text + end


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "dump.xml.bz2").write_bytes(bz2.compress(dump().encode()))
    (folder / "book.txt").write_text(f"CHAPTER I\n\n{PROSE * 6}\n\nCHAPTER II\n\n{PROSE * 7}\n")
    (folder / "note.txt.gz").write_bytes(gzip.compress(PROSE.encode()))
    (folder / "wiki_00").write_text(f'<doc id="5" url="u" title="T">\nT\n\n{PROSE}\n</doc>\n')
    (folder / "lines.jsonl").write_text(json.dumps({"text": PROSE, "id": "own"}) + "\nnot json\n")
    return folder


def ingested(out: Path, sources: Sources, **settings):
    out.mkdir()
    counts = run(out, IngestConfig(**settings), **vars(sources))
    return counts, [document for shard in list_document_shards(out) for document in read_documents(shard)]


def test_progress_ends_when_all_is_read(shelf, tmp_path, capsys):
    for file, copies in (("dump.xml.bz2", 1), ("book.txt", 50), ("lines.jsonl", 9)):
        (shelf / file).write_bytes((shelf / file).read_bytes() * copies)
    sources = {"dump": str(shelf), "books": str(shelf / "book.txt"), "text": str(shelf / "*.gz"), "jsonl": str(shelf)}
    counts, _ = ingested(tmp_path / "out", Sources(**sources))
    last = capsys.readouterr().err.splitlines()[-1]
    size = sum(path.stat().st_size for path in shelf.iterdir() if path.name != "wiki_00") / 1e6
    assert last.startswith(f"ingest: {size:.4g}/{size:.4g} MB, documents {counts['documents.kept']}, ")


def test_all_sources_in_the_order_of_the_flags(shelf, tmp_path):
    sources = Sources(
        dump=str(shelf),
        books=str(shelf / "book.txt"),
        text=str(shelf / "*.gz"),
        wikiextractor=str(shelf),
        jsonl=str(shelf),
    )
    counts, documents = ingested(tmp_path / "out", sources)
    assert [document.id for document in documents] == [
        "wikipedia:testwiki:1",
        "wikipedia:testwiki:6",
        "book:book:001",
        "book:book:002",
        "text:note.txt.gz:0",
        "wikiextractor:5",
        "own",
    ]
    assert documents[0].text == f"Good is {PROSE} Star Trek: Picard is a film."
    assert counts == {
        "books.read": 1,
        "characters.kept": sum(len(document.text) for document in documents),
        "documents.kept": 7,
        "dropped.disambiguation": 1,
        "dropped.empty": 1,
        "dropped.not_json": 1,
        "dropped.redirect": 1,
        "dropped.short": 1,
        "pages.read": 6,
        "texts.read": 1,
    }
    lines = gzip.decompress((tmp_path / "out" / "rejected" / "rejected-00000.jsonl.gz").read_bytes()).splitlines()
    rejected = [json.loads(line) for line in lines]
    assert [(each["title"], each["reason"].partition(":")[0]) for each in rejected] == [
        ("Templates only", "empty"),
        ("Stub", "short"),
        ("", "not_json"),
    ]


def test_same_bytes_for_any_worker_count(tmp_path):
    path = tmp_path / "dump.xml"
    path.write_text(dump([(f"P{n}", PROSE * (1 + n % 7)) for n in range(60)]))
    for workers in (1, 2):
        ingested(tmp_path / str(workers), Sources(dump=str(path)), num_workers=workers)
    one, two = (list_document_shards(tmp_path / name)[0].read_bytes() for name in "12")
    assert one == two


def test_cut_dump_is_refused_or_used_up_to_the_cut(tmp_path):
    path = tmp_path / "dump.xml"
    path.write_text(dump(end=""))
    with pytest.raises(ValueError, match=r"dump\.xml: the dump is cut .* set allow_truncated to use the 6 whole pages"):
        ingested(tmp_path / "refused", Sources(dump=str(path)))
    counts, documents = ingested(tmp_path / "used", Sources(dump=str(path)), allow_truncated=True)
    assert len(documents) == counts["documents.kept"] == 2
    assert (counts["truncated"], counts["truncated.pages_used"]) == (1, 6)


@pytest.mark.parametrize("content", ["not json\n[1]\n", "\n", ""])
def test_no_document_left_is_an_error(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match="nothing is left of 1 files"):
        ingested(tmp_path / "out", Sources(jsonl=str(path)))


def test_min_document_characters_is_the_shortest_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "1234567890"}\n{"text": "123456789"}\n')
    counts, documents = ingested(tmp_path / "out", Sources(jsonl=str(path)), min_document_characters=10)
    assert [document.text for document in documents] == ["1234567890"]
    assert counts["dropped.short"] == 1


@pytest.mark.parametrize("field", ["min_document_characters", "page_timeout_seconds", "num_workers"])
def test_impossible_settings_are_refused_by_name(field):
    with pytest.raises(ValueError, match=f"{field} is 0"):
        IngestConfig(**{field: 0})


def test_missing_sources_are_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nothing to read; give at least one of --dump --books"):
        Sources().files()
    for spec, message in [
        (tmp_path / "absent.xml", "no such file or folder; correct --dump"),
        (tmp_path / "*.bz2", "no file matches this pattern"),
        (tmp_path / "empty", "no file for --dump in this folder"),
    ]:
        with pytest.raises(FileNotFoundError, match=message):
            Sources(dump=str(spec)).files()


def test_files_folders_patterns_and_lists_of_them(tmp_path):
    for name in ("b/2.txt", "b/c/1.txt", "b/readme.md", "a.txt", "x,y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    spec = f"{tmp_path}/b, {tmp_path}/*.txt,{tmp_path}/a.txt"
    listed = Sources(books=spec).list_files()
    assert [(file.name, file.stem) for file in listed] == [
        ("2.txt", "2"),
        ("c/1.txt", "c/1"),
        ("a.txt", "a"),
        ("x,y.txt", "x,y"),
    ]
    assert Sources(books=f"{tmp_path}/x,y.txt").files() == {"books": [tmp_path / "x,y.txt"]}
