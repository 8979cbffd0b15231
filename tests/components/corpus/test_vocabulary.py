"""A vocabulary, released or learned, as an artifact's folder."""

import pytest

from bertline.components.corpus.vocabulary import VocabularyConfig, run
from bertline.tokenizer.wordpiece import load_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def sentences_folder(folder, *texts):
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"sentences-{number:05}.txt").write_text(text, encoding="utf-8", newline="\n")
        (folder / f"ids-{number:05}.txt").write_text("text:0\n", encoding="utf-8")
    return folder


def test_learned_from_sentences(tmp_path, out, capsys):
    sentences = sentences_folder(tmp_path / "sentences", "Low, lower.\nLOW low\n\n", "L\u00f6w\u2028low\n\n")
    counts = run(sentences, out, VocabularyConfig(vocab_size=18))
    said = "14 entries, not the 18 wanted: no further two pieces stand side by side 2 times in the text's 8 words. It "
    assert said in capsys.readouterr().err
    assert (out / "vocab.txt").read_bytes().decode().split("\n") == [
        *SPECIAL,
        *("##e", "##o", "##r", "##w", ",", ".", "l"),
        *("##ow", "low", ""),
    ]
    assert counts == {
        "entries": 14,
        "entries.characters": 7,
        "entries.fewer_than_wanted": 4,
        "words": 8,
        "words.distinct": 4,
        "words.stripped_of_marks": 1,
    }
    assert load_vocabulary(out / "vocab.txt").pad_id == 0


def test_progress_ends_when_all_is_read_and_all_pieces_are_found(tmp_path, out, capsys):
    texts = "L\u00f6w l\u00f6wer \u4f60\u597d\n\n" * 60_000, "L\u00f6w\n\n" * 100
    sentences = sentences_folder(tmp_path / "sentences", *texts)
    run(sentences, out, VocabularyConfig(vocab_size=16))
    words, pieces, _ = capsys.readouterr().err.splitlines()
    size = sum(len(text.encode()) for text in texts) / 1e6
    assert words.startswith(f"vocabulary: words: {size:.4g}/{size:.4g} MB, distinct 4, ")
    assert pieces.startswith("vocabulary: pieces: 16/16 pieces, ")


def test_cased_words_keep_case_and_accents(tmp_path, out, capsys):
    sentences = sentences_folder(tmp_path / "sentences", "L\u00f6w L\u00f6w low\n\n")
    run(sentences, out, VocabularyConfig(vocab_size=13, do_lower_case=False))
    assert "wanted" not in capsys.readouterr().err  # 12 of 13 entries
    assert load_vocabulary(out / "vocab.txt").tokens[5:] == (
        "##o",
        "##w",
        "##\u00f6",
        "L",
        "l",
        "##\u00f6w",
        "L\u00f6w",
    )


def test_a_released_vocabulary_is_copied_byte_for_byte(tmp_path, out):
    released = tmp_path / "released.txt"
    released.write_bytes("\r\n".join([*SPECIAL, "a", "b", "a", "\u2028"]).encode())
    assert run(None, out, VocabularyConfig(), released=released) == {"entries": 9, "entries.duplicate": 1}
    assert (out / "vocab.txt").read_bytes() == released.read_bytes()


def test_unusable_inputs_are_refused(tmp_path, out):
    with pytest.raises(ValueError, match="neither sentences nor a released vocabulary"):
        run(None, out, VocabularyConfig())
    with pytest.raises(FileNotFoundError, match="no such folder of sentences"):
        run(tmp_path / "none", out, VocabularyConfig())
    with pytest.raises(FileNotFoundError, match="no such vocabulary"):
        run(None, out, VocabularyConfig(), released=tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.txt: lacks \[MASK\]"):
        run(None, out, VocabularyConfig(), released=tmp_path / "bad.txt")
    with pytest.raises(ValueError, match="no word in its sentences"):
        run(sentences_folder(tmp_path / "blank", "\u00ad\n\n"), out, VocabularyConfig())
    with pytest.raises(ValueError, match=r"vocab_size is 10, .* already 14; raise vocab_size or lower alphabet_size"):
        run(sentences_folder(tmp_path / "many", "abc def ghi\n\n"), out, VocabularyConfig(vocab_size=10))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("settings", [{"vocab_size": 5}, {"min_count": 0}, {"alphabet_size": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is .; it must be at least"):
        VocabularyConfig(**settings)


def test_a_line_of_five_megabytes(tmp_path, out):
    sentences = sentences_folder(tmp_path / "sentences", "word " * 1_000_000 + "\n\n")
    assert run(sentences, out, VocabularyConfig(vocab_size=30))["words"] == 1_000_000


def test_a_vocabulary_that_loses_marks_says_of_how_many_words_and_how_to_keep_them(tmp_path, out, capsys):
    """Decomposed Hangul keeps its letters; Hindi loses vowels and Japanese the marks that make g of k."""
    latin, others = (
        "Citt\u00e0 \u00e8 citt\u00e0 low (low)",
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u304c\u304d \ud55c\uad6d\uc5b4",
    )
    sentences = sentences_folder(tmp_path / "sentences", f"{latin}\n{others}\n\n")
    counts = run(sentences, out, VocabularyConfig(vocab_size=100))
    assert counts["words.stripped_of_marks"] == 5
    said = capsys.readouterr().err
    assert "50.0% of the words lose accents or other marks (citt\u00e0 -> citta, \u00e8 -> e, " in said
    assert "set --do_lower_case=false" in said
    assert "words.stripped_of_marks" not in run(sentences, out, VocabularyConfig(vocab_size=100, do_lower_case=False))
    assert "lose" not in capsys.readouterr().err


def test_few_marks_are_counted_and_not_spoken_of(tmp_path, out, capsys):
    sentences = sentences_folder(tmp_path / "sentences", "Low \u201clow\u201d.\n" * 100 + "Caf\u00e9 low.\n\n")
    assert run(sentences, out, VocabularyConfig(vocab_size=100))["words.stripped_of_marks"] == 1
    assert "lose" not in capsys.readouterr().err
