"""The verb extract_features: the original's command line and its refusals."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, encoder_shapes
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint
from bertline.pipelines.cli.main import main

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "man", "The"]
SHAPE = BertConfig(
    vocab_size=len(PIECES),
    hidden_size=4,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=16,
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The places of a cased model, a text and the output."""
    model = tmp_path / "model"
    model.mkdir()
    weights = initial_weights(encoder_shapes(SHAPE), 0.5, seed=3)
    write_checkpoint(model, Checkpoint(SHAPE, weights, "\n".join(PIECES).encode() + b"\n", False, {"step": 1}))
    (tmp_path / "in.txt").write_text("The man\n\nthe ||| man\n")
    return {"MODEL": str(model), "IN": str(tmp_path / "in.txt"), "OUT": str(tmp_path / "out.jsonl")}


def called(files: dict[str, str], flags: str) -> int:
    argv = [flag for flag in flags.split() if flag]
    for short, place in files.items():
        argv = [flag.replace(short, place) for flag in argv]
    return main(["extract_features", *argv])


BASE = "--input_file=IN --output_file=OUT --max_seq_length=16 --layers=-1,-2"


@pytest.mark.parametrize(
    ("flags", "first"),
    [
        ("--model=MODEL", "The"),
        ("--model=MODEL --do_lower_case", "the"),
        ("--init_checkpoint=MODEL", "the"),
        ("--init_checkpoint=MODEL --do_lower_case=False --batch_size=8", "The"),
        ("--init_checkpoint=MODEL --vocab_file=MODEL/vocab.txt --bert_config_file=MODEL/bert_config.json", "the"),
        ("--model=MODEL --align=words", "The"),
    ],
)
def test_the_originals_flags_and_ours(
    files: dict[str, str], flags: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(files, f"{BASE} {flags}") == 0
    lines = [json.loads(line) for line in Path(files["OUT"]).read_text().splitlines()]
    tokens = [[feature["token"] for feature in line["features"]] for line in lines]
    expected = [["[CLS]", first, "man", "[SEP]"], ["[CLS]", "[SEP]"], ["[CLS]", "the", "[SEP]", "man", "[SEP]"]]
    assert tokens == expected
    assert [layer["index"] for layer in lines[0]["features"][0]["layers"]] == [-1, -2]
    assert "written: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model=MODEL --layers=-1,-3", "names -3, but"),
        ("--model=MODEL --layers=one", 'layers is "one"'),
        ("--model=MODEL --max_seq_length=17", "the model has 16 positions"),
        ("--model=MODEL --input_file=IN.none", "no such file"),
        ("--model=MODEL.none", "no such model"),
        ("--model=MODEL --output_file=IN/none/out.jsonl", "no such folder"),
        ("--model=MODEL --vocab_file=IN", "lacks [PAD]"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(
    files: dict[str, str], flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(files, f"{BASE} {flags}") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("bertline extract_features: error: ")
    assert message in last
    assert not Path(files["OUT"]).exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model=MODEL --use_tpu=True", "unrecognized arguments: --use_tpu"),
        ("--model=MODEL --init_checkpoint=MODEL", "not allowed with argument"),
        ("", "one of the arguments --init_checkpoint --model is required"),
        ("--model=MODEL --do_lower_case=maybe", "invalid choice"),
    ],
)
def test_flags_that_nobody_knows_are_refused(
    files: dict[str, str], flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        called(files, f"{BASE} {flags}")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupt_leaves_the_earlier_output_and_no_draft(files: dict[str, str]) -> None:
    """It comes when some of the output is in the draft, and more input is awaited."""
    out = Path(files["OUT"])
    out.write_text("an earlier run's")
    argv = [f"--model={files['MODEL']}", "--input_file=-", f"--output_file={out}", "--layers=-1", "--max_seq_length=16"]
    command = [sys.executable, "-m", "bertline", "extract_features", *argv]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # As in a terminal: what a shell starts in the background is to ignore interrupts, and its children after it.
    process = subprocess.Popen(command, **pipes, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # type: ignore[call-overload]
    assert process.stdin is not None
    process.stdin.write("the man\n" * 60_000)
    process.stdin.flush()
    assert process.stderr is not None
    while not any(draft.stat().st_size for draft in out.parent.glob(f".{out.name}.*.tmp")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) == 130
    assert out.read_text() == "an earlier run's"
    assert sorted(path.name for path in out.parent.iterdir()) == ["in.txt", "model", "out.jsonl"]
