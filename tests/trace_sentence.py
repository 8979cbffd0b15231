"""Which files and functions a sentence passes from the dump to the score: traces one tiny run of every step.

    python tests/trace_sentence.py             # step by step, files and functions as they are first entered
    python tests/trace_sentence.py --markdown  # the numbered lists of docs/one_sentence.md, with its texts

A function counts once it is called, by name or from compiled code (which runs here as plain Python); what a module
calls while it is imported does not. Only the command line is called, so that the count survives moves.
"""

import argparse
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("pipelines/", "components/", "model/", "tokenizer/", "src/")  # an environment may lie in ROOT, too
CLI = "import sys; from bertline.pipelines.cli.main import main; sys.exit(main())"
TRACE_FILE = "BERTLINE_TRACE"  # in the environment: where a traced process writes what it enters

# What a reader of the sentence's way may skip: manifests, progress, pages with their statistics, rates.
BESIDE_THE_WAY = (
    "components/store/",
    "src/bertline/processes.py",
    "src/bertline/files.py",
    "src/bertline/progress.py",
    "components/pages/",
    "components/pretraining_data/statistics.py",
    "pipelines/cli/tables.py",
    "model/training/speed.py",
)

# One tiny run; every setting that is not about size is the default, but for the runner: Beam calls the same functions.
ROWS = "--max_seq_length=32 --max_predictions_per_seq=5 --dupe_factor=1 --heldout_share=0.3 --runner=processes"
STEPS = "--train_batch_size=4 --num_train_steps=4 --num_warmup_steps=1 --save_checkpoints_steps=2 --eval_every_steps=2"
COMMANDS = f"""
ingest --dump=dump.xml --out=documents
split --documents=documents --out=sentences
prepare --sentences=sentences --vocab=vocab.txt {ROWS} --out=records
prepare --sentences=sentences --vocab=vocab.txt {ROWS} --part=heldout --out=heldout
pretrain --records=records --heldout=heldout --vocab=vocab.txt --model=bert_config.json --max_seq_length=32 {STEPS} --jit_compile=false --out=checkpoint
evaluate --checkpoint=checkpoint --records=heldout --out=scores
"""  # noqa: E501
MODEL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


# Run by every Python process of a step before its program, because it is found as sitecustomize.py. Each function is
# written down when it is first called, not at the end: a step kills some of its processes.
TRACER = """
import inspect, os, sys, threading

def trace():
    root = {root!r} + os.sep
    out = os.open(os.environ[{variable!r}], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    entered, foreign, names = set(), set(), {{}}

    def is_import(frame):
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
                return True
            frame = frame.f_back
        return False

    def note(frame, event, argument):
        if event != "call":
            return
        code = frame.f_code
        file = code.co_filename
        if file in foreign or not code.co_flags & inspect.CO_OPTIMIZED:  # a module's or a class's body
            return
        if file not in names:
            path = os.path.realpath(file) if os.path.isabs(file) else ""
            if not path.startswith(tuple(root + floor for floor in {floors!r})):
                foreign.add(file)
                return
            names[file] = path[len(root):]
        entry = names[file], code.co_qualname.partition(".<locals>")[0]
        if entry not in entered and not is_import(frame.f_back):
            entered.add(entry)
            os.write(out, "\\t".join(entry).encode() + b"\\n")

    threading.setprofile(note)
    sys.setprofile(note)

trace()
"""


class Step(NamedTuple):
    """What the commands of one verb entered: (file, function) in the order of first entry."""

    name: str
    entered: list[tuple[str, str]]

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(file for file, _ in self.entered))


def trace_run(work: Path) -> list[Step]:
    """The steps of one tiny run below the empty folder `work`."""
    (work / "sitecustomize").mkdir()
    tracer = TRACER.format(root=str(ROOT), floors=FLOORS, variable=TRACE_FILE)
    (work / "sitecustomize" / "sitecustomize.py").write_text(tracer, encoding="utf-8")
    write_inputs(work)
    entered: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(COMMANDS.strip().splitlines()):
        verb, *flags = shlex.split(line)
        entered.setdefault(verb, []).extend(trace_command([verb, *flags], work, work / f"{number}.trace"))
    return [Step(verb, list(dict.fromkeys(entries))) for verb, entries in entered.items()]


def trace_command(arguments: list[str], work: Path, trace: Path) -> list[tuple[str, str]]:
    """What one command and its child processes enter."""
    paths = [str(work / "sitecustomize"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        TRACE_FILE: str(trace),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONWARNINGS": "ignore",  # plain Python says that hashes overflow, as they are to
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-c", CLI, *arguments]
    process = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}: ended with {process.returncode}\n{process.stdout}{process.stderr}")
    lines = trace.read_text(encoding="utf-8").splitlines()
    return [(file, function) for file, _, function in (line.partition("\t") for line in lines)]


def write_inputs(work: Path) -> None:
    """A dump of forty articles, a vocabulary, and a model's shape."""
    vocab = shutil.copy(ROOT / "tests/data/vocab.txt", work)
    size = len(Path(vocab).read_text(encoding="utf-8").splitlines())
    shape = MODEL | {"vocab_size": size, "max_position_embeddings": 32}
    (work / "bert_config.json").write_text(json.dumps(shape), encoding="utf-8")
    lines = (ROOT / "tests/data/sentences.txt").read_text(encoding="utf-8").splitlines()
    sentences = [line for line in lines if len(line) > 20][:400]
    texts = [" ".join(sentences[first : first + 10]) for first in range(0, len(sentences), 10)]
    pages = "".join(
        f"<page><title>Article {number}</title><ns>0</ns><id>{number}</id><revision><model>wikitext</model>"
        f"<text>{text} {{{{convert|3|km|mi}}}}</text></revision></page>\n"
        for number, text in enumerate(map(html.escape, texts))
    )
    head = "<siteinfo><dbname>tinywiki</dbname></siteinfo>"
    (work / "dump.xml").write_text(f'<mediawiki xml:lang="en">{head}\n{pages}</mediawiki>\n', encoding="utf-8")


def files_of(steps: Iterable[Step]) -> list[str]:
    """The files of all steps in the order of first entry."""
    return list(dict.fromkeys(file for step in steps for file in step.files))


def on_the_way(files: Iterable[str]) -> list[str]:
    """`files` without manifests, progress, pages and rates."""
    return [file for file in files if not file.startswith(BESIDE_THE_WAY)]


def print_steps(steps: list[Step]) -> None:
    for step in steps:
        print(f"{step.name}: {len(step.files)} files, {len(step.entered)} functions")
        for file in step.files:
            functions = ", ".join(function for entered, function in step.entered if entered == file)
            print(f"  {file}: {functions}")
    functions = {entry for step in steps for entry in step.entered}
    way = on_the_way(files_of(steps))
    count = sum(file in way for file, _ in functions)
    print(f"all steps: {len(files_of(steps))} files, {len(functions)} functions")
    print(f"without manifests, progress, pages and rates: {len(way)} files, {count} functions")


def print_markdown(steps: list[Step]) -> None:
    """Each file under the step that enters it first, with what the page says of it now."""
    page = (ROOT / "docs" / "one_sentence.md").read_text(encoding="utf-8")
    texts = dict(re.findall(r"^\d+\. `([^`]+)`:(.*\n(?: {3,4}.*\n)*)", page, re.MULTILINE))
    told = set(re.findall(r"^- `([^`]+)`", page, re.MULTILINE))  # beside the way
    number = 0
    for step in steps:
        print(f"\n## {step.name.capitalize()}\n")
        for file in on_the_way(step.files):
            if file not in told:
                told.add(file)
                number += 1
                print(f"{number}. `{file}`:{texts.get(file, ' NEW')}".rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="the numbered lists of docs/one_sentence.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = trace_run(Path(folder))
    (print_markdown if arguments.markdown else print_steps)(run)
