import ast
import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from bertline.components.step_table import STEPS
from bertline.components.store import fingerprint as code

MODULES = {name: tuple(step.list_modules(step.inputs)) for name, step in STEPS.items()}
NEVER_CALLED = "\n\ndef never_called(number):\n    return number + 17\n"
NEW_DOCSTRING = '"""Another text."""'


def fingerprints() -> dict[str, str]:
    """Of every step, for the sources as they are now."""
    code.forget()
    return {step: code.code_fingerprint(modules) for step, modules in MODULES.items()}


@pytest.fixture(scope="module")
def real_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package's sources."""
    root = tmp_path_factory.mktemp("sources") / "bertline"
    shutil.copytree(code.ROOT, root, ignore=lambda _, names: [name for name in names if name == "__pycache__"])
    return root


@pytest.fixture(scope="module")
def before(real_tree: Path) -> dict[str, str]:
    """The fingerprints of the sources as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "ROOT", real_tree)
        return fingerprints()


@pytest.fixture
def tree(real_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That copy, which the test may edit and which is as it was afterwards."""
    contents = {file: file.read_bytes() for file in real_tree.rglob("*.py")}
    monkeypatch.setattr(code, "ROOT", real_tree)
    yield real_tree
    for file in set(real_tree.rglob("*.py")) - contents.keys():
        file.unlink()
    for file, content in contents.items():
        file.write_bytes(content)
    code.forget()


def files_in_reach(tree: Path) -> list[Path]:
    """Those whose code decides the bytes of some step."""
    modules = {module for named in MODULES.values() for module in code.code_digests(named)}
    return [tree.joinpath(*module.split(".")[1:]).with_suffix(".py") for module in sorted(modules)]


def with_edits(text: str, edits: Iterable[tuple[ast.AST, str]]) -> str:
    """The source with the texts of some of its nodes replaced."""
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    content = text.encode()
    places = [
        (starts[n.lineno - 1] + n.col_offset, starts[n.end_lineno - 1] + n.end_col_offset, new) for n, new in edits
    ]
    for start, end, new in sorted(places, reverse=True):
        content = content[:start] + new.encode() + content[end:]
    return content.decode()


def docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            yield node.body[0], NEW_DOCSTRING


def messages(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from ((argument, '"another message"') for argument in node.exc.args)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
            calls = (each for each in ast.walk(node) if isinstance(each, ast.Call))
            made = (call for call in calls if ast.unparse(call.func) == "super().__init__")
            yield from ((argument, '"another message"') for call in made for argument in call.args)


def said(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    yield from ((call.args[0], '"something else"') for call in calls_of(tree, "say"))


def labels(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    yield from ((argument, "None") for call in calls_of(tree, "Progress") for argument in call.args)


def advances(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "advance":
            yield node, f"{ast.unparse(node.func)}(17, speed='fast')"


def annotations(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns, '"another.type"'
        if isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name) and node.annotation.id in ("int", "str"):
            yield node.annotation, "float"


def calls_of(tree: ast.AST, name: str) -> list[ast.Call]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]


def edited(find: Callable[[ast.Module], Iterable[tuple[ast.AST, str]]]) -> Callable[[str], str]:
    return lambda text: with_edits(text, find(ast.parse(text)))


HARMLESS = {
    "comments": lambda text: re.sub(r"(?m)^( *)(def |class |return )", r"\1# a comment\n\1\2", text),
    "formatting": lambda text: ast.unparse(ast.parse(text)),  # takes all comments away, too
    "blank lines": lambda text: re.sub(r"(?m)^(?=def |class )", "\n\n", text),
    "docstrings": edited(docstrings),
    "messages of errors": edited(messages),
    "lines for the user": edited(said),
    "labels of progress": edited(labels),
    "facts of progress": edited(advances),
    "annotations": edited(annotations),
    "imports for types": lambda text: text + "\n\nif TYPE_CHECKING:\n    from bertline.components.steps import split\n",
    "an alias of types": lambda text: re.sub(r"\b(Advance|Arrays|Metrics|Row)\b", r"New\1", text),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_an_edit_of_all_modules_that_changes_no_bytes_changes_no_fingerprint(
    tree: Path, before: Mapping[str, str], kind: str
) -> None:
    changed = 0
    for file in files_in_reach(tree):
        text = file.read_text(encoding="utf-8")
        file.write_text(HARMLESS[kind](text), encoding="utf-8")
        changed += file.read_text(encoding="utf-8") != text
    assert changed > 4  # the edit finds something
    assert fingerprints() == before


def test_a_function_that_nothing_calls_changes_only_the_steps_whose_own_module_it_is_in(
    tree: Path, before: Mapping[str, str]
) -> None:
    for file in tree.rglob("*.py"):
        name = ".".join(["bertline", *file.relative_to(tree).with_suffix("").parts])
        if name not in {module for modules in MODULES.values() for module in modules}:
            file.write_text(
                file.read_text(encoding="utf-8") + "\n\ndef never_called(number):\n    return number + 17\n"
            )
    assert fingerprints() == before
    with (tree / "components" / "corpus" / "split.py").open("a") as file:
        file.write(NEVER_CALLED)
    assert [step for step, found in fingerprints().items() if found != before[step]] == ["split"]


@pytest.mark.parametrize("module", code.WITHOUT_BYTES)
def test_what_decides_no_bytes_may_change(tree: Path, before: Mapping[str, str], module: str) -> None:
    path = tree.joinpath(*module.split(".")[1:])
    files = list(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    for file in files:
        file.write_text(re.sub(r"\b\d+\b", "17", file.read_text(encoding="utf-8")), encoding="utf-8")
    assert fingerprints() == before


def test_moved_and_renamed_modules_change_no_fingerprint(tree: Path, before: Mapping[str, str]) -> None:
    (tree / "model" / "bert.py").rename(tree / "model" / "network.py")
    for file in tree.rglob("*.py"):
        file.write_text(re.sub(r"\bmodel\.bert\b", "model.network", file.read_text(encoding="utf-8")), encoding="utf-8")
    assert fingerprints() == before


def test_a_function_that_moves_to_another_module_changes_no_fingerprint(tree: Path, before: Mapping[str, str]) -> None:
    norms, network = tree / "model" / "norms.py", tree / "model" / "bert.py"
    text = network.read_text(encoding="utf-8")
    function = next(node for node in ast.parse(text).body if getattr(node, "name", "") == "layer_norm")
    network.write_text(with_edits(text, [(function, "from bertline.model.norms import layer_norm")]), encoding="utf-8")
    constants = re.findall(r"(?m)^LAYER_NORM_EPSILON = .*$", text)
    imports = [ast.get_source_segment(text, node) for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    moved = [*imports, *constants, ast.get_source_segment(text, function)]
    norms.write_text("\n".join(map(str, moved)), encoding="utf-8")
    assert fingerprints() == before


def test_what_several_hosts_do_is_code_of_the_steps_that_they_share(tree: Path, before: Mapping[str, str]) -> None:
    hosts = tree / "model" / "training" / "backends" / "hosts.py"
    text = hosts.read_text(encoding="utf-8")
    assert "if self.writes:" in text
    hosts.write_text(text.replace("if self.writes:", "if not self.writes:"), encoding="utf-8")
    changed = [step for step, found in fingerprints().items() if found != before[step]]
    assert changed == [name for name, step in STEPS.items() if step.shared]


def test_a_comment_beside_a_field_and_a_local_name_for_a_message_alone_change_nothing(
    tree: Path, before: Mapping[str, str]
) -> None:
    config = tree / "components" / "pretraining_data" / "config.py"
    text = config.read_text(encoding="utf-8")
    config.write_text(
        re.sub(r"(?m)^(    max_seq_length: int = 128).*$", r"\1  # another comment", text), encoding="utf-8"
    )
    start = tree / "model" / "pretraining" / "run.py"
    text = start.read_text(encoding="utf-8")
    assert '"raise stop_at_step, which counts over all stages"' in text
    start.write_text(text.replace("raise stop_at_step, which", "raise stop_at_step, that"), encoding="utf-8")
    assert config.read_text(encoding="utf-8").count("another comment") == 1
    assert fingerprints() == before


OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult}
OPERATORS |= {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}


def is_told(node: ast.AST) -> bool:
    """Whether a node is part of a message or of progress."""
    if isinstance(node, ast.Call):
        return re.fullmatch(r"say|Progress|.*\.advance|\w*Error", ast.unparse(node.func)) is not None
    return isinstance(node, (ast.JoinedStr, ast.Raise))


def names_in(node: ast.AST) -> set[str]:
    """The names that are used below a node, but for messages."""
    if is_told(node) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
        return set()
    return {node.id} if isinstance(node, ast.Name) else set().union(*map(names_in, ast.iter_child_nodes(node)))


def names_given(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}


def arithmetic(node: ast.AST, used: set[str] | None = None) -> Iterator[ast.AST]:
    """Numbers, operators and comparisons below a node, but for messages, progress and annotations."""
    if is_told(node) or (used is not None and isinstance(node, ast.Assign) and not names_given(node) <= used):
        return
    used = names_in(node) if used is None else used
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield node
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield node
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        yield node
    for field, below in ast.iter_fields(node):
        if field not in ("annotation", "returns", "msg", "cause"):
            for each in below if isinstance(below, list) else [below]:
                if isinstance(each, ast.AST):
                    yield from arithmetic(each, used)


def change(node: ast.AST) -> None:
    if isinstance(node, ast.Constant):
        node.value += 1
    elif isinstance(node, ast.BinOp):
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Compare):
        node.ops[0] = OPERATORS[type(node.ops[0])]()


def reached(step: str) -> dict[str, set[str]]:
    """The names of what decides a step's bytes, by module."""
    found: dict[str, set[str]] = {}
    for place in code._lines(code.ROOT, MODULES[step]):
        found.setdefault(place.module, set()).add(place.name)
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_seeded_edit_of_arithmetic_changes_the_fingerprint(tree: Path, before: Mapping[str, str], step: str) -> None:
    candidates = []
    for module, names in sorted(reached(step).items()):
        file = tree.joinpath(*module.split(".")[1:]).with_suffix(".py")
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for number, statement in enumerate(body):
            defined = names_given(statement) if isinstance(statement, ast.Assign) else {getattr(statement, "name", "")}
            if defined & names:
                candidates += [(file, number, place) for place, _ in enumerate(arithmetic(statement))]
    assert len(candidates) > 20
    for file, number, place in random.Random(step).sample(candidates, 8):
        text = file.read_text(encoding="utf-8")
        parsed = ast.parse(text)
        change(list(arithmetic(parsed.body[number]))[place])
        file.write_text(ast.unparse(parsed), encoding="utf-8")
        code.forget()
        assert code.code_fingerprint(MODULES[step]) != before[step], (file, ast.unparse(parsed.body[number]))
        file.write_text(text, encoding="utf-8")
