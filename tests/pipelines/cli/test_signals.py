"""Ctrl-C and SIGTERM in every verb, as a terminal sends them: to the program and all that it has started."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertline.pipelines.cli.main import main

ROOT = Path(__file__).parents[3]
PIPES: dict[str, Any] = {"capture_output": True, "text": True}
ROWS = ["--heldout_share=0.2", "--max_seq_length=16", "--max_predictions_per_seq=3"]
SIGNALS = pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 75)]
)


Started = Callable[[list[str], Path], Any]


@pytest.fixture
def bertline(program) -> Started:
    """Starts a verb."""
    return lambda argv, folder: program([sys.executable, "-m", "bertline", *argv], folder)


def listens(started: Any) -> bool:
    """Whether it has taken over Ctrl-C, which its children are to ignore."""
    status = Path(f"/proc/{started.process.pid}/status").read_text()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) & 1 << signal.SIGINT - 1)


def drafts(started: Any) -> bool:
    """Its output is being made; TensorFlow is not loaded yet."""
    return any(started.folder.rglob(".*.tmp"))


def loads(started: Any) -> bool:
    """TensorFlow is being loaded, of which most is C."""
    return "libtensorflow" in Path(f"/proc/{started.process.pid}/maps").read_text()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump that takes a while, documents, sentences and a vocabulary of the example."""
    folder = tmp_path_factory.mktemp("inputs")
    text = (ROOT / "examples" / "encyclopedia.xml").read_text(encoding="utf-8")
    start, end = text.index("<page>"), text.rindex("</page>") + len("</page>")
    (folder / "long.xml").write_text(text[:start] + text[start:end] * 100 + text[end:], encoding="utf-8")
    books = [f"--books={ROOT / 'examples' / 'books'}", f"--out={folder / 'documents'}"]
    assert main(["ingest", *books]) == 0
    assert main(["split", f"--documents={folder / 'documents'}", f"--out={folder / 'sentences'}"]) == 0
    assert main(["vocab", f"--sentences={folder / 'sentences'}", "--size=600", f"--out={folder / 'vocab.txt'}"]) == 0
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@SIGNALS
def test_ingest_ends_with_its_extractors_and_without_a_draft(
    number: signal.Signals, name: str, code: int, bertline: Started, inputs: Path, tmp_path: Path
) -> None:
    started = bertline(["ingest", f"--dump={inputs / 'long.xml'}", "--num_workers=2", "--out=documents"], tmp_path)
    extractors: list[Path] = []  # they have sessions of their own

    def extracts(started: Any) -> bool:
        pids = subprocess.run(["pgrep", "-P", str(started.process.pid), "-f", "wikiextractor_program"], **PIPES).stdout
        extractors.extend(Path("/proc") / pid for pid in pids.split())
        return bool(extractors)

    assert started.end(number, extracts) == code
    assert started.said.endswith(
        f"bertline ingest: ended by {name}; nothing is left of it, the same command begins again\n"
    )
    deadline = time.monotonic() + 5  # till they are reaped
    while left := [each for each in extractors if each.exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    assert names_in(tmp_path) == []


def prepare(inputs: Path, *flags: str) -> list[str]:
    given = [f"--sentences={inputs / 'sentences'}", f"--vocab={inputs / 'vocab.txt'}", "--dupe_factor=2000"]
    return ["prepare", *given, *ROWS, *flags, "--out=records"]


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize(
    "flags",
    [["--num_workers=1"], ["--num_workers=2"], ["--num_workers=2", "--runner=processes", "--num_shards=2"]],
    ids=["Beam", "Beam's worker processes", "processes"],
)
def test_prepare_ends_with_its_workers_and_goes_on(
    flags: list[str], number: signal.Signals, name: str, code: int, bertline: Started, inputs: Path, tmp_path: Path
) -> None:
    started = bertline(prepare(inputs, *flags), tmp_path)
    work = tmp_path / "records.work"
    assert started.end(number, lambda it: any(work.rglob("*.tfrecord*")) or any(work.rglob("*.tmp"))) == code
    assert started.said.endswith(
        f"bertline prepare: ended by {name}; the same command goes on with what is not made yet\n"
    )
    assert names_in(tmp_path) == ["records.work"]


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize("outputs", ["records", "records_1,records_2"])
def test_create_pretraining_data_keeps_finished_shards(
    outputs: str, number: signal.Signals, name: str, code: int, bertline: Started, inputs: Path, tmp_path: Path
) -> None:
    files = [f"--input_file={inputs / 'sentences' / 'sentences-*.txt'}", f"--output_file={outputs}"]
    settings = ["--do_lower_case=True", "--max_seq_length=16", "--max_predictions_per_seq=3", "--dupe_factor=2000"]
    started = bertline(["create_pretraining_data", *files, f"--vocab_file={inputs / 'vocab.txt'}", *settings], tmp_path)
    assert started.end(number, lambda it: any(tmp_path.glob(".*.work/*.tmp"))) == code
    kept = "finished shards are kept; the same command goes on with the others"
    assert started.said.endswith(f"bertline create_pretraining_data: ended by {name}; {kept}\n")
    assert all(each.endswith(".work") for each in names_in(tmp_path))


@SIGNALS
def test_a_verb_ends_while_it_loads_its_modules(
    number: signal.Signals, name: str, code: int, bertline: Started, inputs: Path, tmp_path: Path
) -> None:
    started = bertline(prepare(inputs), tmp_path)
    assert started.end(number, listens) == code
    assert started.said == f"bertline prepare: ended by {name}; the same command begins again\n"
    assert names_in(tmp_path) == []


@pytest.fixture(scope="module")
def pretrained(pretrain_arguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and a TF1 one of it; of a task both sets."""
    folder = tmp_path_factory.mktemp("pretrained")
    assert main(pretrain_arguments(folder / "checkpoint", "--num_train_steps=2")) == 0
    assert main(["convert", str(folder / "checkpoint"), str(folder / "tf1"), "--to=tf1"]) == 0
    for part in ("train", "dev"):
        rows = "".join(f"word{number % 15} word{number % 7}\t{number % 2}\n" for number in range(20))
        (folder / f"{part}.tsv").write_text(f"sentence\tlabel\n{rows}")
    (folder / "lines.txt").write_text("word1 word2\n" * 200_000)
    return folder


LAST = ["--max_seq_length=16", "--jit_compile=false"]
MODEL_VERBS = {
    "evaluate": ["--checkpoint=CHECKPOINT", "--records=RECORDS", "--trained_on", "--out=out"],
    "export": ["--checkpoint=CHECKPOINT", "--out=out"],
    "convert": ["CHECKPOINT", "out", "--to=savedmodel"],
    "finetune": [
        "--checkpoint=CHECKPOINT",
        "--task=sst2",
        "--train=FOLDER/train.tsv",
        "--dev=FOLDER/dev.tsv",
        "--out=out",
        *LAST,
    ],
    "extract_features": [
        "--model=CHECKPOINT",
        "--input_file=FOLDER/lines.txt",
        "--output_file=out",
        "--layers=-1",
        "--max_seq_length=16",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130)])
@pytest.mark.parametrize(
    ("verb", "once"),
    [(verb, once) for verb in MODEL_VERBS for once in (drafts, loads) if (verb, once) != ("export", loads)],
)
def test_verbs_of_models_end_without_a_draft(
    verb: str, once: Callable[[Any], bool], number: signal.Signals, name: str, code: int,
    bertline: Started, pretrain_inputs: Path, pretrained: Path, tmp_path: Path,
) -> None:  # fmt: skip
    words = {"CHECKPOINT": pretrained / "checkpoint", "RECORDS": pretrain_inputs / "records", "FOLDER": pretrained}
    argv = [verb, *MODEL_VERBS[verb]]
    for word, path in words.items():
        argv = [each.replace(word, str(path)) for each in argv]
    started = bertline(argv, tmp_path)
    assert started.end(number, once) == code
    assert re.search(rf"^bertline {verb}: ended (at step \d+ )?by {name}[;,] ", started.said, re.MULTILINE)
    assert [each for each in names_in(tmp_path) if not each.startswith("out.")] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "number", "name", "code"),
    [("snapshot-*", signal.SIGINT, "Ctrl-C", 130), (".snapshot-*.tmp", signal.SIGTERM, "SIGTERM", 75)],
    ids=["at a step", "in a snapshot"],
)
def test_pretrain_saves_the_step_and_the_same_command_goes_on_from_it(
    pattern: str, number: signal.Signals, name: str, code: int, bertline: Started, pretrain_arguments, tmp_path: Path
) -> None:
    started = bertline(pretrain_arguments(tmp_path / "out"), tmp_path)
    assert started.end(number, lambda it: list(tmp_path.glob(f"out.work/{pattern}"))) == code
    (step,) = re.findall(rf"bertline pretrain: ended at step (\d+) by {name}, all of it saved; the same", started.said)
    assert not list(tmp_path.rglob(".*.tmp"))
    again = bertline(pretrain_arguments(tmp_path / "out"), tmp_path)
    assert again.end(number, lambda it: "training goes on from" in it.said) == code
    assert f"training goes on from step {int(step):,}, its newest snapshot" in again.said


@pytest.mark.slow
def test_a_compilation_is_not_waited_for(
    bertline: Started, pretrain_inputs: Path, pretrain_arguments, tmp_path: Path
) -> None:
    """XLA is at a model of many layers for minutes; what it says at the end is that no step was trained."""
    shape = json.loads((pretrain_inputs / "bert_config.json").read_text()) | {"num_hidden_layers": 48}
    (tmp_path / "deep.json").write_text(json.dumps(shape))
    flags = [f"--model={tmp_path / 'deep.json'}", "--jit_compile=true"]
    started = bertline(pretrain_arguments(tmp_path / "out", *flags), tmp_path)

    def compiles(it: Any) -> bool:
        return "peak:" in it.said and not time.sleep(20)

    assert started.end(signal.SIGINT, compiles) == 130
    assert started.said.endswith("bertline pretrain: ended by Ctrl-C; the same command begins at the start\n")
    assert names_in(tmp_path) == ["deep.json", "out.tensorboard"]


@pytest.mark.slow
def test_run_pretraining_saves_the_step(
    bertline: Started, pretrain_inputs: Path, pretrained: Path, tmp_path: Path
) -> None:
    records = pretrain_inputs / "records" / "part-00000-of-00001.tfrecord"
    files = [
        f"--input_file={records}",
        "--output_dir=out",
        f"--bert_config_file={pretrain_inputs / 'bert_config.json'}",
    ]
    settings = ["--do_train=True", "--train_batch_size=4", "--max_seq_length=16", "--max_predictions_per_seq=2"]
    steps = ["--num_train_steps=100000", "--num_warmup_steps=2", "--save_checkpoints_steps=5", "--jit_compile=false"]
    started = bertline(["run_pretraining", *files, *settings, *steps], tmp_path)
    assert started.end(signal.SIGINT, lambda it: list(tmp_path.glob("out/model.ckpt-*.index"))) == 130
    (step,) = re.findall(r"bertline run_pretraining: ended at step (\d+) by Ctrl-C, all of it saved", started.said)
    assert (tmp_path / "out" / f"model.ckpt-{step}.index").is_file()
    assert not list(tmp_path.rglob(".*.tmp"))
