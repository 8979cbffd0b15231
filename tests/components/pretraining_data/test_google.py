"""create_pretraining_data: the original's flags and files."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bertline.components.pretraining_data.google import run
from bertline.model.records.reader import open_records
from bertline.pipelines.cli.main import main
from bertline.pipelines.cli.originals import CREATE_PRETRAINING_DATA
from bertline.tokenizer.wordpiece import load_vocabulary

DATA = Path(__file__).parents[2] / "data"
SMALL = {"max_seq_length": 32, "max_predictions_per_seq": 5, "dupe_factor": 2}


@pytest.fixture
def text(tmp_path):
    """Two files; neither ends with a blank line."""
    documents = (DATA / "sentences.txt").read_text(encoding="utf-8").strip().split("\n\n")
    for name, part in (("a.txt", documents[::2]), ("b.txt", documents[1::2])):
        (tmp_path / name).write_text("\n\n".join(part), encoding="utf-8")
    return tmp_path / "*.txt"


def flags(text, output, *more, vocab=DATA / "vocab.txt"):
    return [
        "create_pretraining_data", f"--input_file={text}", f"--output_file={output}", f"--vocab_file={vocab}",
        "--max_seq_length=32", "--max_predictions_per_seq=5", "--dupe_factor=2", *more,
    ]  # fmt: skip


def test_the_seeds_command_writes_its_file_and_nothing_else(tmp_path, text, capsys):
    out = tmp_path / "out" / "tf_examples.tfrecord"
    assert main(flags(text, out, "--do_lower_case=True", "--random_seed=1", "--masked_lm_prob=0.15")) == 0
    assert [path.name for path in out.parent.iterdir()] == ["tf_examples.tfrecord"]
    records = open_records(out.parent, 32, len(load_vocabulary(DATA / "vocab.txt")))
    printed = capsys.readouterr().out
    assert f"{len(records):,}" in printed and f"written: {out}" in printed and "21" in printed


def test_a_file_ends_a_document(tmp_path, text):
    counts = run(str(text), str(tmp_path / "x"), DATA / "vocab.txt", CREATE_PRETRAINING_DATA.make_config(SMALL))
    assert counts["documents"] == 21  # the original would join the last of a.txt and the first of b.txt


def test_several_outputs_share_the_instances(tmp_path, text):
    one, three = tmp_path / "one", tmp_path / "three"
    run(str(text), str(one / "x.tfrecord"), DATA / "vocab.txt", CREATE_PRETRAINING_DATA.make_config(SMALL))
    names = [str(three / f"{name}.tfrecord") for name in "abc"]
    counts = run(str(text), ",".join(names), DATA / "vocab.txt", CREATE_PRETRAINING_DATA.make_config(SMALL))
    sizes = []
    for name in "abc":
        (three / name).mkdir()
        (three / f"{name}.tfrecord").rename(three / name / "x.tfrecord")
        sizes.append(len(open_records(three / name)))
    assert sum(sizes) == counts["instances"] and max(sizes) - min(sizes) <= 1
    rows = [
        sorted(map(bytes, open_records(folder).batch(np.arange(counts["instances"]))["input_ids"]))
        for folder in (one, three)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("schema", ["canonical", "compact"])
def test_a_vocabulary_whose_ids_do_not_fit_sixteen_bits(tmp_path, schema):
    words = [f"w{number}" for number in range(70_000)]
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n", encoding="utf-8")
    (tmp_path / "text.txt").write_text(f"{' '.join(words[-20:])}\n{' '.join(words[:20])}\n", encoding="utf-8")
    config = CREATE_PRETRAINING_DATA.make_config(
        {**SMALL, "max_seq_length": 64, "schema": schema, "short_seq_prob": 0.0}
    )
    run(str(tmp_path / "text.txt"), str(tmp_path / "out" / "x.tfrecord"), vocab, config)
    row = open_records(tmp_path / "out", 64, 70_005).batch(np.array([0]))
    ids = row["input_ids"][0]
    found = row["masked_lm_weights"][0] > 0
    ids[row["masked_lm_positions"][0][found]] = row["masked_lm_ids"][0][found]
    assert ids[1:21].tolist() == list(range(69_985, 70_005)) and ids[22:42].tolist() == list(range(5, 25))


def many_documents(tmp_path, count=3000):
    words = [line for line in (DATA / "vocab.txt").read_text(encoding="utf-8").split("\n") if line.isalpha()]
    random = np.random.default_rng(0)
    documents = [
        "\n".join(" ".join(random.choice(words, random.integers(3, 30))) for _ in range(random.integers(1, 20)))
        for _ in range(count)
    ]
    (tmp_path / "many.txt").write_text("\n\n".join(documents), encoding="utf-8")
    return tmp_path / "many.txt"


@pytest.mark.slow
def test_same_bytes_for_any_number_of_workers_and_after_a_kill(tmp_path, monkeypatch):
    text = many_documents(tmp_path)
    monkeypatch.setattr("bertline.components.pretraining_data.prepare.SHARD_TEXT_BYTES", 100_000)
    contents = set()
    for workers in (1, 2, 3):
        out = tmp_path / f"{workers}.tfrecord"
        config = CREATE_PRETRAINING_DATA.make_config({**SMALL, "num_workers": workers})
        run(str(text), str(out), DATA / "vocab.txt", config)
        contents.add(out.read_bytes())
    program = (
        "import sys; from bertline.components.pretraining_data import prepare; "
        "from bertline.pipelines.cli.main import main;"
        "prepare.SHARD_TEXT_BYTES = 100_000; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *flags(text, tmp_path / "killed.tfrecord", "--num_workers=1")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list(tmp_path.glob(".killed.tfrecord.*.work/totals-*.json")):
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not (tmp_path / "killed.tfrecord").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "shards were made before an interruption, kept" in again.stderr
    contents.add((tmp_path / "killed.tfrecord").read_bytes())
    assert len(contents) == 1
    assert not list(tmp_path.glob(".*.work"))


def test_dynamic_masking_lays_its_rules_beside_the_records(tmp_path, text):
    out = tmp_path / "out" / "x.tfrecord"
    assert main([*flags(text, out), "--masking=dynamic", "--do_whole_word_mask=true"]) == 0
    records = open_records(out.parent, 32)
    assert records.schema == "unmasked"
    batches = [records.batch(np.arange(len(records)), epoch)["input_ids"] for epoch in (0, 1, 0)]
    assert (batches[0] == batches[2]).all() and (batches[0] != batches[1]).any()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--do_lower=False"], "unrecognized arguments: --do_lower=False"),
        (["--max_predictions_per_seq=0"], "max_predictions_per_seq is 0; it must be at least 1"),
        (["--masked_lm_prob=1.2"], "masked_lm_prob is 1.2; it must lie between 0 and 1"),
        (["--max_seq_length=7"], "max_seq_length is 7; it must be at least 8"),
        (["--input_file=none*.txt"], "none*.txt: no such file; input_file takes files and globs"),
        (["--vocab_file=none.txt"], "none.txt: no such file"),
        (["--output_file=x,x"], 'output_file is "x,x"'),
        (["--output_file=."], ".: is a folder"),
        (["--segmenter=words"], "words"),
    ],
)
def test_bad_input_is_refused(tmp_path, text, more, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    try:
        code = main([*flags(text, "out.tfrecord"), "--do_whole_word_mask=true", *more])
    except SystemExit as error:  # argparse's own way
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no documents"),
        ("\n\n \n\u3000\n", "holds no documents"),
        ("a\n", "too little text for one instance"),
        ("\u0001\n\u00ad\n", "too little text for one instance"),
        ("ξψω λμν\n", "are unknown to it"),
    ],
)
def test_empty_input_fails_and_leaves_nothing(tmp_path, content, message, capsys):
    (tmp_path / "text.txt").write_text(content, encoding="utf-8")
    assert main(flags(tmp_path / "text.txt", tmp_path / "out.tfrecord")) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_odd_documents(tmp_path):
    """One document, one sentence, empty sentences, a sentence of 12,000 words, a document of one token."""
    word = next(line for line in (DATA / "vocab.txt").read_text(encoding="utf-8").split("\n") if line.isalpha())
    odd = {
        "one_sentence": f"{word} {word} {word}\n",
        "blank_sentences": f"{word} {word}\n\u00ad\n\n\n\n\r\n{word}\n\t\n{word} {word}",
        "long": f"{word} " * 12_000,
        "one_token": f"{word}\n\n{word} {word}\n{word} {word}\n",
    }
    for name, content in odd.items():
        (tmp_path / f"{name}.txt").write_text(content, encoding="utf-8", newline="")
        settings = CREATE_PRETRAINING_DATA.make_config(SMALL)
        counts = run(str(tmp_path / f"{name}.txt"), str(tmp_path / name / "x.tfrecord"), DATA / "vocab.txt", settings)
        rows = open_records(tmp_path / name, 32).batch(np.arange(counts["instances"]))
        assert rows["masked_lm_weights"].sum(axis=1).min() >= 1
        if name in ("one_sentence", "long"):
            assert counts["random_next"] == 0.0 and counts["documents"] == 1
        if name == "blank_sentences":
            assert counts["documents"] == 3 and counts["dropped.empty_document"] == 0
        if name == "long":
            assert counts["tokens"] == 12_000 and counts["instances"] >= 2 * 0.95 * 12_000 / 29
