import gzip
import json
from collections import Counter

import pytest

from bertline.components.corpus.documents import (
    Document,
    DocumentWriter,
    Rejected,
    list_document_shards,
    one_line,
    read_documents,
)


def document(number, text="One.\nTwo."):
    return Document(f"text:a:{number}", f"Title {number}", text, "a.txt")


def written(folder, documents, counts=None, **options):
    folder.mkdir()
    with DocumentWriter(folder, Counter() if counts is None else counts, **options) as writer:
        for each in documents:
            writer.reject(each) if isinstance(each, Rejected) else writer.keep(each)
    return folder


def rejected_of(folder):
    lines = gzip.decompress((folder / "rejected" / "rejected-00000.jsonl.gz").read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


def test_line_has_the_keys_in_order_and_readable_text(tmp_path):
    folder = written(tmp_path / "d", [Document("text:a:0", "柏林", "Größe.\n柏林。", "a.txt")])
    line = gzip.decompress(list_document_shards(folder)[0].read_bytes()).decode()
    assert line == '{"id": "text:a:0", "title": "柏林", "text": "Größe.\\n柏林。", "source": "a.txt"}\n'


def test_documents_come_back_as_they_were(tmp_path):
    documents = [document(0), document(1, "A\u2028b \U0001f600")]
    folder = written(tmp_path / "d", documents)
    assert list(read_documents(list_document_shards(folder)[0])) == documents


def test_a_full_shard_is_closed_and_the_next_begun(tmp_path):
    folder = written(tmp_path / "d", [document(n, "x" * 40) for n in range(5)], shard_size_bytes=200)
    shards = list_document_shards(folder)
    assert [shard.name for shard in shards] == [f"documents-0000{n}.jsonl.gz" for n in range(3)]
    assert [len(list(read_documents(shard))) for shard in shards] == [2, 2, 1]


def test_same_documents_same_bytes(tmp_path):
    first, second = (written(tmp_path / name, [document(0), document(1)]) for name in "ab")
    assert list_document_shards(first)[0].read_bytes() == list_document_shards(second)[0].read_bytes()


def test_second_document_with_an_id_is_rejected_and_counted(tmp_path):
    counts = Counter()
    folder = written(tmp_path / "d", [document(0, "First."), document(0, "Second.")], counts)
    assert [each.text for each in read_documents(list_document_shards(folder)[0])] == ["First."]
    assert counts == {"documents.kept": 1, "characters.kept": 6, "dropped.duplicate_id": 1}
    (rejected,) = rejected_of(folder)
    assert (rejected["reason"], rejected["text"]) == ("duplicate_id", "Second.")


def test_rejected_are_counted_by_the_word_before_the_colon(tmp_path):
    counts = Counter()
    rejected = Rejected("jsonl:a:1", "", "not_json: Expecting value", "a.jsonl", "{oops \ud800")
    folder = written(tmp_path / "d", [rejected], counts)
    assert counts == {"dropped.not_json": 1}
    assert [list(each) for each in rejected_of(folder)] == [["id", "title", "reason", "source", "text"]]


def test_one_line_holds_no_line_end_of_any_script_and_no_control_character():
    assert one_line(" a\u2028b\x85c\x0bd\r\n e\x00f\u00a0g\ud800\ufeff ") == "a b c d ef g"


def test_folder_without_documents_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="bertline ingest"):
        list_document_shards(tmp_path)


def test_cut_shard_and_broken_line_are_named(tmp_path):
    folder = written(tmp_path / "d", [document(n) for n in range(50)])
    shard = list_document_shards(folder)[0]
    shard.write_bytes(shard.read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"documents-00000\.jsonl\.gz: cut or damaged after line"):
        list(read_documents(shard))
    with gzip.open(shard, "wt") as lines:
        lines.write('{"id": "a", "title": "", "text": "x", "source": ""}\n{"id": "b"}\n')
    with pytest.raises(ValueError, match=r"documents-00000\.jsonl\.gz:2: not a document"):
        list(read_documents(shard))
