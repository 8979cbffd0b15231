"""The recipes are runs, and docs/recipes.md tells of every choice and its source."""

import dataclasses
from pathlib import Path

import pytest

from bertline.model.config import SIZES, bert_config
from bertline.pipelines.recipes import BUDGETS, PAPER, budget_choices, recipe
from bertline.pipelines.run_local import check
from bertline.pipelines.run_settings import Run, batch_512, pipeline_arguments

DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_the_paper_is_the_papers() -> None:
    run = recipe("paper", "base")
    assert (run.model, run.batch, batch_512(run), run.learning_rate) == ("base", 256, 256, 1e-4)
    arguments = pipeline_arguments(run)
    first, second = arguments["pretrain_128"], arguments["pretrain_512"]
    assert (first["stop_at_step"], second["num_train_steps"], second["num_warmup_steps"]) == (
        900_000,
        1_000_000,
        10_000,
    )
    assert (arguments["prepare_128"]["dupe_factor"], arguments["prepare_128"]["do_whole_word_mask"]) == (10, False)


@pytest.mark.parametrize("model", sorted(SIZES))
def test_the_budget_of_every_size_differs_from_the_paper_only_as_it_says(model: str) -> None:
    paper, budget = recipe("paper", model), recipe("budget", model)
    said = {choice.field for choice in budget_choices(model)}
    other = {
        field.name for field in dataclasses.fields(Run) if getattr(paper, field.name) != getattr(budget, field.name)
    }
    assert other <= said
    shape = bert_config(model, 30522)
    wanted = (2 / (shape.hidden_size * shape.num_hidden_layers)) ** 0.5
    assert budget.initializer_range == pytest.approx(max(wanted, 0.02), abs=1e-3)
    pipeline_arguments(budget)


def test_the_document_holds_every_choice_and_its_source() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for choice in (*PAPER, *budget_choices("base")):
        assert choice.source in text
        assert f"| {choice.field} |" in text
    for width, budget in BUDGETS.items():
        assert f"| {width} | {budget.batch} | {budget.learning_rate:g} | {budget.source} |" in text


def test_a_released_model_goes_on_with_the_attention_that_it_has() -> None:
    run = dataclasses.replace(recipe("budget", "tiny"), vocab="vocab.txt")
    for initial, expected in (("", "neighbours"), ("model", "random")):
        arguments = pipeline_arguments(dataclasses.replace(run, initial=initial))
        assert arguments["pretrain_128"]["attention_initializer"] == expected


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a known size nor a file"):
        recipe("budget", "huge")


def test_going_on_from_a_released_model_needs_its_vocabulary(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A text.\n")
    run = Run(text=str(text), initial=str(tmp_path / "model"))
    with pytest.raises(ValueError, match="the records need its vocabulary: --vocab"):
        check(run, tmp_path / "out")
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    with pytest.raises(FileNotFoundError, match="model"):
        check(dataclasses.replace(run, vocab=str(vocab)), tmp_path / "out")
    stages = pipeline_arguments(dataclasses.replace(run, initialize="pooler"))
    assert (stages["pretrain_128"]["model"], stages["pretrain_128"]["initialize"]) == ("", "pooler")
    assert stages["pretrain_512"]["initialize"] == ""


def test_a_configuration_of_ones_own_may_have_any_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "bert_config.json"
    file.write_text('{"vocab_size": 21128, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}')
    mini = recipe("budget", "mini")
    assert recipe("budget", str(file)) == dataclasses.replace(mini, model=str(file))
