"""Ctrl-C and SIGTERM in every verb, as a terminal sends them: to the program and all that it has started."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bertline.pipelines.cli.main import main

ROOT = Path(__file__).parents[3]
SECONDS = 600  # that anything waited for may take, on a busy machine
ROWS = ["--heldout_share=0.2", "--max_seq_length=16", "--max_predictions_per_seq=3"]
SIGNALS = pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 75)]
)


class Program:
    """`bertline` in a session of its own, and what it has said so far."""

    def __init__(self, argv: list[str], cwd: Path) -> None:
        self.said, self.folder = "", cwd
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bertline", *argv],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line

    def end(self, number: signal.Signals, once: Callable[["Program"], object]) -> int:
        """Send the signal to all of the session once something holds; the exit code when nothing of it is left."""
        deadline = time.monotonic() + SECONDS
        while not once(self):
            assert self._process.poll() is None, f"ended before the signal: {self.said}"
            assert time.monotonic() < deadline, self.said
            time.sleep(0.002)
        os.killpg(self._process.pid, number)
        code = self._process.wait(SECONDS)
        while left := self._find_left():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
        self._reader.join()
        assert "Traceback" not in self.said
        return code

    def listens(self) -> bool:
        """Whether it has taken over Ctrl-C, which its children are to ignore."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return bool(int(status.partition("SigIgn:")[2].split()[0], 16) & 1 << signal.SIGINT - 1)

    def maps(self) -> list[str]:
        """The libraries that it has loaded."""
        return Path(f"/proc/{self._process.pid}/maps").read_text().splitlines()

    def children(self) -> list[str]:
        """The command lines of what it has started."""
        shown = subprocess.run(
            ["ps", "-wwo", "args=", "--ppid", str(self._process.pid)], capture_output=True, text=True
        )
        return shown.stdout.splitlines()

    def _find_left(self) -> list[str]:
        """What lives of the session, WikiExtractor's programs with one of their own included."""
        shown = subprocess.run(["ps", "-wweo", "pid=,ppid=,sess=,stat=,args="], capture_output=True, text=True).stdout
        rows = [line.split(None, 4) for line in shown.splitlines()]
        return [" ".join(row) for row in rows if row[2] == str(self._process.pid) and row[3][0] != "Z"]


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
    number: signal.Signals, name: str, code: int, inputs: Path, tmp_path: Path
) -> None:
    program = Program(["ingest", f"--dump={inputs / 'long.xml'}", "--num_workers=2", "--out=documents"], tmp_path)
    extractors = "bertline.components.corpus.ingest.wikiextractor_program"
    ended = program.end(number, lambda it: any(extractors in line for line in it.children()))
    assert ended == code
    assert program.said.endswith(
        f"bertline ingest: ended by {name}; nothing is left of it, the same command begins again\n"
    )
    assert extractors not in subprocess.run(["ps", "-wweo", "args="], capture_output=True, text=True).stdout
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
    flags: list[str], number: signal.Signals, name: str, code: int, inputs: Path, tmp_path: Path
) -> None:
    program = Program(prepare(inputs, *flags), tmp_path)
    work = tmp_path / "records.work"
    assert program.end(number, lambda it: any(work.rglob("*.tfrecord*")) or any(work.rglob("*.tmp"))) == code
    assert program.said.endswith(
        f"bertline prepare: ended by {name}; the same command goes on with what is not made yet\n"
    )
    assert names_in(tmp_path) == ["records.work"]


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize("outputs", ["records", "records_1,records_2"])
def test_create_pretraining_data_keeps_finished_shards(
    outputs: str, number: signal.Signals, name: str, code: int, inputs: Path, tmp_path: Path
) -> None:
    files = [f"--input_file={inputs / 'sentences' / 'sentences-*.txt'}", f"--output_file={outputs}"]
    settings = ["--do_lower_case=True", "--max_seq_length=16", "--max_predictions_per_seq=3", "--dupe_factor=2000"]
    program = Program(["create_pretraining_data", *files, f"--vocab_file={inputs / 'vocab.txt'}", *settings], tmp_path)
    assert program.end(number, lambda it: any(tmp_path.glob(".*.work/*.tmp"))) == code
    kept = "finished shards are kept; the same command goes on with the others"
    assert program.said.endswith(f"bertline create_pretraining_data: ended by {name}; {kept}\n")
    assert all(each.endswith(".work") for each in names_in(tmp_path))


@SIGNALS
def test_a_verb_ends_while_it_loads_its_modules(
    number: signal.Signals, name: str, code: int, inputs: Path, tmp_path: Path
) -> None:
    program = Program(prepare(inputs), tmp_path)
    assert program.end(number, Program.listens) == code
    assert program.said == f"bertline prepare: ended by {name}; the same command begins again\n"
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


def draft(program: Program) -> bool:
    """Its output is being made; TensorFlow is not loaded yet."""
    return any(program.folder.rglob(".*.tmp"))


def loads(program: Program) -> bool:
    """TensorFlow is being loaded, of which most is C."""
    return any("libtensorflow" in line for line in program.maps())


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
    [(verb, once) for verb in MODEL_VERBS for once in (draft, loads) if (verb, once) != ("export", loads)],
)
def test_verbs_of_models_end_without_a_draft(
    verb: str, once: Callable[[Program], bool], number: signal.Signals, name: str, code: int,
    pretrain_inputs: Path, pretrained: Path, tmp_path: Path,
) -> None:  # fmt: skip
    words = {"CHECKPOINT": pretrained / "checkpoint", "RECORDS": pretrain_inputs / "records", "FOLDER": pretrained}
    argv = [verb, *MODEL_VERBS[verb]]
    for word, path in words.items():
        argv = [each.replace(word, str(path)) for each in argv]
    program = Program(argv, tmp_path)
    assert program.end(number, once) == code
    assert re.search(rf"^bertline {verb}: ended (at step \d+ )?by {name}[;,] ", program.said, re.MULTILINE)
    assert [each for each in names_in(tmp_path) if not each.startswith("out.")] == []


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize("pattern", ["snapshot-*", ".snapshot-*.tmp"], ids=["at a step", "in a snapshot"])
def test_pretrain_saves_the_step_and_the_same_command_goes_on_from_it(
    pattern: str, number: signal.Signals, name: str, code: int, pretrain_arguments, tmp_path: Path
) -> None:
    program = Program(pretrain_arguments(tmp_path / "out"), tmp_path)
    assert program.end(number, lambda it: list(tmp_path.glob(f"out.work/{pattern}"))) == code
    (step,) = re.findall(rf"bertline pretrain: ended at step (\d+) by {name}, all of it saved; the same", program.said)
    assert not list(tmp_path.rglob(".*.tmp"))
    again = Program(pretrain_arguments(tmp_path / "out"), tmp_path)
    assert again.end(number, lambda it: "training goes on from" in it.said) == code
    assert f"training goes on from step {int(step):,}, its newest snapshot" in again.said


@pytest.mark.slow
def test_a_compilation_is_not_waited_for(pretrain_inputs: Path, pretrain_arguments, tmp_path: Path) -> None:
    """XLA takes longer for a model of many layers than the test would wait."""
    shape = json.loads((pretrain_inputs / "bert_config.json").read_text()) | {"num_hidden_layers": 48}
    (tmp_path / "deep.json").write_text(json.dumps(shape))
    flags = [f"--model={tmp_path / 'deep.json'}", "--jit_compile=true"]
    program = Program(pretrain_arguments(tmp_path / "out", *flags), tmp_path)

    def compiles(it: Program) -> bool:
        return "peak:" in it.said and not time.sleep(20)

    since = time.monotonic()
    assert program.end(signal.SIGINT, compiles) == 130
    assert program.said.endswith("bertline pretrain: ended by Ctrl-C; the same command begins at the start\n")
    assert time.monotonic() - since < SECONDS
    assert names_in(tmp_path) == ["deep.json", "out.tensorboard"]


@pytest.mark.slow
@SIGNALS
def test_run_pretraining_saves_the_step(
    number: signal.Signals, name: str, code: int, pretrain_inputs: Path, pretrained: Path, tmp_path: Path
) -> None:
    records = pretrain_inputs / "records" / "part-00000-of-00001.tfrecord"
    files = [
        f"--input_file={records}",
        "--output_dir=out",
        f"--bert_config_file={pretrain_inputs / 'bert_config.json'}",
    ]
    settings = ["--do_train=True", "--train_batch_size=4", "--max_seq_length=16", "--max_predictions_per_seq=2"]
    steps = ["--num_train_steps=100000", "--num_warmup_steps=2", "--save_checkpoints_steps=5"]
    program = Program(["run_pretraining", *files, *settings, *steps], tmp_path)
    assert program.end(number, lambda it: list(tmp_path.glob("out/model.ckpt-*.index"))) == code
    (step,) = re.findall(rf"bertline run_pretraining: ended at step (\d+) by {name}, all of it saved", program.said)
    assert (tmp_path / "out" / f"model.ckpt-{step}.index").is_file()
    assert not list(tmp_path.rglob(".*.tmp"))
