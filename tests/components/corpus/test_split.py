from collections import Counter

import pytest

from bertline.components.corpus.documents import Document, DocumentWriter
from bertline.components.corpus.split import SplitConfig, run, split_sentences

# Each list is what the sentences of its joined text must be.
HARD_CASES = [
    ["Mr. Smith met Dr. Jones.", "They talked."],
    ["He paid $3.50 for version 2.0.1.", "It was cheap."],
    ["She lives in the U.S. and works there."],
    ["He left the U.S.", "The war went on."],
    ["The U.S. Army and the U.N. Council met.", "So they did."],
    ["J. K. Rowling wrote it.", "J. R. R. Tolkien did not."],
    ["Vitamin C.", "It is good."],
    ["It was better than I.", "Mary agreed."],
    ['"Where are you going?" asked Tom.', '"Home."'],
    ['"What?" Sara asked.', '"Nothing," I said.'],
    ['"Why?" I asked.', "Nobody knew."],
    ['"Stop!"', "He ran."],
    ["Wait... what?", "I see."],
    ["He waited...", "Then he left."],
    ["The end . . .", "Then nothing."],
    ["See e.g. Smith et al. (2004) for details, cf. Jones.", "It is new."],
    ["It opens at 9 a.m. and closes at 5 p.m. on Sundays."],
    ["It closes at 5 p.m.", "The end came."],
    ["Apple Inc. Chairman Cook spoke.", "Nobody listened to Google Inc.", "The others did."],
    ["He was born on Jan. 5, 1950.", "He died."],
    ["No. 5 is alive.", "I said no.", "Then I left."],
    ['He wrote "I will go."', "Then he went."],
    ["(He left.)", "She stayed."],
    ["St. Louis is a city.", "He lives on Main St.", "The house is red."],
    ["He has three.", "20 people came."],
    ["Really?!", "Yes!!!", "No."],
    ["It was the sun.", "Mary smiled."],
    ["1. The first item.", "2. The second item."],
    ["Am 3. Mai 1990 kam er.", "Im 19. Jahrhundert war das so, z.B. Kant."],
    ["M. Dupont et Mme. Durand, p. 5.", "Il est né à St. Malo."],
    ["¿Qué?", "¡Nada!", "Bueno."],
    ["А. С. Пушкин родился в 1799 г. в Москве.", "Он умер."],
    ["你好。", "我是学生！", "你呢？"],
    ["他说：“你好。”", "然后他走了。"],
    ["“好。”，他说。"],
    ["「はい。」と言った。", "次の日。"],
    ["यह एक वाक्य है।", "यह दूसरा है।"],
    ["ما اسمك؟", "اسمي علي."],
    ["یہ ایک جملہ ہے۔", "یہ دوسرا ہے۔"],
    ["베를린은 수도이다.", "인구는 많다."],
]


@pytest.mark.parametrize("sentences", HARD_CASES, ids=lambda sentences: sentences[0][:25])
def test_hard_cases(sentences):
    joiner = "" if sentences[0][-1] in "。！？”" else " "
    assert split_sentences(joiner.join(sentences)) == sentences


def test_white_space_and_line_ends_never_survive():
    assert split_sentences(" One\nline\u2028and\xa0more.\r\n Two.\t") == ["One line and more.", "Two."]
    assert split_sentences("") == split_sentences(" \n ") == []


@pytest.mark.parametrize("unit", [".", "?!", "a", "a b ", '."', " .", "A. ", "1. ", "。", "”", "… ", "-- ", "(", '" '])
def test_a_long_line_takes_linear_time_and_loses_nothing(unit):
    line = unit * (300_000 // len(unit))
    assert "".join(split_sentences(line)).replace(" ", "") == line.replace(" ", "")


def documents_folder(folder, texts, shard_size_bytes=10**9):
    folder.mkdir()
    with DocumentWriter(folder, Counter(), shard_size_bytes) as writer:
        for number, text in enumerate(texts):
            writer.keep(Document(f"text:a:{number}", "", text, "a"))
    return folder


def split(documents, out, **settings):
    out.mkdir()
    return run(documents, out, SplitConfig(**settings))


def test_sentences_and_ids_lie_side_by_side(tmp_path):
    documents = documents_folder(tmp_path / "d", ["One. Two.\nThree", " ", "Four."])
    assert split(documents, tmp_path / "s") == {
        "characters": 18,
        "documents": 2,
        "dropped.no_sentence": 1,
        "sentences": 4,
    }
    assert (tmp_path / "s" / "sentences-00000.txt").read_bytes() == b"One.\nTwo.\nThree\n\nFour.\n\n"
    assert (tmp_path / "s" / "ids-00000.txt").read_bytes() == b"text:a:0\ntext:a:2\n"


def test_same_bytes_for_any_worker_count(tmp_path):
    documents = documents_folder(tmp_path / "d", [f"Number {n}. Next." for n in range(20)], shard_size_bytes=300)
    counts = [split(documents, tmp_path / str(workers), num_workers=workers) for workers in (1, 2)]
    assert counts[0] == counts[1]
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(names) > 6
    assert [(tmp_path / "1" / name).read_bytes() for name in names] == [
        (tmp_path / "2" / name).read_bytes() for name in names
    ]


def test_documents_without_any_sentence_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="no sentence in 1 shards"):
        split(documents_folder(tmp_path / "d", [" "]), tmp_path / "s")
    with pytest.raises(FileNotFoundError, match="bertline ingest"):
        split(tmp_path, tmp_path / "t")


def test_impossible_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="num_workers is 0"):
        SplitConfig(num_workers=0)
