"""The best weights of a training so far, kept in its work folder beside the snapshots.

The log says which evaluation was the best. A run may go back to any snapshot, so there lie the weights of the best
evaluation up to each of them, and of the best of all.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from bertline.files import flush_to_disk
from bertline.model.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from bertline.model.training.curve import HELDOUT, Row, evaluations
from bertline.model.training.snapshots import snapshot_steps
from bertline.progress import say

MEASURE = "masked_lm_loss"  # the lowest is the best; of equal ones the first
BEST_FOLDER, BEST_FILE = "best", "best.json"  # in a finished checkpoint
PREFIX, DRAFT = "best-", "draft-best"  # in the work folder


def best_of(rows: Sequence[Row], first_step: int, until: int | None = None) -> Row | None:
    """The best evaluation after `first_step`, where the stage began, and up to `until`, if there is one."""
    mine = [row for row in evaluations(rows) if first_step < row["step"] and (until is None or row["step"] <= until)]
    return min(mine, key=lambda row: row[HELDOUT + MEASURE], default=None)


def save_best(work: Path, checkpoint: Checkpoint) -> None:
    """Keep the weights of `checkpoint` as those of its step: whole or not at all."""
    work.mkdir(parents=True, exist_ok=True)
    draft, whole = work / DRAFT, _folder(work, checkpoint.state["step"])
    for left_over in (draft, whole):  # of a run that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    draft.mkdir()
    write_checkpoint(draft, checkpoint)
    flush_to_disk(draft)
    draft.rename(whole)
    flush_to_disk(work)


def forget_others(work: Path, rows: Sequence[Row], first_step: int, coming: Sequence[int]) -> None:
    """Delete weights that are the best up to no snapshot, neither one on the disk nor one of the steps `coming`."""
    points = {*snapshot_steps(work), *coming}
    needed = {_folder(work, int(row["step"])) for point in points if (row := best_of(rows, first_step, point))}
    for folder in set(work.glob(PREFIX + "*")) - needed:
        shutil.rmtree(folder)


def write_best(out: Path, work: Path, rows: Sequence[Row], first_step: int) -> dict[str, float]:
    """Write best.json into a finished checkpoint, and the best weights as best/ if they are not the last ones.

    Returns counts. Best weights that the disk has damaged are said to be lost, and the checkpoint stays whole.
    """
    best, last = best_of(rows, first_step), evaluations(rows)[-1]
    assert best is not None  # a stage with held-out records is scored at its end
    weights: str | None = "."
    if best["step"] != last["step"]:
        weights = BEST_FOLDER if _copied(_folder(work, int(best["step"])), out / BEST_FOLDER) else None
    facts = {"best": _scores(best), "last": _scores(last), "weights": weights}
    (out / BEST_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return {
        "best.step": best["step"],
        f"best.{HELDOUT}{MEASURE}": best[HELDOUT + MEASURE],
        **{f"last.{name}": value for name, value in last.items() if name != "step"},
    }


def _copied(source: Path, target: Path) -> bool:
    try:
        read_checkpoint(source)
    except (FileNotFoundError, ValueError) as error:
        say(f"{source}: damaged, the best weights are lost ({error}); the last ones are whole")
        return False
    shutil.copytree(source, target)
    return True


def _scores(row: Row) -> Row:
    return {name.removeprefix(HELDOUT): value for name, value in row.items()}


def _folder(work: Path, step: int) -> Path:
    return work / f"{PREFIX}{step:09}"
