"""How fast, and in how much memory, bertline makes records: measured against create_pretraining_data.py and others.

    python benchmarks/datagen.py --original BERT --original_python PYTHON --vocab vocab.txt --text 'books/*.txt.gz'

Whole processes are timed, ours and the original's in turn on the same text; ratios are medians over the rounds.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from claims import common_parser, measure, texts_of
from measuring import ENVIRONMENT, Command, apart, measured, rounds_of
from report import Result, compared, faster, memory_of
from speeds import reading_speeds, record_counts, tokenizer_speeds
from texts import emptied, write_sentences, write_texts

WARM_UP_MEGABYTES = 0.1
SHORT = 0.25  # of --megabytes: enough where no process is started, and to see what a start costs where one is
SIZES = (0.05, SHORT, 1, 2.5, 10)  # of --megabytes
PREPARE_SIZES = (1, 10)

Flags = dict[str, Any]
COMMON: Flags = {"dupe_factor": 5, "do_whole_word_mask": True}  # the rest at the original's defaults
LENGTH_128: Flags = {"max_seq_length": 128, "max_predictions_per_seq": 20}
LENGTH_512: Flags = {"max_seq_length": 512, "max_predictions_per_seq": 77}
VARIANTS: dict[str, Flags] = {
    "canonical": {"schema": "canonical"},
    "compact": {"schema": "compact"},
    "unmasked": {"masking": "dynamic"},
}


@dataclass(frozen=True)
class Benchmark:
    """What is compared, on what text."""

    original: Path  # google-research/bert
    original_python: Path
    vocab: Path
    texts: list[str]
    megabytes: float
    two_cores_megabytes: float
    rounds: int
    folder: Path  # for inputs and outputs

    def sentences(self, megabytes: float) -> Path:
        """A file of that much text in the original's format."""
        path = self.folder / f"sentences-{megabytes:g}.txt"
        if not path.exists():
            apart(write_sentences, self.texts, self.folder / "all.txt", path, megabytes)
        return path

    def text_files(self, sentences: Path) -> Path:
        """A folder with the documents of such a file as text files."""
        folder = sentences.with_suffix("")
        if not folder.exists():
            apart(write_texts, sentences, folder)
        return folder

    def ours(self, name: str, sentences: Path, flags: Flags) -> list[Command]:
        """Our create_pretraining_data; it writes a folder of that name."""
        out = emptied(self.folder / name)
        out.mkdir()
        files = {"input_file": sentences, "output_file": out / "part.tfrecord", "vocab_file": self.vocab}
        return [bertline("create_pretraining_data", files | COMMON | flags)]

    def ours_from_text(self, texts: Path) -> list[Command]:
        """Our steps ingest, split and prepare, through Beam; canonical records."""
        documents, split, records = (emptied(self.folder / name) for name in ("documents", "split", "records"))
        settings = COMMON | LENGTH_128 | VARIANTS["canonical"] | {"part": "all", "num_workers": 1}
        return [
            bertline("ingest", {"text": texts, "out": documents}),
            bertline("split", {"documents": documents, "out": split}),
            bertline("prepare", {"sentences": split, "vocab": self.vocab, "out": records} | settings),
        ]

    def theirs(self, sentences: Path, flags: Flags) -> list[Command]:
        """The original's create_pretraining_data.py."""
        files = {"input_file": sentences, "output_file": self.folder / "original.tfrecord", "vocab_file": self.vocab}
        script = str(self.original / "create_pretraining_data.py")
        return [[str(self.original_python), script, *as_flags(files | COMMON | flags)]]


def first_run(benchmark: Benchmark) -> list[Result]:
    """The first run on a machine, which compiles, and the second; not compared, and counted nowhere else."""
    text = benchmark.sentences(WARM_UP_MEGABYTES)
    results = []
    for name, flags in VARIANTS.items():
        first, second = (measured(benchmark.ours(name, text, LENGTH_128 | flags), 1) for _ in range(2))
        seconds = f"{first.cpu_seconds:.2f} s, then {second.cpu_seconds:.2f} s"
        results.append(Result(f"{name}, CPU seconds", seconds, measured=[asdict(first), asdict(second)]))
    measured(benchmark.ours_from_text(benchmark.text_files(text)), 1)
    return results


def one_core(benchmark: Benchmark) -> list[Result]:
    """One core, CPU seconds. From text files: with `ingest`, `split` and Beam; the original is given sentences."""
    results = []
    for length, share, target, text_target in ((LENGTH_128, 1, ">= 35", ">= 25"), (LENGTH_128, SHORT, "", "")):
        results += _on_one_core(benchmark, length, share * benchmark.megabytes, target, text_target)
    return results + _on_one_core(benchmark, LENGTH_512, benchmark.megabytes / 2)


def _on_one_core(
    benchmark: Benchmark, length: Flags, megabytes: float, target: str = "", text_target: str | None = None
) -> list[Result]:
    """Of all variants with one length; of text files, too, if these have a target, or an empty one."""
    text = benchmark.sentences(megabytes)
    sides = {name: partial(benchmark.ours, name, text, length | flags) for name, flags in VARIANTS.items()}
    targets = {"canonical": target, "compact": ""}
    if text_target is not None:
        sides["from text files"] = partial(benchmark.ours_from_text, benchmark.text_files(text))
        targets["from text files"] = text_target
    rounds = rounds_of(sides | {"original": partial(benchmark.theirs, text, length)}, benchmark.rounds, 1)
    claim = f"{length['max_seq_length']}, {megabytes:g} MB"
    compare = partial(compared, megabytes=megabytes, rounds=rounds, what="cpu_seconds")
    results = [compare(f"{claim}, {side}", sides=(side, "original"), target=wanted) for side, wanted in targets.items()]
    unmasked = compare(f"{claim}, unmasked (dynamic masking); other: ours, compact", sides=("unmasked", "compact"))
    made = apart(record_counts, [benchmark.folder / "canonical/part.tfrecord", benchmark.folder / "original.tfrecord"])
    counts = Result(f"{claim}, records made", f"{made[0]:,}", f"{made[1]:,}", measured=made)
    return [*results, unmasked, counts]


def two_cores(benchmark: Benchmark) -> list[Result]:
    """Two cores and two processes against the original's one, which runs once; wall seconds, which bear other load."""
    megabytes = benchmark.two_cores_megabytes
    text = benchmark.sentences(megabytes)
    targets = {"compact": ">= 60", "canonical": ""}
    flags = {side: LENGTH_128 | VARIANTS[side] | {"num_workers": 2} for side in targets}
    sides = {side: partial(benchmark.ours, side, text, flags[side]) for side in targets}
    original = measured(benchmark.theirs(text, LENGTH_128), 2)
    rounds = [costs | {"original": original} for costs in rounds_of(sides, benchmark.rounds, 2)]
    return [
        compared(f"128, {megabytes:g} MB, {side}", megabytes, rounds, (side, "original"), "wall_seconds", target)
        for side, target in targets.items()
    ]


def memory(benchmark: Benchmark) -> list[Result]:
    """Memory and speed on more and more text, one core, canonical records, each size once; MB of text a CPU second."""
    records, prepared = [], []
    before = (0.0, 0.0)  # megabytes and CPU seconds of the size before
    for size in SIZES:
        megabytes = size * benchmark.megabytes
        text = benchmark.sentences(megabytes)
        cost = measured(benchmark.ours("records", text, LENGTH_128 | VARIANTS["canonical"]), 1)
        beyond = (megabytes - before[0]) / (cost.cpu_seconds - before[1])
        before = (megabytes, cost.cpu_seconds)
        shown = f"{memory_of([cost])}; {megabytes / cost.cpu_seconds:.2f} MB/s, {beyond:.2f} beyond the size before"
        claim = f"create_pretraining_data, {megabytes:g} MB"
        records.append(Result(claim, shown, target="<= 400 MB", measured=[asdict(cost)]))
        if size in PREPARE_SIZES:
            ingest, split, prepare = benchmark.ours_from_text(benchmark.text_files(text))
            measured([ingest, split], 1)
            cost = measured([prepare], 1)
            shown = f"{memory_of([cost])}; {megabytes / cost.cpu_seconds:.2f} MB/s"
            prepared.append(Result(f"prepare (Beam), {megabytes:g} MB", shown, measured=[asdict(cost)]))
    return records + prepared


def reading(benchmark: Benchmark) -> list[Result]:
    """Reading 128 in random order by open_records; other: tf.data, canonical records in the order of the file."""
    text = benchmark.sentences(SHORT * benchmark.megabytes)
    folders = {name: benchmark.folder / f"read_{name}" for name in VARIANTS}
    for name, flags in VARIANTS.items():
        measured(benchmark.ours(folders[name].name, text, LENGTH_128 | flags), 1)
    rounds = apart(reading_speeds, folders, tuple(LENGTH_128.values()), benchmark.rounds)
    sizes = {name: (folder / "part.tfrecord").stat().st_size for name, folder in folders.items()}
    return [
        faster(
            f"{name}, {sizes[name] / sizes['canonical']:.2f} of canonical's bytes", rounds, (name, "tf.data"), "records"
        )
        for name in VARIANTS
    ]


def tokenizer(benchmark: Benchmark) -> list[Result]:
    """The tokenizer in one process, MB of text a CPU second; other: Hugging Face tokenizers."""
    text = benchmark.sentences(SHORT * benchmark.megabytes)
    rounds = apart(tokenizer_speeds, text, benchmark.vocab, benchmark.rounds)
    known = faster("known words", rounds, ("known words", "tokenizers"), "MB", ">= 10")
    return [faster("first pass", rounds, ("first pass", "tokenizers"), "MB"), known]


CLAIMS = {claim.__name__: claim for claim in (one_core, two_cores, memory, reading, tokenizer)}


def main() -> None:
    """Measure what is asked for; print tables and write the measurements."""
    flags = parser().parse_args()
    texts = texts_of(flags)
    with tempfile.TemporaryDirectory() as folder:
        # A cache of compiled code of its own: the first run of ours is a first run, whatever ran before.
        os.environ.update(ENVIRONMENT | {"XDG_CACHE_HOME": folder})
        paths = Path(flags.original), Path(flags.original_python), Path(flags.vocab)
        benchmark = Benchmark(*paths, texts, flags.megabytes, flags.two_cores_megabytes, flags.rounds, Path(folder))
        claims = {"first_run": first_run, **{name: CLAIMS[name] for name in flags.only or CLAIMS}}
        measure(claims, benchmark, flags, "megabytes", "two_cores_megabytes")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = common_parser(__doc__, CLAIMS)
    made.add_argument("--megabytes", type=float, default=20, help="of sentences, 10^6 bytes each (default 20)")
    made.add_argument(
        "--two_cores_megabytes", type=float, default=32, help="for two_cores: several shards (default 32)"
    )
    return made


def bertline(verb: str, flags: Flags) -> Command:
    """The command line of one of our verbs."""
    return [sys.executable, "-m", "bertline", verb, *as_flags(flags)]


def as_flags(flags: Flags) -> list[str]:
    """{"dupe_factor": 5} -> ["--dupe_factor=5"]."""
    return [f"--{name}={value}" for name, value in flags.items()]


if __name__ == "__main__":
    main()
