"""What a fingerprint follows, leaves out and refuses, each in a package of a few lines."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertline.components.store import fingerprint as code


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes the modules of a small package, and returns the fingerprint of its module `model.loop`."""
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def fingerprint(**modules: str) -> str:
        for name, text in modules.items():
            file = tmp_path / "model" / f"{name}.py"
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(text)
        code.forget()
        return code.code_fingerprint(["bertline.model.loop"])

    yield fingerprint
    code.forget()


FOLLOWED = {
    "import": "from bertline.model.rates import RATE\nstep = RATE",
    "import in a function": "def step():\n    from bertline.model.rates import RATE\n    return RATE",
    "import by another name": "from bertline.model.rates import RATE as speed\nstep = speed",
    "module": "from bertline.model import rates\ndef step():\n    return rates.RATE",
    "module handed on": "from bertline.model import rates\ndef step():\n    return vars(rates)",
    "import in a try": "try:\n    from bertline.model.rates import RATE\nexcept ImportError:\n    pass\nstep = RATE",
    "beside what is named": "from bertline.model.rates import SPEED\nstep = SPEED",
}


@pytest.mark.parametrize("way", FOLLOWED)
def test_what_is_used_is_followed(small: Callable[..., str], way: str) -> None:
    assert small(loop=FOLLOWED[way], rates="RATE = 1\nSPEED = RATE") != small(rates="RATE = 2\nSPEED = RATE")


def test_the_class_of_a_value_that_callers_hand_over_is_followed(small: Callable[..., str]) -> None:
    config = "class Config:\n    def rate(self):\n        return {}\n"
    loop = (
        "if TYPE_CHECKING:\n    from bertline.model.config import Config\ndef run(config: 'Config | None'):\n    pass\n"
    )
    assert small(loop=loop, config=config.format(1)) != small(config=config.format(2))


def test_what_a_module_does_when_it_is_imported_is_followed(small: Callable[..., str]) -> None:
    loop = "from bertline.model.rates import RATE\n"
    assert small(loop=loop, rates="RATE = 1\nsetup(1)\n") != small(rates="RATE = 1\nsetup(2)\n")


def test_another_function_of_the_same_name_is_another_one(small: Callable[..., str]) -> None:
    loop = "from bertline.model.{} import rate\nimport bertline.model.one\nimport bertline.model.two\nstep = rate()\n"
    rates = {"one": "def rate():\n    return 1\n", "two": "def rate():\n    return 2\n"}
    assert small(loop=loop.format("one"), **rates) != small(loop=loop.format("two"))


def test_the_library_behind_a_name_counts(small: Callable[..., str]) -> None:
    loop = "import {} as np\nstep = np.ones(3)\n"
    assert small(loop=loop.format("numpy")) != small(loop=loop.format("jax.numpy"))


def test_the_digests_say_which_module_changed(small: Callable[..., str]) -> None:
    small(loop="from bertline.model.rates import RATE\nstep = RATE\n", rates="RATE = 1\n")
    before = code.code_digests(["bertline.model.loop"])
    small(rates="RATE = 2\n")
    after = code.code_digests(["bertline.model.loop"])
    assert {module for module in before if before[module] != after[module]} == {"bertline.model.rates"}


ONE, TWO = (f"from bertline.model.{name} import rate\n" for name in ("one", "two"))
EFFECTS = {
    "a method of its own": "    done = rows.map(write)\n",
    "a sum": "    total = sum(rows)\n",
    "a comprehension": "    total = len([row for row in rows])\n",
    "a search": "    found = 3 in rows\n",
    "a text of all": "    shown = ', '.join(rows)\n",
}


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_assignment_that_may_change_what_others_hold_counts(small: Callable[..., str], effect: str) -> None:
    step = "def step(rows):\n{}    return rows\n"
    assert small(loop=step.format(EFFECTS[effect])) != small(loop=step.format(""))


def test_which_part_is_edited_in_place_counts(small: Callable[..., str]) -> None:
    step = "def step(rows):\n    part = rows[0:{}]\n    part += 1\n    return rows\n"
    assert small(loop=step.format(3)) != small(loop=step.format(4))


def test_a_local_name_that_only_a_message_uses_does_not_count(small: Callable[..., str]) -> None:
    step = "def step(rows):\n    text = {}\n    raise ValueError(text)\n"
    assert small(loop=step.format("f'{len(rows)} rows'")) == small(loop=step.format("str(rows[0]) + ' is the first'"))


PROGRESS = "from bertline.progress import Progress\ndef step(write, xs, stack):\n    {}\n"


@pytest.mark.parametrize("call", ["write(xs, {}, Progress('x'))", "with write(xs, {}, Progress('x')):\n        pass"])
def test_a_call_that_is_handed_progress_counts(small: Callable[..., str], call: str) -> None:
    assert small(loop=PROGRESS.format(call.format(1))) != small(loop=PROGRESS.format(call.format(2)))


def test_what_is_told_to_progress_that_a_stack_enters_does_not_count(small: Callable[..., str]) -> None:
    entered = "bar = stack.enter_context(Progress('{}'))\n    {}write(xs)"
    told = PROGRESS.format(entered.format("x", "bar.advance(len(xs))\n    "))
    assert small(loop=told) == small(loop=PROGRESS.format(entered.format("y", "")))


def test_the_text_that_an_exception_is_made_with_does_not_count(small: Callable[..., str]) -> None:
    loop = "class Failed({}):\n    def __init__(self, step):\n        super().__init__(f'{} {{step}}')\n"
    assert small(loop=loop.format("ValueError", "at")) == small(loop=loop.format("ValueError", "step"))
    assert small(loop=loop.format("dict", "at")) != small(loop=loop.format("dict", "step"))


TWO_METHODS = (
    "class Step:\n    def first(self):\n        {}        return rate\n"
    "    def second(self):\n        {}        return rate\n"
)
TWO_MEANINGS = {
    "if and else": f"if FAST:\n    {ONE}else:\n    {TWO}",
    "try and except": f"try:\n    import rates as rate\nexcept ImportError:\n    {ONE}",
    "two methods": TWO_METHODS.format(ONE, TWO),
    "one method": ONE + TWO_METHODS.format("pass\n", TWO),
}


@pytest.mark.parametrize("way", TWO_MEANINGS)
def test_a_name_that_two_imports_give_two_meanings_is_refused(small: Callable[..., str], way: str) -> None:
    with pytest.raises(ValueError, match=r"rate is imported as bertline\.model\.one.* and as .*rate"):
        small(loop=TWO_MEANINGS[way], one="rate = 1\n", two="rate = 2\n")


PACKAGES = {
    "dots": "import bertline.model.rates\nstep = bertline.model.rates.RATE\n",
    "dots in a function": "def step():\n    import bertline.model.rates\n    return bertline.model.rates.RATE\n",
    "dots after a package": "from bertline import model\nstep = model.inner.rates.RATE\n",
    "package handed on": "import bertline.model as model\nstep = vars(model)\n",
}


@pytest.mark.parametrize("way", PACKAGES)
def test_a_module_that_is_reached_through_its_package_is_refused(small: Callable[..., str], way: str) -> None:
    with pytest.raises(ValueError, match=r"(bertline\.model(\.inner)?) is a package.*write `from \1 import MODULE`"):
        small(loop=PACKAGES[way], rates="RATE = 1\n", **{"inner/rates": "RATE = 1\n"})


def test_another_library_may_stand_in_for_one(small: Callable[..., str]) -> None:
    assert small(loop="try:\n    import ujson as json\nexcept ImportError:\n    import json\nstep = json.loads\n")


def test_a_step_whose_code_is_not_there_is_refused(small: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match=r"bertline\.model\.loop: no such module"):
        small()
