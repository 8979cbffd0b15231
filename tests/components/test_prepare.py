"""Sentences to records, by Beam."""

import json
import sys

import numpy as np
import pytest

from bertline.components.hashing import document_key
from bertline.components.prepare import PrepareConfig, is_in_part, run
from bertline.components.sentence_reader import document_places, read_documents, sentence_files
from bertline.components.shards import write_shard
from bertline.model.records import open_records
from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{number}" for number in range(30)]
SMALL = {"max_seq_length": 32, "max_predictions_per_seq": 5, "dupe_factor": 2}


def sentences_folder(folder, documents, files=1):
    """`documents` as lists of sentences, dealt out to `files` shards."""
    folder.mkdir()
    for number in range(files):
        mine = list(enumerate(documents))[number::files]
        text = "".join("".join(f"{sentence}\n" for sentence in sentences) + "\n" for _, sentences in mine)
        (folder / f"sentences-{number:05}.txt").write_text(text, encoding="utf-8", newline="\n")
        (folder / f"ids-{number:05}.txt").write_text("".join(f"text:{index}\n" for index, _ in mine), encoding="utf-8")
    return folder


def some_documents(count):
    random = np.random.default_rng(count)
    return [
        [" ".join(random.choice(WORDS, random.integers(1, 12))) + "." for _ in range(random.integers(1, 8))]
        for _ in range(count)
    ]


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    pieces = [*"abcdefghijklmnopqrstuvwxyz0123456789.", *(f"##{digit}" for digit in range(10))]
    path.write_text("\n".join([*SPECIAL, "[unused0]", *pieces, *WORDS[::2]]) + "\n", encoding="utf-8")
    return path


def prepared(tmp_path, sentences, vocab, name="out", **settings):
    out = tmp_path / name
    out.mkdir()
    return out, run(sentences, vocab, out, PrepareConfig(**{**SMALL, **settings}))


def places(folder):
    return [place for files in sentence_files(folder) for place in document_places(*files)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parts_counts_and_files(tmp_path, vocab):
    documents = some_documents(300)
    sentences = sentences_folder(tmp_path / "sentences", documents, files=2)
    out, counts = prepared(tmp_path, sentences, vocab, part="all", num_shards=4)
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"part-{number:05}-of-00004.tfrecord" for number in range(4)),
        "token_counts.npy",
    ]
    tokenizer = WordPieceTokenizer(load_vocabulary(vocab))
    ids, _ = tokenizer.encode_lines([sentence for document in documents for sentence in document])
    occurrences = np.load(out / "token_counts.npy")
    assert occurrences.dtype == np.int64
    assert (occurrences == np.bincount(ids, minlength=len(tokenizer.vocabulary))).all()
    records = open_records(out, max_seq_length=32, vocab_size=len(tokenizer.vocabulary))
    rows = records.batch(np.arange(len(records)))
    shares = occurrences[occurrences > 0] / len(ids)
    outcomes = {name: counts.pop(name) for name in ("masked.mask", "masked.same", "masked.random")}
    assert counts == {
        "documents": 300,
        "sentences": sum(map(len, documents)),
        "tokens": len(ids),
        "instances": len(records),
        "masked_tokens": int(rows["masked_lm_weights"].sum()),
        "random_next": round(float(rows["next_sentence_labels"].mean()), 6),
        "padding": round(1 - float(rows["input_mask"].mean()), 6),
        "unknown": 0.0,
        "dropped.empty_document": 0,
        "shards": 4,
        "unigram_entropy_nats": round(float(-(shares * np.log(shares)).sum()), 6),
    }
    assert sum(outcomes.values()) == counts["masked_tokens"]
    assert outcomes["masked.mask"] == (rows["input_ids"] == 4).sum()
    assert abs(counts["random_next"] - 0.5) < 5 * 0.5 / np.sqrt(len(records))


@pytest.mark.slow
def test_same_seed_same_bytes_for_any_worker_count(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(300), files=3)
    one, counts = prepared(tmp_path, sentences, vocab, "one", num_shards=4)
    two, same_counts = prepared(tmp_path, sentences, vocab, "two", num_shards=4, num_workers=2)
    assert contents(one) == contents(two) and counts == same_counts
    assert counts["shards"] == 4


def test_other_files_of_the_same_documents_give_the_same_bytes(tmp_path, vocab):
    documents = some_documents(40)
    together = sentences_folder(tmp_path / "together", documents)
    apart = sentences_folder(tmp_path / "apart", documents, files=5)
    assert contents(prepared(tmp_path, together, vocab, "one")[0]) == contents(
        prepared(tmp_path, apart, vocab, "two")[0]
    )


def test_bytes_of_a_shard_depend_on_documents_and_configuration_alone(tmp_path, vocab):
    tokenizer = WordPieceTokenizer(load_vocabulary(vocab))
    documents = places(sentences_folder(tmp_path / "sentences", some_documents(30)))

    def written(documents, **settings):
        write_shard(documents, tmp_path / "x", tokenizer, PrepareConfig(**{**SMALL, **settings}))
        return (tmp_path / "x").read_bytes()

    first = written(documents)
    assert first == written(documents[::-1])
    for change in ({"seed": 1}, {"dupe_factor": 3}, {"do_whole_word_mask": False}, {"short_seq_prob": 0.9}):
        assert first != written(documents, **change)


def test_block_size_changes_no_byte(tmp_path, vocab, monkeypatch):
    tokenizer = WordPieceTokenizer(load_vocabulary(vocab))
    documents = places(sentences_folder(tmp_path / "sentences", some_documents(30)))
    results = set()
    for rows in (1, 7, 2048):
        monkeypatch.setattr("bertline.components.shards.ROWS_AT_ONCE", rows)
        write_shard(documents, tmp_path / "x", tokenizer, PrepareConfig(**SMALL))
        results.add((tmp_path / "x").read_bytes())
    assert len(results) == 1


def test_train_and_heldout_split_the_documents_whatever_the_seed(tmp_path):
    ids = [f"text:{number}" for number in range(4000)]
    train, heldout = (
        {name for name in ids if is_in_part(name, PrepareConfig(part=part, seed=seed))}
        for part, seed in (("train", 1), ("heldout", 2))
    )
    assert not train & heldout and train | heldout == set(ids)
    assert abs(len(heldout) - 200) < 5 * np.sqrt(4000 * 0.05 * 0.95)
    shards = np.bincount([document_key(name) % 2 for name in heldout])
    assert abs(shards[0] - shards[1]) < 5 * np.sqrt(len(heldout))
    assert all(is_in_part(name, PrepareConfig(part="all")) for name in ids[:50])


def test_small_corpora_make_fewer_shards(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(70))
    assert prepared(tmp_path, sentences, vocab, part="all")[1]["shards"] == 2


def test_one_document(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(1) * 1)
    _, counts = prepared(tmp_path, sentences, vocab, part="all")
    assert counts["shards"] == 1 and counts["random_next"] == 0.0


def test_a_sentence_of_five_megabytes(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", [[f"w1 {'x' * 201} w2 " * 25_000], ["w4 w5."]])
    assert (sentences / "sentences-00000.txt").stat().st_size > 5_000_000
    _, counts = prepared(tmp_path, sentences, vocab, part="all", dupe_factor=1, max_seq_length=128)
    assert counts["tokens"] == 100_000 + 4  # w2 and w4 are single pieces, w1 and w5 two, the long word is [UNK]
    assert counts["instances"] > 0.9 * counts["tokens"] / 125


def test_documents_without_tokens_are_counted(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", [["w1 w2.", "w3."], ["\u00ad"], ["w4."]])
    _, counts = prepared(tmp_path, sentences, vocab, part="all")
    assert (counts["documents"], counts["dropped.empty_document"]) == (2, 1)


def test_the_command_line_of_the_process_is_not_beams(tmp_path, vocab, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["bertline", "--runner=NoSuchRunner", "--direct_num_workers=x", "--save_main_session"]
    )
    sentences = sentences_folder(tmp_path / "sentences", some_documents(3))
    prepared(tmp_path, sentences, vocab, part="all")


def test_missing_inputs(tmp_path, vocab):
    with pytest.raises(FileNotFoundError, match=r'none: no such folder of sentences; run "bertline split"'):
        prepared(tmp_path, tmp_path / "none", vocab, "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: no sentences-\*\.txt"):
        prepared(tmp_path, tmp_path / "empty", vocab, "b")
    sentences = sentences_folder(tmp_path / "sentences", some_documents(3))
    with pytest.raises(FileNotFoundError, match=r"no such vocabulary"):
        prepared(tmp_path, sentences, tmp_path / "none.txt", "c")
    (tmp_path / "bad.txt").write_text("\n".join(SPECIAL[:4]) + "\nword\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.txt: lacks \[MASK\]"):
        prepared(tmp_path, sentences, tmp_path / "bad.txt", "d")
    (sentences / "ids-00000.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"ids-00000\.txt: missing beside sentences-00000\.txt"):
        prepared(tmp_path, sentences, vocab, "e")


@pytest.mark.parametrize(
    ("ids", "message"), [("text:0\n", "more documents than ids"), ("a\nb\nc\n", "fewer documents than ids")]
)
def test_sentences_and_ids_that_do_not_correspond(tmp_path, vocab, ids, message):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(2))
    (sentences / "ids-00000.txt").write_text(ids, encoding="utf-8")
    with pytest.raises(ValueError, match=f"sentences-00000.txt: {message}"):
        prepared(tmp_path, sentences, vocab)


def test_parts_without_text(tmp_path, vocab):
    with pytest.raises(ValueError, match="no document in it"):
        prepared(tmp_path, sentences_folder(tmp_path / "nothing", []), vocab, "a")
    few = sentences_folder(tmp_path / "few", some_documents(4))
    with pytest.raises(ValueError, match=r'none of its 4 documents is in part "heldout".*raise heldout_share'):
        prepared(tmp_path, few, vocab, "b", part="heldout")
    with pytest.raises(ValueError, match=r'none of its 4 documents is in part "train".*lower heldout_share'):
        prepared(tmp_path, few, vocab, "c", heldout_share=1.0)
    single = sentences_folder(tmp_path / "single", [["a"]])
    with pytest.raises(ValueError, match="too little text for one instance"):
        prepared(tmp_path, single, vocab, "d", part="all")


def test_documents_are_read_as_written(tmp_path):
    # Only \n ends a line; several empty lines are one; the last one is missing; 0xFF is not UTF-8.
    (tmp_path / "sentences-00000.txt").write_bytes("a\u2028b\nc\rd\n\n\né".encode() + b"\xff\n\nf")
    (tmp_path / "ids-00000.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    documents = [("one", ["a\u2028b", "c\rd"]), ("two", ["é"]), ("three", ["f"])]
    found = places(tmp_path)
    assert list(read_documents(found)) == documents
    assert list(read_documents(found[::-1])) == documents[::-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_seq_length": 4}, "max_seq_length is 4; it must be at least 5"),
        ({"max_predictions_per_seq": 0}, "max_predictions_per_seq is 0; it must be at least 1"),
        ({"dupe_factor": 0}, "dupe_factor is 0"),
        ({"num_shards": 0}, "num_shards is 0"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"masked_lm_prob": 0.0}, "masked_lm_prob is 0"),
        ({"masked_lm_prob": 1.5}, r"masked_lm_prob is 1\.5; it must lie between 0 and 1"),
        ({"short_seq_prob": -0.1}, r"short_seq_prob is -0\.1"),
        ({"heldout_share": 2.0}, r"heldout_share is 2\.0"),
        ({"masked_lm_prob": float("nan")}, "masked_lm_prob is nan"),
        ({"part": "test"}, 'part is "test"; it must be one of train, heldout, all'),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PrepareConfig(**settings)


def test_nothing_but_results_is_left_behind(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(5))
    out, counts = prepared(tmp_path, sentences, vocab, part="all")
    assert {path.suffix for path in out.iterdir()} == {".tfrecord", ".npy"}
    assert json.loads(json.dumps(counts)) == counts  # plain numbers
