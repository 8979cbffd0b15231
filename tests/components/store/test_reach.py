"""What a real run of each step calls lies in the reach of its fingerprint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
MODEL = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MODEL |= {"intermediate_size": 32, "max_position_embeddings": 32}
PAIRS = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + "".join(
    f"{number % 2}\t1\t2\tThe ship sailed home.\tThe sea was calm.\n" for number in range(8)
)
COMMANDS = {
    "ingest": "ingest --books=BOOKS --dump=DUMP --out=documents",
    "split": "split --documents=documents --out=sentences",
    "vocab": "vocab --sentences=sentences --size=300 --out=vocab.txt",
    "prepare": "prepare --sentences=sentences --vocab=vocab.txt --max_seq_length=32 --dupe_factor=1 --out=records",
    "pretrain": "pretrain --records=records --vocab=vocab.txt --model=model.json --max_seq_length=32 "
    "--jit_compile=false --train_batch_size=4 --num_train_steps=2 --num_warmup_steps=1 --out=checkpoint",
    "evaluate": "evaluate --checkpoint=checkpoint --records=records --trained_on --max_examples=8 "
    "--jit_compile=false --out=scores",
    "finetune": "finetune --checkpoint=checkpoint --task=mrpc --train=pairs.tsv --dev=pairs.tsv --max_seq_length=32 "
    "--train_batch_size=4 --num_train_epochs=1 --jit_compile=false --out=finetuned",
    "export": "export --checkpoint=checkpoint --out=exported",
    "convert": "convert exported converted",
}
PROGRAM = """
import inspect, json, shlex, sys, threading
from bertline.components.store import artifacts, fingerprint
from bertline.pipelines.cli.main import main

calls, declared = set(), []

def place_of(frame):
    return frame.f_globals.get("__name__") or "", frame.f_code.co_qualname.partition(".")[0]

def profile(frame, event, argument):
    module, name = place_of(frame)
    of_a_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # not a module or a class that is being made
    if event == "call" and module.startswith("bertline.") and of_a_function and not name.startswith(("<", "__")):
        caller = frame.f_back
        while caller is not None and not place_of(caller)[0].startswith("bertline."):
            caller = caller.f_back
        calls.add((caller and place_of(caller), (module, name)))

whole = artifacts.Provenance.facts

def facts(provenance):
    declared[:] = provenance.code
    return whole(provenance)

artifacts.Provenance.facts = facts
result = {}
for step, words in json.loads(sys.argv[1]).items():
    calls.clear()
    threading.setprofile(profile)
    sys.setprofile(profile)
    code = main(shlex.split(words))
    sys.setprofile(None)
    threading.setprofile(None)
    if code:
        sys.exit(f"{step}: {code}")
    reached = {(place.module, place.name) for place in fingerprint._lines(fingerprint.ROOT, tuple(declared))}
    inside = [called for caller, called in calls if caller is None or caller in reached]  # None: begins a thread
    result[step] = sorted({" ".join(called) for called in inside if called not in reached
                           and not fingerprint._is_without_bytes(called[0])})
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """By step, what was called by code in its reach and is not in its reach."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "model.json").write_text(json.dumps(MODEL))
    (folder / "pairs.tsv").write_text(PAIRS)
    ingest = COMMANDS["ingest"].replace("BOOKS", str(EXAMPLES / "books"))
    commands = COMMANDS | {"ingest": ingest.replace("DUMP", str(EXAMPLES / "encyclopedia.xml"))}
    command = [sys.executable, "-P", "-c", PROGRAM, json.dumps(commands)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("step", COMMANDS)
def test_what_a_run_calls_is_in_the_reach_of_its_fingerprint(outside: dict[str, list[str]], step: str) -> None:
    assert [name for name in outside[step] if not name.startswith("bertline.pipelines.")] == []  # a callback
