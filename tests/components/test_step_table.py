"""What the declarations promise holds: their modules are there, and fit together."""

import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Any

import pytest

from bertline.components import steps
from bertline.components.declaration import FILE, TEXT, Input, Step, describe_making, load
from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.step_table import STEPS
from bertline.components.store.artifacts import Provenance
from bertline.model.finetuning.run import FinetuneConfig
from bertline.model.pretraining.config import PretrainConfig
from bertline.settings import name_backend


@pytest.mark.parametrize("step", STEPS.values(), ids=list(STEPS))
def test_what_a_step_names_is_there_and_takes_its_inputs(step: Step) -> None:
    assert dataclasses.is_dataclass(step.config_class())
    given = {"out": Path(), "config": None, **dict.fromkeys(step.inputs)}
    further = {"work": step.resumes or step.trains, "log_dir": step.trains, "digests": step.trains}
    further |= {"hosts": step.shared}
    inspect.signature(load(step.run)).bind(**given, **{name: None for name, asked in further.items() if asked})
    for reference in (*step.requires, *(each.read for each in step.inputs.values() if each.read)):
        assert callable(load(reference))


def test_the_page_of_components_shows_one_as_it_is() -> None:
    assert textwrap.indent(steps.write_source(STEPS["split"]), "    ") in str(steps.__doc__)


@pytest.mark.parametrize("summary", ['"text" -> """text"""', "a\\b -> 'ü'"])
def test_a_summary_may_hold_any_character(summary: str) -> None:
    names = dict(vars(steps.dsl))
    exec(steps.write_source(dataclasses.replace(STEPS["split"], summary=summary)), names)
    assert names["split"].__doc__ == f"{summary}."


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = 3


def step_of(**inputs: Input) -> Step:
    return Step("write", "", "", inputs, "nowhere:Config", "json:dumps", "texts_{config.size}", "texts")


def test_an_input_that_takes_the_place_of_another_alone_decides_the_artifact(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
    step = step_of(old=Input(FILE, ""), new=Input(FILE, "", optional=True, instead_of="old", recorded_as="newest"))
    values = {"old": tmp_path / "old", "new": str(tmp_path / "new")}
    assert step.select_inputs(values) == {"new": tmp_path / "new"}
    made = describe_making(step, Config(), step.select_inputs(values))
    assert (made.kind, made.inputs) == ("texts_3", {"newest": [tmp_path / "new"]})
    assert step.select_inputs({"old": tmp_path / "old", "new": None}) == {"old": tmp_path / "old"}


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="step write: text is missing; give a text"):
        step_of(text=Input(FILE, "a text")).select_inputs({"text": ""})


def test_the_code_that_reads_an_input_counts_where_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    step = step_of(text=Input(FILE, "", optional=True, read="gzip:open"))
    assert describe_making(step, Config(), {}).code == ["json"]
    assert describe_making(step, Config(), {"text": tmp_path / "text"}).code == ["json", "gzip"]


@pytest.mark.parametrize("name", ["two words", "max-length", "2nd", "", "class", "out", "store", "metrics", "hosts"])
def test_names_that_a_verb_or_a_component_cannot_have_are_refused(name: str) -> None:
    message = f'"{name}" cannot name a step, an input or an output'
    with pytest.raises(ValueError, match=message):
        step_of(**{name: Input(FILE, "")})
    for declared in ("name", "output"):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(step_of(text=Input(FILE, "")), **{declared: name})


def test_an_output_that_is_called_like_an_input_is_refused() -> None:
    with pytest.raises(ValueError, match="step write: an input and the output are called texts; rename one"):
        step_of(texts=Input(FILE, ""))


def test_a_text_that_would_leave_no_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="step write: language decides bytes; name it in kind, or declare sources"):
        step_of(language=Input(TEXT, ""))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("bert_config.json", lambda file: PretrainConfig(model=str(file))),
        ("words_of_mine.py", lambda file: PrepareConfig(segmenter=f"{file.stem}:words_of")),
    ],
)
def test_what_a_file_says_that_a_setting_names_is_part_of_the_identity(
    name: str, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)

    def identity(content: str) -> str:
        (tmp_path / name).write_text(content)
        return Provenance("kind", "step", {}, config(tmp_path / name), []).fingerprint()

    assert identity("# one") == identity("# one") != identity("# two")


@pytest.mark.parametrize("config", [PretrainConfig(), FinetuneConfig()])
def test_what_another_backend_computes_is_another_artifact(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, named in (("tensorflow", ""), ("jax", "jax"), ("", "")):
        monkeypatch.setenv("KERAS_BACKEND", variable)
        assert name_backend(config).backend == named
        chosen = dataclasses.replace(config, backend="tensorflow")
        assert name_backend(chosen) == chosen
    assert name_backend(PrepareConfig()) == PrepareConfig()
