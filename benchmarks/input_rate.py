"""How fast the input of training alone is, beside the step of the smallest model, and what length bins save.

    python benchmarks/input_rate.py --sentences DIR --vocab vocab.txt

DIR is what `bertline split` wrote. Records are made of it by `bertline prepare`.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claims import measure as measure_claims
from report import Result

SCHEMAS: dict[str, dict[str, str]] = {
    "canonical": {"schema": "canonical"},
    "compact": {"schema": "compact"},
    "unmasked": {"masking": "dynamic"},
}
LENGTH_BINS = "128,256,384"
SEED = 1
TARGET = 5.0  # how many times the input is to be as fast as the step
BATCH_128, BATCH_512 = 64, 16
WARM_UP = 3  # steps, of which the first is compiled


@dataclass(frozen=True)
class Benchmark:
    """What is measured on what text, and for how long."""

    sentences: Path
    vocab: Path
    rounds: int
    seconds: float  # of each measurement
    folder: Path  # for records

    def records(self, name: str, **settings: Any) -> Path:
        """The records of the sentences, one pass."""
        out = self.folder / name
        given = {"sentences": self.sentences, "vocab": self.vocab, "out": out, "dupe_factor": 1, **settings}
        flags = [f"--{key}={value}" for key, value in given.items()]
        if not out.exists():
            subprocess.run([sys.executable, "-m", "bertline", "prepare", *flags], check=True)
        return out


def measure(records: Path, batch_size: int, seconds: float) -> float:
    """Sequences a second that a training stage's reader thread makes of these records, with no step to wait for."""
    from bertline.model.records.reader import open_records, training_batch

    opened = open_records(records)
    with ThreadPoolExecutor(1) as reader:
        reader.submit(training_batch, opened, batch_size, SEED, 0).result()  # draws the epoch's order
        started, step = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            step += 1
            reader.submit(training_batch, opened, batch_size, SEED, step).result()
        return step * batch_size / (time.perf_counter() - started)


def step_of(model: str, vocab: Path) -> Callable[[dict[str, Any]], float]:
    """A function that does a training step and returns its seconds; bfloat16, TensorFlow's graph."""
    from bertline.model.bert import initial_weights
    from bertline.model.config import bert_config, pretraining_shapes
    from bertline.model.heads import pretraining_losses, pretraining_whole
    from bertline.model.training.backends.choice import new_trainer
    from bertline.model.training.update import Objective, Schedule, Update
    from bertline.tokenizer.wordpiece import load_vocabulary

    config = bert_config(model, len(load_vocabulary(vocab)))

    def losses(weights: Any, part: Any, whole: Any, dropout: Any) -> Any:
        return pretraining_losses(weights, config, part, whole, dropout)

    update = Update(Objective(pretraining_whole, losses), Schedule(1e-4, 100_000, 100), precision="mixed_bfloat16")
    weights = initial_weights(pretraining_shapes(config), config.initializer_range, seed=SEED)
    trainer = new_trainer(weights, None, update, jit_compile=False)
    steps = iter(range(1 << 40))

    def seconds_of(batch: dict[str, Any]) -> float:
        started = time.perf_counter()
        float(trainer.update(next(steps), batch)["loss"])
        return time.perf_counter() - started

    return seconds_of


def input_rate(benchmark: Benchmark) -> list[Result]:
    """The reader thread alone, records of 128 in batches of 64; other: BERT-Tiny's step on all cores."""
    from bertline.model.records.reader import open_records, training_batch

    folders = {name: benchmark.records(f"{name}_128", **settings) for name, settings in SCHEMAS.items()}
    step = step_of("tiny", benchmark.vocab)
    batch = training_batch(open_records(folders["compact"]), BATCH_128, SEED, 0)
    for _ in range(WARM_UP):
        step(batch)
    rounds: list[dict[str, float]] = []
    for _ in range(benchmark.rounds):
        rates = {name: measure(folder, BATCH_128, benchmark.seconds) for name, folder in folders.items()}
        taken = [step(batch) for _ in range(max(1, round(benchmark.seconds / step(batch))))]
        rounds.append(rates | {"step": BATCH_128 * len(taken) / sum(taken)})
    return [
        Result(
            name,
            f"{_median(rounds, name):,.0f} sequences/s",
            f"{_median(rounds, 'step'):,.0f} sequences/s",
            statistics.median(rates[name] / rates["step"] for rates in rounds),
            f">= {TARGET:g}",
            rounds,
        )
        for name in folders
    ]


def length_bins(benchmark: Benchmark) -> list[Result]:
    """An epoch at 512 in bins of 128, 256, 384, 512 by 16, from the step's time at each; other: without bins."""
    common = {"max_seq_length": 512, "max_predictions_per_seq": 77, "schema": "compact"}
    folders = {
        "bins": benchmark.records("bins_512", **common, length_bins=LENGTH_BINS),
        "no bins": benchmark.records("records_512", **common),
    }
    epochs = {name: Epoch.of(folder) for name, folder in folders.items()}
    results = [_padding(epochs)]
    for model in ("tiny", "mini"):
        step = step_of(model, benchmark.vocab)
        for batch in epochs["bins"].examples.values():
            step(batch)
        rounds = [
            {str(width): _seconds(step, batch, benchmark.seconds) for width, batch in epochs["bins"].examples.items()}
            for _ in range(benchmark.rounds)
        ]
        results.append(_speed(model, epochs, rounds))
    return results


@dataclass(frozen=True)
class Epoch:
    """The batches of a first epoch."""

    widths: dict[int, int]  # width of a batch -> how many there are
    examples: dict[int, dict[str, Any]]  # the first batch of each width
    tokens: int  # without padding

    @classmethod
    def of(cls, folder: Path) -> "Epoch":
        """That of a folder of records."""
        from bertline.model.records.reader import open_records, training_batch

        records = open_records(folder)
        widths: dict[int, int] = {}
        examples: dict[int, dict[str, Any]] = {}
        tokens = 0
        for number in range(len(records) // BATCH_512):
            batch = training_batch(records, BATCH_512, SEED, number)
            width = batch["input_ids"].shape[1]
            widths[width] = widths.get(width, 0) + 1
            examples.setdefault(width, batch)
            tokens += int(batch["input_mask"].sum())
        return cls(widths, examples, tokens)

    def padding(self) -> float:
        """The share of positions that hold no token."""
        return 1 - self.tokens / sum(BATCH_512 * width * count for width, count in self.widths.items())

    def seconds(self, steps: dict[str, float]) -> float:
        """Of all steps, by those of each width."""
        return sum(steps[str(width)] * count for width, count in self.widths.items())


def _padding(epochs: dict[str, Epoch]) -> Result:
    shown = {
        name: f"{epoch.padding():.1%}; batches: " + ", ".join(f"{count} of {width}" for width, count in widths)
        for name, epoch in epochs.items()
        for widths in [sorted(epoch.widths.items())]
    }
    return Result("padding", shown["bins"], shown["no bins"], measured=[epoch.widths for epoch in epochs.values()])


def _speed(model: str, epochs: dict[str, Epoch], rounds: list[dict[str, float]]) -> Result:
    """Sequences and tokens a second over an epoch, with bins and without."""

    def shown(epoch: Epoch) -> str:
        seconds = statistics.median(epoch.seconds(steps) for steps in rounds)
        sequences = BATCH_512 * sum(epoch.widths.values())
        return f"{sequences / seconds:.1f} sequences/s, {epoch.tokens / seconds:,.0f} tokens/s"

    times = statistics.median(epochs["no bins"].seconds(steps) / epochs["bins"].seconds(steps) for steps in rounds)
    return Result(f"BERT-{model.title()}", shown(epochs["bins"]), shown(epochs["no bins"]), times, "", rounds)


def _seconds(step: Callable[[dict[str, Any]], float], batch: dict[str, Any], seconds: float) -> float:
    """The median of a step's seconds; it is repeated for about as long as asked for."""
    return statistics.median(step(batch) for _ in range(max(2, round(seconds / step(batch)))))


def _median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(rates[name] for rates in rounds)


CLAIMS = {claim.__name__: claim for claim in (input_rate, length_bins)}


def main() -> None:
    """Measure what is asked for; print tables and write the measurements."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--sentences", required=True, help="a folder that `bertline split` wrote")
    made.add_argument("--vocab", required=True, help="its vocab.txt")
    made.add_argument("--rounds", type=int, default=3, help="of each measurement, in turn (default 3)")
    made.add_argument("--seconds", type=float, default=2, help="of each measurement (default 2)")
    made.add_argument("--records", metavar="DIR", help="keeps the records there (default: they are deleted)")
    made.add_argument("--only", nargs="+", choices=CLAIMS, metavar="NAME", help=f"of {', '.join(CLAIMS)}")
    made.add_argument("--out", metavar="FILE", help="JSON file for all measurements")
    made.add_argument("--markdown", action="store_true", help="print Markdown")
    flags = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(flags.sentences), Path(flags.vocab)
        benchmark = Benchmark(*paths, flags.rounds, flags.seconds, Path(flags.records or folder))
        measure_claims({name: CLAIMS[name] for name in flags.only or CLAIMS}, benchmark, flags, "seconds")


if __name__ == "__main__":
    main()
