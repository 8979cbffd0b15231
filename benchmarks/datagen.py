"""How fast, and in how much memory, bertline makes records: measured against create_pretraining_data.py and others.

    python benchmarks/datagen.py --original BERT --original_python PYTHON --vocab vocab.txt --text 'books/*.txt.gz'

Whole processes are timed, ours and the original's in turn on the same text; ratios are medians over the pairs.
Linux only: memory is read from /proc.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from glob import glob
from itertools import chain, count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

MEGABYTE = 1_000_000  # bytes
SECONDS_BETWEEN_LOOKS = 0.02  # at a running process; also the precision of wall times
SENTENCES_PER_DOCUMENT = 200  # a chapter; whole novels would be too few documents to draw random pairs from
SENTENCES_PER_PARAGRAPH = 5
LINES_AT_ONCE = 4096
RECORDS_AT_ONCE = 256
WARM_UP_MEGABYTES = 0.1
SIZES = (0.2, 1, 4, 10, 40)  # of the text for `memory`, as multiples of --megabytes
# One thread a process, so that a core is one core.
ONE_THREAD = dict.fromkeys(
    ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"],
    "1",
)
ENVIRONMENT = {**ONE_THREAD, "TOKENIZERS_PARALLELISM": "false", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

Command = list[str]
Flags = dict[str, Any]
COMMON: Flags = {"dupe_factor": 5, "do_whole_word_mask": True}  # the rest at the original's defaults
LENGTH_128: Flags = {"max_seq_length": 128, "max_predictions_per_seq": 20}
LENGTH_512: Flags = {"max_seq_length": 512, "max_predictions_per_seq": 77}


@dataclass(frozen=True)
class Cost:
    """What a process took, with all processes that it started and waited for."""

    cpu_seconds: float  # user and system
    wall_seconds: float
    peak_rss_mb: float  # of its largest process
    total_rss_mb: float  # largest sum over its processes; pages that they share count once for each


@dataclass(frozen=True)
class Result:
    """A row of the table, and the measurements behind it."""

    claim: str
    ours: str
    other: str
    ratio: float | None
    target: str
    measured: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Benchmark:
    """What is compared, on what text."""

    original: Path  # google-research/bert
    original_python: Path
    vocab: Path
    texts: list[str]
    megabytes: float
    rounds: int
    folder: Path  # for inputs and outputs

    def sentences(self, megabytes: float) -> Path:
        """A file of that much text in the original's format."""
        path = self.folder / f"sentences-{megabytes:g}.txt"
        if not path.exists():
            apart(write_sentences, self.texts, self.folder / "all.txt", path, megabytes)
        return path

    def ours(self, sentences: Path, flags: Flags) -> Command:
        """Our create_pretraining_data; it writes a folder `ours`, or `schema` if one is among the flags."""
        out = emptied(self.folder / flags.get("schema", "ours"))
        out.mkdir()
        files = {"input_file": sentences, "output_file": out / "part.tfrecord", "vocab_file": self.vocab}
        return bertline("create_pretraining_data", files | COMMON | flags)

    def theirs(self, sentences: Path, flags: Flags) -> Command:
        """The original's create_pretraining_data.py."""
        files = {"input_file": sentences, "output_file": self.folder / "original.tfrecord", "vocab_file": self.vocab}
        script = str(self.original / "create_pretraining_data.py")
        return [str(self.original_python), script, *as_flags(files | COMMON | flags)]

    def pairs(
        self, ours: Callable[[], list[Command]], theirs: Callable[[], Command], cores: int
    ) -> list[tuple[Cost, Cost]]:
        """Costs of ours on `cores` cores and of the original on one, in turn."""
        return [(measured(ours(), cores), measured([theirs()], 1)) for _ in range(self.rounds)]


def one_core(benchmark: Benchmark) -> list[Result]:
    """(1) One core, sentences given, canonical records."""
    text = benchmark.sentences(benchmark.megabytes)
    results = []
    for flags, target in ((LENGTH_128, ">= 35"), (LENGTH_512, "")):
        ours, theirs = partial(benchmark.ours, text, flags), partial(benchmark.theirs, text, flags)
        pairs = benchmark.pairs(lambda make=ours: [make()], theirs, 1)
        claim = f"one core, sequences of {flags['max_seq_length']}, CPU seconds"
        results.append(compared(claim, pairs, "cpu_seconds", target))
    return results


def splitting(benchmark: Benchmark) -> list[Result]:
    """(2) One core, from text files through Beam; the original, which splits no text, is given the sentences."""
    sentences = benchmark.sentences(benchmark.megabytes)
    texts = benchmark.folder / "texts"
    apart(write_texts, sentences, texts)

    def ours() -> list[Command]:
        documents, split, records = (emptied(benchmark.folder / name) for name in ("documents", "split", "records"))
        settings = COMMON | LENGTH_128 | {"part": "all", "num_workers": 1, "schema": "canonical"}
        return [
            bertline("ingest", {"text": texts, "out": documents}),
            bertline("split", {"documents": documents, "out": split}),
            bertline("prepare", {"sentences": split, "vocab": benchmark.vocab, "out": records} | settings),
        ]

    pairs = benchmark.pairs(ours, partial(benchmark.theirs, sentences, LENGTH_128), 1)
    claim = "one core, from text files (the original is given sentences), CPU seconds"
    return [compared(claim, pairs, "cpu_seconds", ">= 25")]


def two_cores(benchmark: Benchmark) -> list[Result]:
    """(3) Two cores against the original's one process, in wall time."""
    text = benchmark.sentences(benchmark.megabytes)
    results = []
    for schema, target in (("compact", ">= 60"), ("canonical", "")):
        ours = partial(benchmark.ours, text, LENGTH_128 | {"schema": schema, "num_workers": 2})
        pairs = benchmark.pairs(lambda make=ours: [make()], partial(benchmark.theirs, text, LENGTH_128), 2)
        results.append(compared(f"two cores, {schema} records, wall seconds", pairs, "wall_seconds", target))
    return results


def memory(benchmark: Benchmark) -> list[Result]:
    """(4) Memory and speed of ours on more and more text, one core; each size once."""
    results: list[Result] = []
    before = (0.0, 0.0)  # megabytes and CPU seconds of the size before
    for megabytes in (size * benchmark.megabytes for size in SIZES):
        text = benchmark.sentences(megabytes)
        cost = measured([benchmark.ours(text, LENGTH_128)], 1)
        beyond = (megabytes - before[0]) / (cost.cpu_seconds - before[1])
        before = (megabytes, cost.cpu_seconds)
        speed = f"{megabytes / cost.cpu_seconds:.2f} MB/s; {beyond:.2f} beyond the size before"
        claim = f"memory and speed, {megabytes:g} MB of text"
        results.append(Result(claim, f"{cost.peak_rss_mb:.0f} MB; {speed}", "", None, "<= 400 MB", [asdict(cost)]))
        text.unlink()
    return results


def tokenizer(benchmark: Benchmark) -> list[Result]:
    """(5) The tokenizer alone against Hugging Face's, in one process on one core; megabytes of text a CPU second."""
    text = benchmark.sentences(benchmark.megabytes)
    rounds = apart(tokenizer_speeds, text, benchmark.vocab, benchmark.rounds)
    return [
        Result(
            f"tokenizer, {words}; other: tokenizers",
            f"{statistics.median(speeds[words] for speeds in rounds):.1f} MB/s",
            f"{statistics.median(speeds['tokenizers'] for speeds in rounds):.1f} MB/s",
            statistics.median(speeds[words] / speeds["tokenizers"] for speeds in rounds),
            target,
            rounds,
        )
        for words, target in (("new words", ""), ("known words", ">= 10"))
    ]


def reading(benchmark: Benchmark) -> list[Result]:
    """(6) Reading records in random order, against tf.data in the order of the file; records a CPU second."""
    text = benchmark.sentences(benchmark.megabytes)
    for schema in ("canonical", "compact"):
        measured([benchmark.ours(text, LENGTH_128 | {"schema": schema})], 1)
    rounds = apart(reading_speeds, benchmark.folder, benchmark.rounds)
    return [
        Result(
            f"reading {schema} records; other: tf.data",
            f"{statistics.median(speeds[schema] for speeds in rounds):,.0f} records/s",
            f"{statistics.median(speeds['tf.data'] for speeds in rounds):,.0f} records/s",
            statistics.median(speeds[schema] / speeds["tf.data"] for speeds in rounds),
            "",
            rounds,
        )
        for schema in ("canonical", "compact")
    ]


CLAIMS = {claim.__name__: claim for claim in (one_core, splitting, two_cores, memory, tokenizer, reading)}


def main() -> None:
    """Measure what is asked for; print a table and write the measurements."""
    flags = parser().parse_args()
    os.environ.update(ENVIRONMENT)
    texts = sorted(glob(flags.text, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not texts:
        sys.exit(f"{flags.text}: no such file")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(flags.original), Path(flags.original_python), Path(flags.vocab)
        benchmark = Benchmark(*paths, texts, flags.megabytes, flags.rounds, Path(folder))
        # Not counted: it fills the caches of compiled code.
        measured([benchmark.ours(benchmark.sentences(WARM_UP_MEGABYTES), LENGTH_128)], 1)
        for name in flags.only or CLAIMS:
            print(f"{name}: {CLAIMS[name].__doc__}", file=sys.stderr)
            results += CLAIMS[name](benchmark)
    print_table(results)
    if flags.out:
        settings = {"megabytes": flags.megabytes, "rounds": flags.rounds}
        machine = {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
        content = settings | machine | {"results": [asdict(result) for result in results]}
        Path(flags.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--original", required=True, help="a checkout of google-research/bert")
    made.add_argument("--original_python", required=True, help="a Python with TensorFlow 1.15")
    made.add_argument("--vocab", required=True, help="an uncased vocab.txt")
    made.add_argument("--text", required=True, help="glob of text files, .txt or .txt.gz")
    made.add_argument("--megabytes", type=float, default=5, help="of sentences, 10^6 bytes each (default 5)")
    made.add_argument("--rounds", type=int, default=3, help="pairs of runs (default 3)")
    made.add_argument("--only", nargs="+", choices=CLAIMS, metavar="NAME", help=f"of {', '.join(CLAIMS)}")
    made.add_argument("--out", help="JSON file for all measurements")
    return made


def cpu_name() -> str:
    """Such as "AMD EPYC"."""
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return named[0].partition(":")[2].strip() if named else platform.machine()


def print_table(results: list[Result]) -> None:
    """A row a result."""
    table = Table("claim", "bertline", "original or other", "ratio", "target")
    for result in results:
        ratio = "" if result.ratio is None else f"{result.ratio:.1f}"
        table.add_row(result.claim, result.ours, result.other, ratio, result.target)
    Console().print(table)


def compared(claim: str, pairs: list[tuple[Cost, Cost]], what: str, target: str) -> Result:
    """The medians of both sides and of the ratios, original to ours, of one kind of cost."""
    ours, theirs = ([getattr(pair[side], what) for pair in pairs] for side in (0, 1))
    return Result(
        claim,
        f"{statistics.median(ours):.2f} s; {memory_of([our for our, _ in pairs])}",
        f"{statistics.median(theirs):.2f} s; {memory_of([their for _, their in pairs])}",
        statistics.median(their / our for our, their in zip(ours, theirs)),
        target,
        [{"ours": asdict(our), "original": asdict(their)} for our, their in pairs],
    )


def memory_of(costs: list[Cost]) -> str:
    """Medians of the largest process and of all together: "251 MB, all 702 MB"."""
    peak, total = (statistics.median(getattr(cost, name) for cost in costs) for name in ("peak_rss_mb", "total_rss_mb"))
    return f"{peak:.0f} MB" if total < 1.1 * peak else f"{peak:.0f} MB, all {total:.0f} MB"


def measured(commands: list[Command], cores: int) -> Cost:
    """The cost of commands one after another, on that many cores. Raises RuntimeError when one fails."""
    costs = [_measured(command, cores) for command in commands]
    return Cost(
        sum(cost.cpu_seconds for cost in costs),
        sum(cost.wall_seconds for cost in costs),
        max(cost.peak_rss_mb for cost in costs),
        max(cost.total_rss_mb for cost in costs),
    )


def _measured(command: Command, cores: int) -> Cost:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < cores:
        raise RuntimeError(f"{cores} cores are needed, {len(allowed)} may be used")
    with tempfile.TemporaryFile("w+") as output:
        os.sched_setaffinity(0, sorted(allowed)[-cores:])  # the new process inherits it
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=output)
        os.sched_setaffinity(0, allowed)
        total_rss, pid = 0, 0
        while not pid:
            total_rss = max(total_rss, tree_rss_bytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"exit code {process.returncode}: {' '.join(command)}\n{output.read()[-2000:]}")
    # A process counts as at least as large as the one that started it: this one, which so imports little.
    return Cost(usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss * 1024 / MEGABYTE, total_rss / MEGABYTE)


def tree_rss_bytes(pid: int | str) -> int:
    """What a process and all below it hold in memory now."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(tree_rss_bytes(child) for child in " ".join(children).split())


def bertline(verb: str, flags: Flags) -> Command:
    """The command line of one of our verbs."""
    return [sys.executable, "-m", "bertline.pipelines.cli", verb, *as_flags(flags)]


def as_flags(flags: Flags) -> list[str]:
    """{"dupe_factor": 5} -> ["--dupe_factor=5"]."""
    return [f"--{name}={value}" for name, value in flags.items()]


def emptied(folder: Path) -> Path:
    """The path, with nothing there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a new process on one core, so that this one stays small."""
    core = max(os.sched_getaffinity(0))
    with ProcessPoolExecutor(1, get_context("spawn"), os.sched_setaffinity, (0, {core})) as process:
        return process.submit(function, *arguments).result()


def write_sentences(texts: list[str], all_sentences: Path, path: Path, megabytes: float) -> None:
    """Sentences of the texts, a blank line after each document; again from the start if there are too few.

    Each time the documents are one sentence longer. `all_sentences` is made if it is not there: all of them, once.
    """
    if not all_sentences.exists():
        with all_sentences.open("w", encoding="utf-8") as file:
            file.writelines(f"{sentence}\n" for text in texts for sentence in sentences_of(Path(text)))
    written = 0
    with path.open("w", encoding="utf-8") as file, all_sentences.open(encoding="utf-8") as lines:
        for length in count(SENTENCES_PER_DOCUMENT):
            lines.seek(0)
            while document := list(islice(lines, length)):
                file.writelines(chain(document, "\n"))
                written += sum(len(sentence.encode()) for sentence in document) + 1
                if written >= megabytes * MEGABYTE:
                    return


def sentences_of(text: Path) -> Iterator[str]:
    """The sentences of a text file, gzipped or not."""
    from bertline.components.ingest.paragraphs import split_paragraphs
    from bertline.components.sentences import split_sentences

    content = gzip.decompress(text.read_bytes()) if text.suffix == ".gz" else text.read_bytes()
    for paragraph in split_paragraphs(content.decode("utf-8", "replace").replace("\r\n", "\n")):
        yield from split_sentences(paragraph)


def write_texts(sentences: Path, folder: Path) -> None:
    """The documents of a file as text files, a paragraph a line."""
    emptied(folder).mkdir()
    for number, document in enumerate(sentences.read_text(encoding="utf-8").strip().split("\n\n")):
        lines = iter(document.split("\n"))
        with (folder / f"{number:06}.txt").open("w", encoding="utf-8") as file:
            while paragraph := list(islice(lines, SENTENCES_PER_PARAGRAPH)):
                file.write(" ".join(paragraph) + "\n")


def tokenizer_speeds(text: Path, vocab: Path, rounds: int) -> list[dict[str, float]]:
    """MB a CPU second of our tokenizer on words that it has not met and that it has, and of Hugging Face's."""
    from tokenizers import BertWordPieceTokenizer

    from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

    lines = text.read_text(encoding="utf-8").split("\n")
    blocks = [lines[first : first + LINES_AT_ONCE] for first in range(0, len(lines), LINES_AT_ONCE)]
    megabytes = text.stat().st_size / MEGABYTE
    theirs = partial(BertWordPieceTokenizer(str(vocab), lowercase=True).encode_batch, add_special_tokens=False)
    speeds = []
    for _ in range(rounds):
        ours = WordPieceTokenizer(load_vocabulary(vocab))
        work = {"new words": ours.encode_lines, "known words": ours.encode_lines, "tokenizers": theirs}
        speeds.append({name: megabytes / cpu_seconds(encode, blocks) for name, encode in work.items()})
    return speeds


def reading_speeds(folder: Path, rounds: int) -> list[dict[str, float]]:
    """Records a CPU second, opening included: of the folders canonical and compact by us, of the first by tf.data."""
    import numpy as np
    import tensorflow  # noqa: F401 (loaded before the clock runs)

    from bertline.model.records import open_records

    speeds = []
    for seed in range(rounds + 1):
        speed = {}
        for schema in ("canonical", "compact"):
            started = time.process_time()
            records = open_records(folder / schema)
            order = np.random.default_rng(seed).permutation(len(records))
            cpu_seconds(records.batch, np.split(order, range(RECORDS_AT_ONCE, len(order), RECORDS_AT_ONCE)))
            speed[schema] = len(records) / (time.process_time() - started)
        speeds.append(speed | {"tf.data": tf_data_speed(sorted((folder / "canonical").glob("*.tfrecord")))})
    return speeds[1:]  # what TensorFlow does once is in the first


def tf_data_speed(files: list[Path]) -> float:
    """Records a CPU second of tf.data: TFRecordDataset, batch, parse_example."""
    import tensorflow as tf

    places, predictions = LENGTH_128.values()
    integers = {"input_ids": places, "input_mask": places, "segment_ids": places, "next_sentence_labels": 1}
    integers |= dict.fromkeys(["masked_lm_positions", "masked_lm_ids"], predictions)
    features = {name: tf.io.FixedLenFeature([width], tf.int64) for name, width in integers.items()}
    features["masked_lm_weights"] = tf.io.FixedLenFeature([predictions], tf.float32)
    started = time.process_time()
    batches = tf.data.TFRecordDataset([str(file) for file in files]).batch(RECORDS_AT_ONCE)
    parsed = batches.map(lambda batch: tf.io.parse_example(batch, features))
    records = sum(len(batch["input_ids"]) for batch in parsed.as_numpy_iterator())
    return records / (time.process_time() - started)


def cpu_seconds(work: Callable[[Any], Any], blocks: list[Any]) -> float:
    """The CPU time of the work on all blocks."""
    started = time.process_time()
    for block in blocks:
        work(block)
    return time.process_time() - started


if __name__ == "__main__":
    main()
