"""The best weights of a training, by held-out score: kept in its work folder, and beside its last ones at the end.

The log says which evaluation was the best. A run may go back to any snapshot, so the work folder holds the weights of
the best evaluation up to each of them, and of the best of all.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertline.files import draft_of
from bertline.model.training.checkpoint import (
    HELDOUT,
    Checkpoint,
    Row,
    evaluations,
    read_checkpoint,
    write_checkpoint,
)
from bertline.model.training.snapshots import snapshot_steps
from bertline.progress import say

BEST_FOLDER, BEST_FILE = "best", "best.json"  # in a finished checkpoint
BEST_PREFIX = "best-"  # in the work folder


@dataclass(frozen=True)
class Measure:
    """The held-out score by which weights are compared; of equal ones the first is the best."""

    name: str
    highest: bool = False  # whether the highest is the best, or the lowest


@dataclass(frozen=True)
class BestWeights:
    """The best weights of the stage that began at `first_step`."""

    work: Path
    measure: Measure
    first_step: int

    def find(self, rows: Sequence[Row], until: int | None = None) -> Row | None:
        """The best evaluation of the stage up to the step `until`, if there is one."""
        scored = [row for row in self.evaluations(rows) if until is None or row["step"] <= until]
        sign = -1 if self.measure.highest else 1
        return min(scored, key=lambda row: sign * row[HELDOUT + self.measure.name], default=None)

    def evaluations(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the stage."""
        return [row for row in evaluations(rows) if self.first_step < row["step"]]

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep the weights of `checkpoint` as those of its step: whole or not at all."""
        self.work.mkdir(parents=True, exist_ok=True)
        whole = self._folder(checkpoint.state["step"])
        shutil.rmtree(whole, ignore_errors=True)  # of a run that was killed after it had saved them
        with draft_of(whole) as draft:
            draft.mkdir()
            write_checkpoint(draft, checkpoint)

    def delete_others(self, rows: Sequence[Row], coming: Sequence[int]) -> None:
        """Delete weights that are the best up to no snapshot, neither one on the disk nor one of the steps `coming`."""
        points = {*snapshot_steps(self.work), *coming}
        needed = {self._folder(int(row["step"])) for point in points if (row := self.find(rows, point))}
        for folder in set(self.work.glob(BEST_PREFIX + "*")) - needed:
            shutil.rmtree(folder)

    def write(self, out: Path, rows: Sequence[Row]) -> dict[str, float]:
        """Write best.json into a finished checkpoint, and the best weights as best/ if they are not the last ones.

        Returns counts. Best weights that the disk has damaged are reported as lost, and the checkpoint stays whole.
        """
        best, last = self.find(rows), self.evaluations(rows)[-1]
        assert best is not None  # a stage with held-out data is scored at its end
        weights: str | None = "."
        if best["step"] != last["step"]:
            weights = BEST_FOLDER if _copy(self._folder(int(best["step"])), out / BEST_FOLDER) else None
        facts = {"best": _scores(best), "last": _scores(last), "weights": weights}
        (out / BEST_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        name = HELDOUT + self.measure.name
        return {
            "best.step": best["step"],
            f"best.{name}": best[name],
            **{f"last.{name}": value for name, value in last.items() if name != "step"},
        }

    def _folder(self, step: int) -> Path:
        return self.work / f"{BEST_PREFIX}{step:09}"


def _copy(source: Path, target: Path) -> bool:
    """Copy a checkpoint's folder; False for a damaged one."""
    try:
        read_checkpoint(source)
    except (FileNotFoundError, ValueError) as error:
        say(f"{source}: damaged, the best weights are lost ({error}); the last ones are whole")
        return False
    shutil.copytree(source, target)
    return True


def _scores(row: Row) -> Row:
    return {name.removeprefix(HELDOUT): value for name, value in row.items()}
