"""Whether what a run made takes the place of what `latest` leads to: the challenger is held against the champion.

Both are scored on the challenger's held-out records, and on the development sets that both were fine-tuned for. A share
of right answers counts as better or worse where it differs by more than two standard errors of the difference of two
shares, a loss where it differs by NATS.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bertline.components.declaration import load, make
from bertline.components.kfp_artifacts import read_run_notes
from bertline.components.step_table import EVALUATE
from bertline.components.store.artifacts import Store
from bertline.components.store.manifests import read_manifest
from bertline.components.store.refs import LATEST, move_after_all, read_history
from bertline.progress import say
from bertline.settings import from_mapping

ALWAYS, NO_WORSE, BETTER = RULES = ("always", "no_worse", "better")
STANDARD_ERRORS = 2
NATS = 0.05
SHARES = ("masked_lm_accuracy", "next_sentence_accuracy")
LENGTHS = (128, 512)


@dataclass(frozen=True)
class Comparison:
    """One score of both."""

    score: str
    challenger: float
    champion: float
    verdict: str  # better, worse, alike


@dataclass(frozen=True)
class Decision:
    """What came of it."""

    moved: bool
    reason: str
    comparisons: tuple[Comparison, ...] = ()
    left_out: tuple[str, ...] = ()  # what could not be compared, and why


def promote(store: Store, run: str, rule: str) -> Decision:
    """Let `latest` lead to the artifacts of a run if the rule allows it; what was decided is noted beside the run.

    Raises ValueError for a rule that is none of RULES, and for a run without artifacts.
    """
    if rule not in RULES:
        raise ValueError(f'promotion is "{rule}"; give one of {", ".join(RULES)}')
    artifacts = read_artifacts(store, run)
    history = read_history(store.objects, LATEST)
    if rule == ALWAYS or not history:
        decision = Decision(True, "the first model" if not history else "no rule is to be kept")
    else:
        comparisons, left_out = compare(store, artifacts, history[-1].artifacts)
        decision = decide(rule, comparisons, left_out)
    if decision.moved:
        move_after_all(store.objects, LATEST, artifacts, f"run {run}")
    say(f"latest {'leads to this run' if decision.moved else 'stays what it was'}: {decision.reason}")
    store.write_note(f"runs/{run}/promotion/decision.json", json.dumps(asdict(decision), indent=1))
    return decision


def read_artifacts(store: Store, run: str) -> dict[str, str]:
    """Task -> where its artifact lies, of the run's notes."""
    artifacts = {note["task"]: note["path"] for note in read_run_notes(store.objects, run) if "path" in note}
    if not artifacts:
        raise ValueError(f"{store.objects}/runs/{run}: the run has made nothing")
    return artifacts


def decide(rule: str, comparisons: list[Comparison], left_out: list[str]) -> Decision:
    """By the rule: worse in nothing, and for BETTER better in something."""
    worse = [each.score for each in comparisons if each.verdict == "worse"]
    better = [each.score for each in comparisons if each.verdict == "better"]
    if worse:
        moved, reason = False, f"worse in {', '.join(worse)}"
    elif not comparisons:
        moved, reason = False, "nothing can be compared with what it leads to"
    elif rule == BETTER and not better:
        moved, reason = False, "better in nothing"
    else:
        moved, reason = True, f"better in {', '.join(better)}" if better else "worse in nothing"
    return Decision(moved, reason, tuple(comparisons), tuple(left_out))


def compare(
    store: Store, challenger: Mapping[str, str], champion: Mapping[str, str]
) -> tuple[list[Comparison], list[str]]:
    """All scores that both have or can get, and what could not be compared."""
    comparisons: list[Comparison] = []
    left_out: list[str] = []
    for length in LENGTHS:
        task = f"evaluate_{length}"
        if task in challenger:
            try:
                comparisons += _compare_pretraining(store, task, challenger, champion)
            except (ValueError, OSError) as error:
                left_out.append(f"{task}: {error}")
    for task in sorted(each for each in challenger if each.startswith("finetune_")):
        try:
            comparisons.append(_compare_task(store, task, challenger, champion))
        except (ValueError, OSError) as error:
            left_out.append(f"{task}: {error}")
    return comparisons, left_out


def _compare_pretraining(
    store: Store, task: str, challenger: Mapping[str, str], champion: Mapping[str, str]
) -> Iterator[Comparison]:
    """Of the champion's checkpoint on the challenger's held-out records."""
    scored = read_manifest(store.folder_of(challenger[task]))
    config = from_mapping(load(EVALUATE.config), scored["parameters"])
    records = store.folder_of(challenger[task.replace("evaluate", "heldout")])
    checkpoint = store.folder_of(_of(champion, "pretrain_512"))
    theirs = make(EVALUATE, store, config, {"checkpoint": checkpoint, "records": records}).manifest
    ours, other = scored["counts"], theirs["counts"]
    our_loss, other_loss = _count(scored, "masked_lm_loss"), _count(theirs, "masked_lm_loss")
    length = task.removeprefix("evaluate_")
    difference = other_loss - our_loss
    verdict = "alike" if abs(difference) < NATS else "better" if difference > 0 else "worse"
    yield Comparison(f"masked_lm_loss, {length}", our_loss, other_loss, verdict)
    for share, count in zip(SHARES, ("predictions", "examples"), strict=True):
        if share in ours and share in other:
            yield _compare_shares(f"{share}, {length}", ours[share], other[share], _count(scored, count))


def _compare_task(store: Store, task: str, challenger: Mapping[str, str], champion: Mapping[str, str]) -> Comparison:
    ours, other = (read_manifest(store.folder_of(_of(each, task))) for each in (challenger, champion))
    if _digest_of(ours, "dev") != _digest_of(other, "dev"):
        raise ValueError("scored on other examples")
    name = f"accuracy, {task.removeprefix('finetune_')}"
    return _compare_shares(name, _count(ours, "accuracy"), _count(other, "accuracy"), _count(ours, "examples.dev"))


def _compare_shares(score: str, ours: float, other: float, count: int) -> Comparison:
    """Two shares of as many answers."""
    mean = (ours + other) / 2
    least = STANDARD_ERRORS * math.sqrt(2 * mean * (1 - mean) / max(count, 1))
    verdict = "alike" if abs(ours - other) <= least else "better" if ours > other else "worse"
    return Comparison(score, ours, other, verdict)


def _of(artifacts: Mapping[str, str], task: str) -> str:
    if task not in artifacts:
        raise ValueError(f"the champion has no {task}")
    return artifacts[task]


def _digest_of(manifest: Mapping[str, Any], name: str) -> str:
    digests = [str(each["digest"]) for each in manifest["inputs"] if each["name"] == name]
    if not digests:
        raise ValueError(f"it has no {name}")
    return digests[0]


def _count(manifest: Mapping[str, Any], name: str) -> Any:
    if name not in manifest["counts"]:
        raise ValueError(f"it has no {name}")
    return manifest["counts"][name]
