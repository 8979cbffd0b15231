"""Curves of whole trainings, both stages on one axis of time: the held-out masked-LM loss and what came of it.

    python benchmarks/curves.py --run budget=CHECKPOINT_128,CHECKPOINT_512 --line trigram=5.02 --plot FILE

The checkpoints are the finished ones of a run's two stages, scored on held-out records; their RUN.json says how long
each took, so it must have been made by one process, without an interruption. Where other programs ran beside it, give
the seconds that the stages take alone: NAME=CHECKPOINT_128,CHECKPOINT_512@SECONDS,SECONDS.
"""

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from plots import Chart, Point, svg_of
from report import print_rows

from bertline.components.store.manifests import MANIFEST, RUN
from bertline.model.training.checkpoint import HELDOUT, LOG_FILE, evaluations, rows_of

LOSS = HELDOUT + "masked_lm_loss"
COLUMNS = ("run", "length", "steps", "minutes", "held-out masked-LM loss", "words right", "next sentences right")
ROOM = 0.25  # nats below the lowest point


@dataclass(frozen=True)
class Stage:
    """A finished stage of a training."""

    first_step: int
    last_step: int
    seconds: float
    length: int
    scores: list[dict[str, float]]  # its evaluations

    @classmethod
    def of(cls, checkpoint: Path, seconds: float | None = None) -> "Stage":
        """Read it from its checkpoint; `seconds`, if given, are how long it took."""
        manifest, facts = (json.loads((checkpoint / name).read_text(encoding="utf-8")) for name in (MANIFEST, RUN))
        last = int(manifest["counts"]["step"])
        first = last - int(manifest["counts"]["steps"])
        rows = evaluations(rows_of((checkpoint / LOG_FILE).read_text(encoding="utf-8")))
        mine = [row for row in rows if row["step"] > first]
        length = manifest["parameters"]["max_seq_length"]
        return cls(first, last, seconds or facts["seconds"], length, mine)

    def minutes(self, step: float) -> float:
        """When it reached the step, counted from its start: a steady pace."""
        return self.seconds * (step - self.first_step) / (self.last_step - self.first_step) / 60


def curve_of(stages: list[Stage]) -> list[Point]:
    """Minutes since the start of the first stage, and the held-out loss then."""
    before, points = 0.0, []
    for stage in stages:
        points += [(before + stage.minutes(row["step"]), row[LOSS]) for row in stage.scores]
        before += stage.seconds / 60
    return points


def summary(name: str, stage: Stage) -> list[str]:
    """A row of the table: how far a stage came, and how long it took."""
    last = stage.scores[-1]
    steps = f"{stage.last_step - stage.first_step:,}"
    right = [f"{last[f'{HELDOUT}{task}_accuracy']:.1%}" for task in ("masked_lm", "next_sentence")]
    return [name, str(stage.length), steps, f"{stage.seconds / 60:.1f}", f"{last[LOSS]:.3f}", *right]


def main() -> None:
    """Print the table, and draw the curves where that is asked for."""
    flags = parser().parse_args()
    runs = {}
    for given in flags.run:
        name, _, stages = given.partition("=")
        checkpoints, _, seconds = stages.partition("@")
        alone = [float(each) for each in seconds.split(",")] if seconds else itertools.repeat(None)
        runs[name] = [Stage.of(Path(each), taken) for each, taken in zip(checkpoints.split(","), alone)]
    print_rows(COLUMNS, [summary(name, stage) for name, stages in runs.items() for stage in stages])
    if not flags.plot:
        return
    lines = {name: curve_of(stages) for name, stages in runs.items()}
    span = [point[0] for line in lines.values() for point in line]
    for given in flags.line:
        name, _, height = given.partition("=")
        lines[f"{name} {height}"] = [(min(span), float(height)), (max(span), float(height))]
    least = min(point[1] for line in lines.values() for point in line)
    chart = Chart(flags.title, "minutes", "nats a word piece", lines, marks=marks_within(span), least=least - ROOM)
    Path(flags.plot).write_text(svg_of(chart), encoding="utf-8")


def marks_within(span: list[float]) -> list[float]:
    """Minutes to name on the axis."""
    return [mark for mark in (1, 2, 5, 10, 20, 30, 60, 120, 240, 480) if min(span) <= mark <= max(span)]


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--run", action="append", required=True, metavar="NAME=CHECKPOINT,CHECKPOINT[@S,S]")
    made.add_argument("--line", action="append", default=[], metavar="NAME=NATS", help="a loss to compare with")
    made.add_argument("--plot", metavar="FILE", help="the SVG file to write")
    made.add_argument("--title", default="Held-out masked-LM loss")
    return made


if __name__ == "__main__":
    main()
