"""Sentences to records, by Beam."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from bertline import progress
from bertline.components.pretraining_data import shards
from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.files import (
    document_key,
    document_places,
    list_sentence_files,
    read_documents,
)
from bertline.components.pretraining_data.prepare import run
from bertline.components.pretraining_data.shards import ShardWriter, word_pieces, write_shard
from bertline.model.records.masking import mask_rules
from bertline.model.records.reader import open_records
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
    return [place for file in list_sentence_files(folder) for place in document_places(file)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".tfrecord", ".npy")}


def shard_writer(folder, vocab, **settings):
    """What writes shards of a set of one."""
    config, vocabulary = PrepareConfig(**{**SMALL, **settings}), load_vocabulary(vocab)
    folder.mkdir(exist_ok=True)
    encode = word_pieces(WordPieceTokenizer(vocabulary), config.do_whole_word_mask)
    rules = mask_rules(config.mask_config(), vocabulary, config.max_seq_length)
    return ShardWriter(str(folder), 1, config, vocabulary, encode, rules)


def test_parts_counts_and_files(tmp_path, vocab):
    documents = some_documents(300)
    sentences = sentences_folder(tmp_path / "sentences", documents, files=2)
    out, counts = prepared(tmp_path, sentences, vocab, part="all", num_shards=4)
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"part-{number:05}-of-00004.tfrecord" for number in range(4)),
        "stats.html",
        "stats.json",
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
        "tokens_never_seen": int((occurrences == 0).sum()),
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
    documents = places(sentences_folder(tmp_path / "sentences", some_documents(30)))

    def written(documents, **settings):
        writer = shard_writer(tmp_path / f"{len(list(tmp_path.iterdir()))}", vocab, **settings)
        write_shard(0, documents, writer)
        return (tmp_path / writer.paths(0)[0]).read_bytes()

    first = written(documents)
    assert first == written(documents[::-1])
    for change in (
        {"seed": 1},
        {"dupe_factor": 3},
        {"do_whole_word_mask": False},
        {"short_seq_prob": 0.9},
        {"semantics": "google"},
        {"pairs": "none"},
        {"max_ngram": 3},
        {"truncate_prob": 0.5},
        {"random_next_prob": 0.9},
        {"replace_per": "word"},
        {"schema": "compact"},
    ):
        assert first != written(documents, **change)


def test_block_size_changes_no_byte(tmp_path, vocab, monkeypatch):
    documents = places(sentences_folder(tmp_path / "sentences", some_documents(30)))
    results = set()
    for rows in (1, 7, 2048):
        monkeypatch.setattr("bertline.components.pretraining_data.shards.ROWS_AT_ONCE", rows)
        monkeypatch.setattr("bertline.components.pretraining_data.shards.TOKENIZED_AT_ONCE", rows)
        writer = shard_writer(tmp_path / str(rows), vocab)
        totals = write_shard(0, documents, writer)
        results.add(((tmp_path / writer.paths(0)[0]).read_bytes(), totals["masked_tokens"], totals["tokens_in_rows"]))
    assert len(results) == 1


def test_a_shard_that_is_whole_is_not_made_again(tmp_path, vocab):
    documents = places(sentences_folder(tmp_path / "sentences", some_documents(30)))
    writer = shard_writer(tmp_path / "work", vocab)
    totals = write_shard(0, documents, writer)
    again = write_shard(0, [], writer)  # would be empty
    assert again["instances"] == totals["instances"] and again["token_counts"] == totals["token_counts"].tolist()


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_the_unfinished_shards(tmp_path, vocab):
    """kill -9 when some of the shards are made; the rerun keeps those and ends as an uninterrupted run."""
    sentences = sentences_folder(tmp_path / "sentences", some_documents(2000), files=3)
    manifest = dict.fromkeys(("kind", "step", "digest", "fingerprint"), "sentences")
    rest = {"inputs": [], "parameters": {}, "counts": {}, "files": []}
    (sentences / "MANIFEST.json").write_text(json.dumps(manifest | rest))
    command = [sys.executable, "-m", "bertline.pipelines.cli.main", "prepare"]
    command += [f"--sentences={sentences}", f"--vocab={vocab}", "--max_seq_length=32", "--max_predictions_per_seq=5"]
    command += ["--dupe_factor=20", "--num_shards=40"]
    made = {}
    for name in ("killed", "whole"):
        process = subprocess.Popen([*command, f"--out={tmp_path / name}"], stderr=subprocess.PIPE)
        if name == "killed":
            while len(list(tmp_path.glob("killed.work/*/totals-*.json"))) < 5:
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.01)
            process.kill()
            process.wait()
            assert not (tmp_path / "killed").exists()
            kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("killed.work/*/totals-*.json")}
            assert 5 <= len(kept) < 40
            process = subprocess.Popen([*command, f"--out={tmp_path / name}"], stderr=subprocess.PIPE)
        errors = process.communicate()[1].decode()
        assert process.returncode == 0, errors
        if name == "killed":
            assert f"{len(kept)} of 40 shards were made before an interruption, kept" in errors
        made[name] = {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.name != "RUN.json"
        }
    assert len(made["whole"]) == 40 + 4
    assert made["killed"] == made["whole"]
    assert not list(tmp_path.glob("*.work"))


def test_train_and_heldout_split_the_documents_whatever_the_seed(tmp_path):
    ids = [f"text:{number}" for number in range(4000)]
    train, heldout = (
        {name for name in ids if PrepareConfig(part=part, seed=seed).part_of_text.holds(name)}
        for part, seed in (("train", 1), ("heldout", 2))
    )
    assert not train & heldout and train | heldout == set(ids)
    assert abs(len(heldout) - 200) < 5 * np.sqrt(4000 * 0.05 * 0.95)
    shards = np.bincount([document_key(name) % 2 for name in heldout])
    assert abs(shards[0] - shards[1]) < 5 * np.sqrt(len(heldout))
    assert all(PrepareConfig(part="all").part_of_text.holds(name) for name in ids[:50])


@pytest.mark.parametrize("schema", ["canonical", "compact"])
def test_every_record_of_a_set_is_right(tmp_path, vocab, schema):
    """What any training row must be, for all rows of all shards."""
    sentences = sentences_folder(tmp_path / "sentences", some_documents(300))
    out, counts = prepared(tmp_path, sentences, vocab, part="all", num_shards=4, schema=schema)
    records = open_records(out, 32)
    assert records.schema == schema and len(records) == counts["instances"]
    rows = records.batch(np.arange(len(records)))
    ids, used, second = rows["input_ids"], rows["input_mask"].astype(bool), rows["segment_ids"].astype(bool)
    lengths, column = used.sum(axis=1), np.arange(32)
    assert (used == (column < lengths[:, None])).all() and not ids[~used].any() and not second[~used].any()
    assert (ids[:, 0] == 2).all() and (ids[np.arange(len(ids)), lengths - 1] == 3).all()
    assert ((ids == 3).sum(axis=1) == 2).all() and (np.diff(second[:, :], axis=1).sum(axis=1) >= 1).all()
    weights = rows["masked_lm_weights"].astype(bool)
    assert (weights == (np.arange(5) < weights.sum(axis=1)[:, None])).all() and weights[:, 0].all()
    row, rank = np.nonzero(weights)
    places = rows["masked_lm_positions"][row, rank]
    assert used[row, places].all() and not np.isin(ids[row, places], (0, 2, 3, 5)).any()
    assert (rows["masked_lm_ids"][row, rank] > 5).all() and not rows["masked_lm_ids"][~weights].any()


def test_dynamic_masking_stores_each_row_once(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(100))
    out, counts = prepared(tmp_path, sentences, vocab, "dynamic", part="all", masking="dynamic", dupe_factor=0)
    _, ten_times = prepared(tmp_path, sentences, vocab, "static", part="all", dupe_factor=0)
    assert 9 < ten_times["instances"] / counts["instances"] < 11
    assert "masked_tokens" not in counts and (out / "masking.json").is_file()
    assert open_records(out, 32).max_predictions_per_seq == 5


def test_length_bins_have_folders_of_their_own(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(200))
    whole, counts = prepared(tmp_path, sentences, vocab, "whole", part="all", schema="compact")
    binned, fewer = prepared(tmp_path, sentences, vocab, "binned", part="all", schema="compact", length_bins="16,24")
    assert sorted(path.name for path in binned.iterdir() if path.is_dir()) == ["length_16", "length_24", "length_32"]
    assert fewer["padding"] < counts["padding"] and fewer["instances"] == counts["instances"]
    all_rows, same_rows = (open_records(folder, 32).batch(np.arange(counts["instances"])) for folder in (whole, binned))
    assert sorted(map(bytes, all_rows["input_ids"])) == sorted(map(bytes, same_rows["input_ids"]))
    records = open_records(binned, 32)
    assert sum(records.bin_sizes) == counts["instances"] and min(records.bin_sizes) > 5
    places = 0
    for number, (width, size) in enumerate(zip((16, 24, 32), records.bin_sizes, strict=True)):
        mine = sum(records.bin_sizes[:number]) + np.arange(size)
        assert records.shape_of(mine) == (width, {16: 2, 24: 4, 32: 5}[width])  # round(0.15 * width)
        rows = records.batch(mine, shape=records.shape_of(mine))
        assert (rows["masked_lm_weights"][:, 0] == 1).all()
        places += rows["input_mask"].size
    assert fewer["padding"] == round(1 - int(same_rows["input_mask"].sum()) / places, 6)


def test_a_row_with_more_predictions_than_its_bin_has_goes_to_a_wider_one(tmp_path, vocab):
    """A row of nothing but long words gets one of them, which may be longer than 15 % of the row."""
    sentences = sentences_folder(tmp_path / "sentences", [["w1111 w1111.", "w1111 w1111."] for _ in range(100)])
    out, counts = prepared(tmp_path, sentences, vocab, part="all", length_bins="16", max_predictions_per_seq=9)
    records = open_records(out, 32)
    rows = records.batch(np.arange(len(records)))
    used, masked = rows["input_mask"].sum(axis=1), rows["masked_lm_weights"].sum(axis=1)
    assert len(records) == counts["instances"] and (used <= 16).any()
    assert records.max_predictions_per_seq == 9 and ((used <= 16) & (masked > 2)).any()


def test_small_corpora_make_fewer_shards(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(70))
    assert prepared(tmp_path, sentences, vocab, part="all", num_shards=8)[1]["shards"] == 2


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


def test_lower_cased_text_for_a_cased_vocabulary_is_refused_but_by_the_originals_semantics(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(3))
    cased = tmp_path / "cased.txt"
    cased.write_text(vocab.read_text() + "The\nA\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"2 of the vocabulary's \d+ pieces have capital letters \(The, A, ...\); set --do_"
    ):
        prepared(tmp_path, sentences, cased, "a", part="all")
    prepared(tmp_path, sentences, cased, "b", part="all", do_lower_case=False)
    prepared(tmp_path, sentences, cased, "c", part="all", semantics="google")


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
    with pytest.raises(ValueError, match="holds no documents"):
        prepared(tmp_path, sentences_folder(tmp_path / "nothing", []), vocab, "a")
    few = sentences_folder(tmp_path / "few", some_documents(4))
    with pytest.raises(ValueError, match=r'none of its 4 documents is in part "heldout".*raise heldout_share'):
        prepared(tmp_path, few, vocab, "b", part="heldout")
    with pytest.raises(ValueError, match=r'none of its 4 documents is in part "train".*lower heldout_share'):
        prepared(tmp_path, few, vocab, "c", heldout_share=0.999)
    single = sentences_folder(tmp_path / "single", [["a"]])
    with pytest.raises(ValueError, match="too little text for one instance"):
        prepared(tmp_path, single, vocab, "d", part="all")
    unknown = sentences_folder(tmp_path / "unknown", [["ξ ψ ω", "ψ ω"]])
    with pytest.raises(ValueError, match=r"vocab\.txt: all words of .*unknown are unknown to it"):
        prepared(tmp_path, unknown, vocab, "e", part="all")


def test_documents_are_read_as_written(tmp_path):
    # Only \n ends a line; several empty lines are one; the last one is missing; 0xFF is not UTF-8.
    (tmp_path / "sentences-00000.txt").write_bytes("a\u2028b\nc\rd\n\n\né".encode() + b"\xff\n\nf")
    (tmp_path / "ids-00000.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    documents = [("one", ["a\u2028b", "c\rd"]), ("two", ["é"]), ("three", ["f"])]
    found = places(tmp_path)
    assert list(read_documents(found)) == documents
    assert list(read_documents(found[::-1])) == documents[::-1]


def test_nothing_but_results_is_left_behind(tmp_path, vocab):
    sentences = sentences_folder(tmp_path / "sentences", some_documents(5))
    out, counts = prepared(tmp_path, sentences, vocab, part="all")
    assert {path.suffix for path in out.iterdir()} == {".tfrecord", ".npy", ".json", ".html"}
    assert json.loads(json.dumps(counts)) == counts  # plain numbers


@pytest.mark.parametrize("settings", [{}, {"runner": "processes", "num_workers": 2, "num_shards": 2}])
def test_progress_counts_documents_within_a_shard(tmp_path, vocab, capsys, monkeypatch, settings):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0.001)
    monkeypatch.setattr(shards, "ROWS_AT_ONCE", 2)
    sentences = sentences_folder(tmp_path / "sentences", some_documents(100))
    out, _ = prepared(tmp_path, sentences, vocab, part="all", **settings)
    shown = list(map(int, re.findall(r"prepare: (\d+)/100 documents", capsys.readouterr().err)))
    assert shown == sorted(shown)
    assert shown[-1] == 100
    assert len(set(shown)) > 4  # more than the ends of shards
    assert not list(out.glob(".done-*"))


def test_too_few_predictions_for_the_length_are_said(tmp_path, vocab, capsys):
    text = sentences_folder(tmp_path / "text", some_documents(40))
    prepared(tmp_path, text, vocab, "few", max_seq_length=256, max_predictions_per_seq=20)
    said = capsys.readouterr().err
    assert "max_predictions_per_seq is 20: less than masked_lm_prob, 15%, of long rows will be masked; 39 suit" in said
    prepared(tmp_path, text, vocab, "enough", max_seq_length=256, max_predictions_per_seq=39)
    assert "max_predictions_per_seq" not in capsys.readouterr().err
