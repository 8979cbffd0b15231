"""A run's scores held against what knows nothing of the text's order: better or worse, and what to do next."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.components.store.manifests import read_manifest
from bertline.model.records.reader import STATISTICS_FILE

LENGTHS = (128, 512)
BETTER, WORSE, ALIKE, TOO_FEW = "better", "worse", "no better", "too few to tell"
BUDGET = "budget"  # the recipe for short trainings
STANDARD_ERRORS = 2  # by which a share must differ to be called better or worse
NATS = 0.05  # by which a loss must
# Devlin in google-research/bert #90; Devlin et al. 2018, table 6 and 5.1.
PUBLISHED = (
    "BERT-Base after a million steps of 256 sequences: a masked-LM loss of about 1.4 nats (perplexity 4.0; the paper's "
    "models 5.84 with 3 layers to 3.23 with 24), 97-98 % of next sentences right."
)


@dataclass(frozen=True)
class Verdict:
    """A score, what it is to be held against, and how it stands."""

    score: str
    value: str
    baseline: str
    verdict: str  # begins with one of the four above; empty where nothing is to compare

    @property
    def is_better(self) -> bool:
        """Whether something was learned."""
        return self.verdict.startswith(BETTER)


def judge(artifacts: Mapping[str, Path]) -> list[Verdict]:
    """The scores of a run's artifacts, task -> folder, in the order of the pipeline."""
    verdicts: list[Verdict] = []
    for length in LENGTHS:
        if f"evaluate_{length}" in artifacts:
            verdicts += judge_pretraining(
                length,
                _counts(artifacts[f"evaluate_{length}"]),
                _counts(artifacts[f"prepare_{length}"]),
                _read_statistics(artifacts[f"heldout_{length}"]),
            )
    for task, folder in artifacts.items():
        if task.startswith("finetune_"):
            verdicts += judge_classifier(task.removeprefix("finetune_"), _counts(folder))
    return verdicts


def judge_pretraining(
    length: int, scores: Mapping[str, Any], trained_on: Mapping[str, Any], heldout: Mapping[str, Any]
) -> Iterator[Verdict]:
    """The scores at a length, beside the counts of the records trained on and the statistics of the held-out ones."""
    loss, unigram = scores["masked_lm_loss"], trained_on["unigram_entropy_nats"]
    chance = math.log(heldout["vocabulary"]["entries"])
    verdict = _judge_loss(loss, unigram) if loss < chance - NATS else f"{WORSE} than chance"
    yield Verdict(
        f"masked-LM loss, {length}",
        f"{loss:.2f} nats",
        f"{unigram:.2f} word frequencies; {chance:.2f} chance",
        verdict,
    )
    _, most = heldout["tokens"]["most_frequent"][0]
    commonest = most / heldout["counts"]["tokens"]
    yield _judge_share(
        f"masked words, {length}",
        scores["masked_lm_accuracy"],
        commonest,
        "commonest word",
        scores["predictions"],
    )
    if "random_next" in heldout["counts"]:  # the rows are pairs
        random = heldout["counts"]["random_next"]
        yield _judge_share(
            f"next sentences, {length}",
            scores["next_sentence_accuracy"],
            max(random, 1 - random),
            "commoner answer",
            scores["examples"],
        )


def judge_classifier(task: str, scores: Mapping[str, Any]) -> Iterator[Verdict]:
    """The scores of a fine-tuned model on its development set."""
    yield _judge_share(
        f"{task}: accuracy",
        scores["accuracy"],
        scores["majority_accuracy"],
        "commonest label",
        scores["examples.dev"],
    )
    if "f1" in scores:
        yield Verdict(f"{task}: F1 of label 1", f"{scores['f1']:.1%}", "", "")


def advise(
    verdicts: Iterable[Verdict], *, name: str, is_example: bool, out: Path, program: str = "bertline"
) -> Iterator[str]:
    """What to do next, a sentence each; `name` is the run's or its recipe's, `program` what bertline is called by."""
    losses = [verdict for verdict in verdicts if verdict.score.startswith("masked-LM loss")]
    if losses and not any(loss.is_better for loss in losses):
        yield (
            "The model knows no more of a word than how often it comes: context is learned later. Train for more steps "
            f"(--steps_128, --steps_512){'' if name == BUDGET else ', or take the budget recipe (docs/recipes.md)'}."
        )
    if is_example:
        yield (
            "The text was the example's, far too little for a useful model. Give your own: "
            f"{program} run budget --model=tiny --dump=pages-articles.xml.bz2 --books=shelf/ --out=out/mine"
        )
    elif any(loss.is_better for loss in losses):
        yield f"Fine-tune it: {program} finetune --checkpoint={out / 'latest' / 'pretrain_512'} --help"


def _judge_loss(loss: float, unigram: float) -> str:
    difference = abs(loss - unigram)
    if difference < NATS:
        return ALIKE
    return f"{BETTER if loss < unigram else WORSE} by {difference:.2f}"


def _judge_share(score: str, found: float, baseline: float, always: str, count: int) -> Verdict:
    """A share of `count` answers that are right, beside that of always giving one."""
    least = STANDARD_ERRORS * math.sqrt(max(baseline * (1 - baseline), 0.0) / max(count, 1))
    if abs(found - baseline) <= least:
        word = TOO_FEW if round(found, 3) > round(baseline, 3) else ALIKE  # as they are shown
    else:
        word = BETTER if found > baseline else WORSE
    return Verdict(score, f"{found:.1%} of {count:,}", f"{baseline:.1%} {always}", word)


def _counts(artifact: Path) -> Mapping[str, Any]:
    counts: Mapping[str, Any] = read_manifest(artifact)["counts"]
    return counts


def _read_statistics(records: Path) -> Mapping[str, Any]:
    statistics: Mapping[str, Any] = json.loads((records / STATISTICS_FILE).read_text(encoding="utf-8"))
    return statistics
