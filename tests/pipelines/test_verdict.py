"""What is said of scores: beside what knows nothing, better or worse, and what to do next."""

import math
from pathlib import Path
from typing import Any

import pytest

from bertline.pipelines.verdict import Verdict, advise, judge_classifier, judge_pretraining

SCORES: dict[str, Any] = {
    "masked_lm_loss": 4.0,
    "perplexity": math.exp(4.0),
    "masked_lm_accuracy": 0.3,
    "predictions": 1000,
    "next_sentence_accuracy": 0.55,
    "examples": 100,
}
HELDOUT: dict[str, Any] = {
    "vocabulary": {"entries": 1000},  # chance: 6.91 nats
    "tokens": {"most_frequent": [["the", 50], ["a", 20]]},
    "counts": {"tokens": 1000, "random_next": 0.48},
}


def judge(**scores: Any) -> list[Verdict]:
    return list(judge_pretraining(128, SCORES | scores, {"unigram_entropy_nats": 6.0}, HELDOUT))


def test_a_score_stands_beside_what_it_is_held_against() -> None:
    assert judge() == [
        Verdict("masked-LM loss, 128", "4.00 nats", "6.00 word frequencies; 6.91 chance", "better by 2.00"),
        Verdict("masked words, 128", "30.0% of 1,000", "5.0% commonest word", "better"),
        Verdict("next sentences, 128", "55.0% of 100", "52.0% commoner answer", "too few to tell"),
    ]


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (5.9, "better by 0.10"),
        (5.98, "no better"),
        (6.3, "worse by 0.30"),
        (6.9, "worse than chance"),
        (9.0, "worse than chance"),
    ],
)
def test_a_loss_is_worse_alike_or_better(loss: float, verdict: str) -> None:
    assert judge(masked_lm_loss=loss)[0].verdict == verdict


@pytest.mark.parametrize(("examples", "verdict"), [(60, "too few to tell"), (10_000, "better")])
def test_a_share_is_better_only_where_that_is_no_chance(examples: int, verdict: str) -> None:
    assert judge(examples=examples)[2].verdict == verdict


def test_shares_that_look_alike_are_alike() -> None:
    assert judge(next_sentence_accuracy=0.5204)[2].verdict == "no better"


def test_rows_that_are_no_pairs_have_no_next_sentence() -> None:
    heldout = HELDOUT | {"counts": {"tokens": 1000}}
    assert len(list(judge_pretraining(128, SCORES, {"unigram_entropy_nats": 6.0}, heldout))) == 2


def test_a_classifier_is_held_against_the_commonest_label() -> None:
    scores = {"accuracy": 0.6, "majority_accuracy": 0.7, "examples.dev": 400, "f1": 0.5}
    accuracy, f1 = judge_classifier("mrpc", scores)
    assert accuracy == Verdict("mrpc: accuracy", "60.0% of 400", "70.0% commonest label", "worse")
    assert (f1.score, f1.value, f1.verdict) == ("mrpc: F1 of label 1", "50.0%", "")


def test_advice_suits_the_scores_and_the_text() -> None:
    learned, not_yet = judge(), judge(masked_lm_loss=6.2)
    (example,) = advise(learned, name="tiny", is_example=True, out=Path("out"))
    assert "the example's" in example and "--dump" in example
    more, _ = advise(not_yet, name="tiny", is_example=True, out=Path("out"))
    assert "--steps_128" in more and "budget recipe" in more
    (more,) = advise(not_yet, name="budget", is_example=False, out=Path("out"))
    assert "--steps_128" in more and "recipe" not in more
    (tune,) = advise(learned, name="budget", is_example=False, out=Path("out"))
    assert "bertline finetune --checkpoint=out/latest/pretrain_512" in tune
