"""How fast bertline extracts features: whole processes, in turn with google-research/bert's extract_features.py.

    python benchmarks/features.py --original BERT --original_python PYTHON --vocab vocab.txt --text 'books/*.txt.gz'

Both read the same TF1 checkpoint of random weights and the same sentences of books, with the original's defaults
(four layers, max_seq_length 128, batches of 32), on one core. What they wrote is compared. Ratios are medians over
the rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from claims import common_parser, measure, texts_of
from measuring import ENVIRONMENT, Command, Round, apart, measured, median, ratio, rounds_of
from report import Result, memory_of
from texts import write_sentences

TARGET = ">= 5"
# Rounds a million numbers and makes JSON of them, as the original does with every number.
TIME_JSON = (
    "import json, time, random; x = [random.gauss(0, 1) for _ in range(10**6)]; begin = time.process_time();"
    "json.dumps([round(float(v), 6) for v in x]); print(time.process_time() - begin)"
)


@dataclass(frozen=True)
class Benchmark:
    """What is compared, on what text."""

    original: Path  # google-research/bert
    original_python: Path
    vocab: Path
    texts: list[str]
    lines: dict[str, int]  # of each size of model
    rounds: int
    folder: Path  # for inputs and outputs

    def sentences(self, count: int) -> Path:
        """That many sentences, taken evenly from all of the texts."""
        path = self.folder / f"sentences-{count}.txt"
        if not path.exists():
            apart(write_lines, self.texts, self.folder, path, count)
        return path

    def checkpoint(self, size: str) -> Path:
        """A folder with bert_model.ckpt, bert_config.json and vocab.txt, as the released ones."""
        folder = self.folder / size
        if not folder.exists():
            apart(write_model, size, self.vocab, folder)
        return folder

    def flags(self, size: str, count: int, name: str) -> list[str]:
        """The command line of both."""
        model = self.checkpoint(size)
        return [
            f"--input_file={self.sentences(count)}",
            f"--output_file={self.folder / name}.jsonl",
            f"--init_checkpoint={model / 'bert_model.ckpt'}",
            f"--vocab_file={model / 'vocab.txt'}",
            f"--bert_config_file={model / 'bert_config.json'}",
        ]

    def ours(self, size: str, count: int) -> list[Command]:
        """Our extract_features."""
        return [[sys.executable, "-m", "bertline", "extract_features", *self.flags(size, count, "ours")]]

    def theirs(self, size: str, count: int) -> list[Command]:
        """The original's extract_features.py."""
        script = str(self.original / "extract_features.py")
        return [[str(self.original_python), script, *self.flags(size, count, "original")]]


def mini(benchmark: Benchmark) -> list[Result]:
    """BERT-Mini: 4 layers of 256."""
    return _compare_with_original(benchmark, "mini")


def base(benchmark: Benchmark) -> list[Result]:
    """BERT-Base: 12 layers of 768."""
    return _compare_with_original(benchmark, "base")


def _compare_with_original(benchmark: Benchmark, size: str) -> list[Result]:
    count = benchmark.lines[size]
    measured(benchmark.ours(size, 1), 1)  # which compiles, on a machine's first run
    start_of_theirs = measured(benchmark.theirs(size, 1), 1).cpu_seconds
    sides = {"ours": partial(benchmark.ours, size, count), "original": partial(benchmark.theirs, size, count)}
    rounds = rounds_of(sides, benchmark.rounds, 1)
    paths = [benchmark.folder / f"{side}.jsonl" for side in sides]
    found = apart(differences, *paths)
    stages = apart(seconds_of_stages, benchmark.flags(size, count, "profile"))
    written = subprocess.run([benchmark.original_python, "-c", TIME_JSON], capture_output=True, text=True, check=True)
    json_seconds = float(written.stdout) * found["numbers"] / 1e6
    total = median(rounds, "original", "cpu_seconds")
    theirs = {"start, one line": start_of_theirs, "round and json.dumps (estimated)": json_seconds}
    theirs["rest: mostly layers of 128 positions"] = total - sum(theirs.values())
    what = f"{size}, {count:,} lines"
    agree = f"largest difference {found['largest']:.1g}, {found['unequal']:.2%} of {found['numbers']:,} numbers unequal"
    return [
        _compare(f"{what}, CPU seconds", rounds, "cpu_seconds", count, TARGET),
        _compare(f"{what}, wall seconds", rounds, "wall_seconds", count, TARGET),
        Result(f"{what}, outputs", agree, f"tokens equal, {found['tokens']:,}", measured=[found]),
        Result(f"{what}, CPU seconds by stage", _list(stages), _list(theirs), measured=[stages, theirs]),
    ]


def _compare(claim: str, rounds: list[Round], what: str, count: int, target: str) -> Result:
    def shown(side: str) -> str:
        seconds = median(rounds, side, what)
        return f"{seconds:.1f} s, {count / seconds:,.0f} lines/s; {memory_of([costs[side] for costs in rounds])}"

    taken = [{side: asdict(cost) for side, cost in costs.items()} for costs in rounds]
    return Result(claim, shown("ours"), shown("original"), ratio(rounds, "original", "ours", what), target, taken)


def _list(stages: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items())


def write_lines(texts: list[str], folder: Path, path: Path, count: int) -> None:
    """That many sentences of the texts, at equal distances."""
    every, some = folder / "all.txt", folder / "some.txt"
    write_sentences(texts, every, some, 0.0)
    sentences = every.read_text(encoding="utf-8").splitlines()
    step = max(1, len(sentences) // count)
    path.write_text("".join(f"{sentence}\n" for sentence in islice(sentences, 0, step * count, step)), encoding="utf-8")


def write_model(size: str, vocab: Path, folder: Path) -> None:
    """A TF1 checkpoint of random weights, laid out as the released ones."""
    from bertline.model.bert import initial_weights
    from bertline.model.config import bert_config, pretraining_shapes
    from bertline.model.formats.tf1.checkpoint import write_tf1
    from bertline.model.training.checkpoint import Checkpoint
    from bertline.tokenizer.wordpiece import load_vocabulary

    config = bert_config(size, len(load_vocabulary(vocab)))
    weights = initial_weights(pretraining_shapes(config), config.initializer_range, seed=1)
    folder.mkdir()
    write_tf1(folder, Checkpoint(config, weights, vocab.read_bytes(), True, {"step": 0}))


def differences(ours: Path, theirs: Path) -> dict[str, Any]:
    """What differs between two outputs. Raises ValueError where more than numbers do."""
    import numpy as np

    found = {"tokens": 0, "numbers": 0, "unequal": 0, "largest": 0.0}
    with ours.open(encoding="utf-8") as mine, theirs.open(encoding="utf-8") as original:
        for number, pair in enumerate(zip(mine, original, strict=True)):
            lines = [json.loads(line) for line in pair]
            tokens, layers = (
                [[each[key] for each in line["features"]] for line in lines] for key in ("token", "layers")
            )
            numbers = [np.array([layer["values"] for of_token in each for layer in of_token]) for each in layers]
            indexes = [[layer["index"] for of_token in each for layer in of_token] for each in layers]
            if (
                tokens[0] != tokens[1]
                or indexes[0] != indexes[1]
                or any(line["linex_index"] != number for line in lines)
            ):
                raise ValueError(f"line {number}: the outputs differ in more than numbers")
            apart_by = np.abs(numbers[0] - numbers[1])
            found["tokens"] += len(tokens[0])
            found["numbers"] += apart_by.size
            found["unequal"] += int((apart_by > 1e-9).sum())
            found["largest"] = max(found["largest"], float(apart_by.max()))
    return found | {"unequal": found["unequal"] / found["numbers"]}


def seconds_of_stages(flags: list[str]) -> dict[str, float]:
    """CPU seconds of the stages of our run, one after the other in this process, which is a new one."""
    import tensorflow  # noqa: F401 - counts as start

    from bertline.model.features.lines import PIECES, encode_windows
    from bertline.model.features.run import FeaturesConfig
    from bertline.model.features.vectors import LayerVectors
    from bertline.model.features.writers import open_writer
    from bertline.model.formats.detect import read_model
    from bertline.tokenizer.wordpiece import WordPieceTokenizer, parse_vocabulary

    marks = {"start": time.process_time()}
    given = {name: Path(value) for name, value in (flag.removeprefix("--").split("=", 1) for flag in flags)}
    files = {name: given[name] for name in ("vocab_file", "bert_config_file")}
    loaded = read_model(given["init_checkpoint"], **files, do_lower_case=True)
    shape = loaded.checkpoint.bert_config
    marks["read the model"] = time.process_time()
    tokenizer = WordPieceTokenizer(parse_vocabulary(loaded.checkpoint.vocabulary, "vocab.txt"))
    lines = given["input_file"].read_text(encoding="utf-8").splitlines(keepends=True)
    config = FeaturesConfig()
    first, *found = (
        window
        for part in (lines[:1], lines)
        for window in encode_windows(part, tokenizer, config.max_seq_length, PIECES, 1 << 15)
    )
    marks["encode"] = time.process_time()
    numbers = [layer % shape.num_hidden_layers for layer in config.layer_numbers()]
    model = LayerVectors(loaded, numbers, batch_size=config.batch_size, precision=config.precision)
    model.compute(first, int)
    marks["compile"] = time.process_time()
    computed = [model.compute(window, int)[0] for window in found]
    marks["compute"] = time.process_time()
    with open_writer(given["output_file"], config.format, config.layer_numbers(), shape.hidden_size) as writer:
        for window, vectors in zip(found, computed):
            writer.write(window.first_line, window.lengths, window.labels, vectors)
    marks["write"] = time.process_time()
    return dict(zip(marks, map(float.__sub__, marks.values(), [0.0, *marks.values()])))


CLAIMS = {claim.__name__: claim for claim in (mini, base)}


def main() -> None:
    """Measure what is asked for; print tables and write the measurements."""
    flags = parser().parse_args()
    texts = texts_of(flags)
    lines = {"mini": flags.lines, "base": flags.base_lines}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(ENVIRONMENT)
        paths = Path(flags.original), Path(flags.original_python), Path(flags.vocab)
        benchmark = Benchmark(*paths, texts, lines, flags.rounds, Path(folder))
        claims = {name: CLAIMS[name] for name in flags.only or CLAIMS}
        measure(claims, benchmark, flags, "lines", "base_lines")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = common_parser(__doc__, CLAIMS)
    made.add_argument("--lines", type=int, default=2000, help="sentences for BERT-Mini (default 2000)")
    made.add_argument("--base_lines", type=int, default=1000, help="sentences for BERT-Base (default 1000)")
    return made


if __name__ == "__main__":
    main()
