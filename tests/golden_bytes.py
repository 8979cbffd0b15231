"""Same seed, same bytes: digests of what a small run makes, from documents to weights, for one checkout or two.

    python tests/golden_bytes.py OLD_CHECKOUT NEW_CHECKOUT   # a table; exit code 1 if any file differs
    python tests/golden_bytes.py CHECKOUT                    # digests as JSON; --keep=FOLDER keeps the files
    python tests/golden_bytes.py CHECKOUT --write            # makes tests/data/golden_bytes.json and .npz afresh

Everything goes through the command line, so that modules may move. A checkout that has this file is run by its own
copy of it: flags may be renamed, as long as the files keep their names.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
EXAMPLES = HERE.parents[1] / "examples"
DIGESTS, WEIGHTS = HERE.parent / "data" / "golden_bytes.json", HERE.parent / "data" / "golden_bytes.npz"

COMMANDS = """
ingest --dump=encyclopedia.xml --books=books --out=documents
split --documents=documents --out=sentences
vocab --sentences=sentences --size=400 --out=vocab.txt
prepare --sentences=sentences --vocab=vocab.txt --max_seq_length=64 --max_predictions_per_seq=10 --dupe_factor=2 --heldout_share=0.2 --out=canonical
prepare --sentences=sentences --vocab=vocab.txt --max_seq_length=64 --max_predictions_per_seq=10 --dupe_factor=2 --heldout_share=0.2 --out=compact --schema=compact
prepare --sentences=sentences --vocab=vocab.txt --max_seq_length=64 --max_predictions_per_seq=10 --dupe_factor=2 --heldout_share=0.2 --out=heldout --part=heldout
prepare --sentences=sentences --vocab=vocab.txt --max_seq_length=64 --max_predictions_per_seq=10 --out=dynamic --masking=dynamic --length_bins=32
prepare --sentences=sentences --vocab=vocab.txt --max_seq_length=64 --max_predictions_per_seq=10 --dupe_factor=2 --out=spans --pairs=sentence_order --max_ngram=3 --replace_per=span
pretrain --records=canonical --vocab=vocab.txt --model=bert_config.json --max_seq_length=64 --train_batch_size=16 --num_train_steps=20 --num_warmup_steps=5 --log_every_steps=5 --heldout=heldout --eval_every_steps=10 --out=checkpoint
"""  # noqa: E501
MODEL = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MODEL |= {"intermediate_size": 64, "max_position_embeddings": 64}

DATA = ("documents/*.gz", "sentences/*.txt", "vocab.txt", "*/*.tfrecord", "*/*/*.tfrecord")
TRAINING = ("checkpoint/*.safetensors", "checkpoint/training_log.jsonl")  # the last bits differ by processor

PROGRAM = """
import importlib, json, sys
module, function, commands = sys.argv[1:]
main = getattr(importlib.import_module(module), function)
for argv in json.loads(commands):
    if code := main(argv):
        sys.exit(code)
"""


def main() -> int:
    """Digests of one checkout, or the comparison of two; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for the files")
    parser.add_argument("--write", action="store_true", help="make what the test expects")
    given = parser.parse_args()
    if len(given.checkouts) > 1:
        return compare(*(digests_by_own_copy(checkout.resolve()) for checkout in given.checkouts))
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary) / "made"
        make(given.checkouts[0].resolve(), folder)
        if given.write:
            write_expected(folder)
        print(json.dumps(digests(folder, DATA) | digests(folder, TRAINING), indent=1))
    return 0


def make(checkout: Path, folder: Path) -> None:
    """Run the commands by the code of `checkout` in the new `folder`; exits where one fails."""
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLES / "encyclopedia.xml", folder)
    shutil.copytree(EXAMPLES / "books", folder / "books")
    (folder / "bert_config.json").write_text(json.dumps(MODEL))
    script = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["scripts"]["bertline"]
    commands = json.dumps([shlex.split(line) for line in COMMANDS.strip().splitlines()])
    program = [sys.executable, "-P", "-c", PROGRAM, *script.split(":"), commands]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "KERAS_BACKEND": "tensorflow"}
    ended = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{ended.stdout}{ended.stderr}{checkout}: a command ended with {ended.returncode}")


def digests(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    """File -> sha256; a pattern that finds nothing is an error."""
    found = {pattern: sorted(folder.glob(pattern)) for pattern in patterns}
    if missing := [pattern for pattern, files in found.items() if not files]:
        sys.exit(f"{folder}: no {', no '.join(missing)}")
    files = [file for files in found.values() for file in files]
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def write_expected(folder: Path) -> None:
    """Make the test's expectations of this run's files."""
    from safetensors.numpy import load_file

    DIGESTS.write_text(json.dumps(digests(folder, DATA), indent=1) + "\n")
    np.savez_compressed(WEIGHTS, **load_file(folder / "checkpoint" / "model.safetensors"))


def digests_by_own_copy(checkout: Path) -> dict[str, str]:
    """The digests that the checkout's own copy of this file finds, or this one where it has none."""
    own = checkout / HERE.relative_to(HERE.parents[1])
    ended = subprocess.run(
        [sys.executable, own if own.is_file() else HERE, checkout], stdout=subprocess.PIPE, text=True, check=False
    )
    if ended.returncode:
        sys.exit(ended.returncode)
    return dict(json.loads(ended.stdout))


def compare(old: dict[str, str], new: dict[str, str]) -> int:
    """Print a line for each file; 1 if any differs."""
    names = sorted(old.keys() | new.keys())
    different = [name for name in names if old.get(name) != new.get(name)]
    for name in names:
        there, here = (each.get(name, "missing")[:12] for each in (old, new))
        print(f"{'DIFFERENT' if name in different else 'equal':10} {there:12} {here:12} {name}")
    print(f"{len(names)} files, {len(different)} different")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
