"""Speed and memory of a pretraining step: forward, both losses, backward and optimizer, with dropout, on all cores.

    python benchmarks/training.py --original BERT --torch_python PYTHON

Sides are processes that stay alive and take turns: bertline, google-research/bert's graph on today's TensorFlow,
transformers under torch, and bare products of matrices. Ratios are medians over the rounds.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from claims import measure, program_parser
from plots import Chart, svg_of
from report import Result
from shapes import Shape, shape_of
from sides import Side, turns

OURS = {  # settings of PretrainConfig
    "bfloat16 graph": {"precision": "mixed_bfloat16", "jit_compile": False},
    "bfloat16 XLA": {"precision": "mixed_bfloat16", "jit_compile": True},
    "float32 graph": {"precision": "float32", "jit_compile": False},
    "float32 XLA": {"precision": "float32", "jit_compile": True},
}
FASTEST, PLAIN = "bfloat16 graph", "float32 XLA"
ORIGINAL = "original float32"
TORCH = {
    # torch's own attention has a slow path for dropout: at 512 the compiled plain operations are faster.
    "torch bfloat16 compiled": {"precision": "mixed_bfloat16", "compile": True, "attention": "eager"},
    "torch bfloat16 eager": {"precision": "mixed_bfloat16", "compile": False, "attention": "sdpa"},
}
COMPILED, EAGER = TORCH
TARGETS = {(FASTEST, ORIGINAL): ">= 1.5", (FASTEST, COMPILED): ">= 1.2"}
ASKED_LAYERS = 4  # of the smallest model that they hold for
MEMORY_TARGET = ">= 2"
PEAKS = {"float32": "products float32", "bfloat16": "products bfloat16"}
MATRIX_SIZE = 4096  # of the products that show what the processor can do
SHAPES = {
    "tiny_128": shape_of("tiny", 128, 64),
    "mini_128": shape_of("mini", 128, 32),
    "base_128": shape_of("base", 128, 8),
    "tiny_512": shape_of("tiny", 512, 16),
    "mini_512": shape_of("mini", 512, 8),
    "base_512": shape_of("base", 512, 2),
}
# recompute_layers; the target is that of 1, which saves most.
RECOMPUTED = {0: "all kept", 1: "every layer recomputed", 3: "groups of 3 recomputed"}
BATCHES_512 = (2, 4, 8, 16)
MEMORY = {(FASTEST, 128): (8, 16, 32), (FASTEST, 512): BATCHES_512, (PLAIN, 512): BATCHES_512}  # batches of BERT-Base


@dataclass(frozen=True)
class Benchmark:
    """What is compared, and for how long."""

    original: Path  # google-research/bert
    torch_python: str | None  # a Python with torch and transformers, or none
    rounds: int
    seconds: float  # of a turn
    asked: bool  # only what has a target
    plots: Path | None  # a folder for SVG files

    def side(self, name: str, shape: Shape, recompute_layers: int = 0) -> Side:
        """The side of that name."""
        if name in OURS:
            return Side(name, sys.executable, "ours.py", shape.job(**OURS[name], recompute_layers=recompute_layers))
        if name == ORIGINAL:
            return Side(name, sys.executable, "original.py", shape.job(original=str(self.original)))
        assert self.torch_python is not None
        return Side(name, self.torch_python, "pytorch.py", shape.job(**TORCH[name]))

    def together(self) -> list[list[str]]:
        """Names of sides that are timed in turn, few at a time: all at once would need 30 GB for BERT-Base."""
        groups = [[FASTEST, ORIGINAL], [FASTEST, EAGER], *([name, ORIGINAL] for name in OURS if name != FASTEST)]
        groups[0] += [COMPILED] * (self.torch_python is not None)
        groups = groups[:1] if self.asked else groups
        return [group for group in groups if self.torch_python is not None or EAGER not in group]


def speed(claim: str, shape: Shape, benchmark: Benchmark) -> list[Result]:
    """Our sides against the others on one shape."""
    results = []
    for names in benchmark.together():
        products = [
            Side(name, sys.executable, "matrix.py", {"size": MATRIX_SIZE, "precision": precision})
            for precision, name in PEAKS.items()
        ]
        sides = [*(benchmark.side(name, shape) for name in names), *products]
        rounds = timed(sides, benchmark)
        shown = {side.name: cell(side, shape, rounds) for side in sides[: len(names)]}
        for other in names[1:]:
            times = statistics.median(taken[other] / taken[names[0]] for taken in rounds)
            asked = TARGETS.get((names[0], other), "") if shape.layers >= ASKED_LAYERS else ""
            results.append(Result(f"{claim}: {names[0]}; {other}", shown[names[0]], shown[other], times, asked, rounds))
    peaks = [f"{2 * MATRIX_SIZE**3 / 1e9 / middle(rounds, name):.0f} {precision}" for precision, name in PEAKS.items()]
    return [*results, Result(f"{claim}: peak", f"{', '.join(peaks)} GFLOP/s")]


def timed(sides: Sequence[Side], benchmark: Benchmark) -> list[dict[str, float]]:
    """Seconds a step in each round; the sides are started one after the other, since compiling takes all cores."""
    with ExitStack() as running:
        for side in sides:
            running.enter_context(side)
            side.warm_up()
        return turns(sides, benchmark.rounds, benchmark.seconds)


def cell(side: Side, shape: Shape, rounds: list[dict[str, float]]) -> str:
    """A side's figures: "52.1 sequences/s, 101 GFLOP/s, 32 % of peak; 1,846 MB; first step 4 s"."""
    product = PEAKS["bfloat16" if "bfloat16" in side.name else "float32"]
    share = (
        statistics.median(taken[product] / taken[side.name] for taken in rounds) * shape.flops() / 2 / MATRIX_SIZE**3
    )
    seconds = middle(rounds, side.name)
    rate = f"{shape.batch / seconds:.3g} sequences/s, {shape.flops() / seconds / 1e9:.0f} GFLOP/s, {share:.0%} of peak"
    return f"{rate}; {side.highest_mb:,.0f} MB; first step {side.first_seconds:.0f} s"


def middle(rounds: list[dict[str, float]], name: str) -> float:
    """The median seconds of a side's step."""
    return statistics.median(taken[name] for taken in rounds)


def memory(benchmark: Benchmark) -> list[Result]:
    """Peak memory of BERT-Base's step, its layers' values kept or computed again (recompute_layers)."""
    results = []
    for (name, length), batches in MEMORY.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for batch in batches:
            shape = shape_of("base", length, batch)
            peaks = {layers: peak_of(benchmark.side(name, shape, layers)) for layers in RECOMPUTED}
            for layers, (peak, _) in peaks.items():
                lines.setdefault(RECOMPUTED[layers], []).append((batch, peak))
            asked = (length, batch) == (512, batches[-1])
            results += saved(f"base {length}, batch {batch}, {name}", peaks, asked=asked)
        draw(benchmark, f"memory {length} {name}", Chart(f"BERT-Base at {length}, {name}", "batch", "MB", lines))
    return results


def saved(claim: str, peaks: dict[int, tuple[float, float]], *, asked: bool) -> list[Result]:
    """Memory with some layers recomputed at a time, and with none."""
    cells = {
        layers: f"{peak:,.0f} MB, {peak - start:,.0f} beyond weights and slots"
        for layers, (peak, start) in peaks.items()
    }
    results = []
    for layers in list(RECOMPUTED)[1:]:
        sides, less = f"{RECOMPUTED[layers]}; {RECOMPUTED[0]}", peaks[0][0] / peaks[layers][0]
        target = MEMORY_TARGET if asked and layers == 1 else ""
        results.append(Result(f"{claim}: {sides}", cells[layers], cells[0], less, target, [peaks]))
    return results


def peak_of(side: Side) -> tuple[float, float]:
    """Resident MB at most during two steps, and before the first: libraries, weights and slots."""
    with side:
        side.go(2)
    return side.highest_mb, side.start_mb


def length(benchmark: Benchmark) -> list[Result]:
    """BERT-Mini's step on 4,096 positions, cut into rows of several lengths."""
    shapes = {n: shape_of("mini", n, 4096 // n) for n in (32, 64, 128, 256, 512)}
    return curve(benchmark, "length", "positions of a row", shapes)


def width(benchmark: Benchmark) -> list[Result]:
    """The step of four layers of several widths, 16 rows of 128."""
    return curve(benchmark, "width", "width of the layers", {n: Shape(4, n, 128, 16) for n in (128, 256, 512, 768)})


def batch(benchmark: Benchmark) -> list[Result]:
    """BERT-Mini's step on batches of several sizes, rows of 128."""
    return curve(benchmark, "batch", "rows of a batch", {n: shape_of("mini", 128, n) for n in (1, 4, 16, 64)})


def curve(benchmark: Benchmark, name: str, axis: str, shapes: dict[int, Shape]) -> list[Result]:
    """Milliseconds of a step against a size, and their plot."""
    lines: dict[str, list[tuple[float, float]]] = {f"bertline {FASTEST}": [], ORIGINAL: []}
    results = []
    for size, shape in shapes.items():
        rounds = timed([benchmark.side(FASTEST, shape), benchmark.side(ORIGINAL, shape)], benchmark)
        seconds = [middle(rounds, side) for side in (FASTEST, ORIGINAL)]
        for line, each in zip(lines.values(), seconds):
            line.append((size, 1000 * each))
        positions = shape.batch * shape.length
        cells = [f"{1000 * each:.0f} ms, {1e6 * each / positions:.1f} us a position" for each in seconds]
        times = statistics.median(taken[ORIGINAL] / taken[FASTEST] for taken in rounds)
        results.append(Result(f"{axis}: {size}", *cells, times, measured=rounds))
    title = str(CLAIMS[name].__doc__).removesuffix(".")
    draw(benchmark, name, Chart(title, axis, "milliseconds a step", lines, logarithmic=True))
    return results


def draw(benchmark: Benchmark, name: str, chart: Chart) -> None:
    """Write the chart as an SVG file where one is asked for."""
    if benchmark.plots:
        benchmark.plots.mkdir(parents=True, exist_ok=True)
        (benchmark.plots / f"{name}.svg".replace(" ", "_")).write_text(svg_of(chart), encoding="utf-8")


def speed_claim(name: str, shape: Shape) -> Callable[[Benchmark], list[Result]]:
    """The claim of one shape."""

    def claim(benchmark: Benchmark) -> list[Result]:
        return speed(name.replace("_", " "), shape, benchmark)

    claim.__doc__ = f"{shape.layers} layers of {shape.width}, rows of {shape.length}, {shape.batch} a batch."
    return claim


CLAIMS: dict[str, Callable[[Benchmark], list[Result]]] = {
    **{name: speed_claim(name, shape) for name, shape in SHAPES.items()},
    **{claim.__name__: claim for claim in (memory, length, width, batch)},
}


def main() -> None:
    """Measure what is asked for; print tables and write the measurements."""
    flags = parser().parse_args()
    plots = Path(flags.plots) if flags.plots else None
    original = Path(flags.original).resolve()
    benchmark = Benchmark(original, flags.torch_python, flags.rounds, flags.seconds, flags.asked, plots)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # so that the first step compiles
        measure({name: CLAIMS[name] for name in flags.only or CLAIMS}, benchmark, flags, "seconds")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = program_parser(__doc__, CLAIMS, rounds=5)
    made.add_argument("--torch_python", help="a Python with torch and transformers; without, they are left out")
    made.add_argument("--seconds", type=float, default=2.0, help="of a turn, at least one step (default 2)")
    made.add_argument("--asked", action="store_true", help="leave out the pairs that have no target")
    made.add_argument("--plots", metavar="FOLDER", help="where memory and curves are drawn, as SVG files")
    return made


if __name__ == "__main__":
    main()
