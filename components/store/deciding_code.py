"""Statements -> what in them decides bytes of an artifact.

Left out are comments and formatting, docstrings, annotations (also imports under TYPE_CHECKING), the arguments of
exceptions, lines for the user (`say`), progress, and local names that only these have used.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

PROGRESS_MODULE = "bertline.progress"
SAY, PROGRESS = "say", "Progress"

EXCEPTIONS = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)
# Builtins by which a local name may be made for its assignment to go when nothing uses the name: they consume nothing.
WITHOUT_EFFECT = frozenset(("str", "len", "round", "repr", "format"))
BODIES = ("body", "orelse", "finalbody", "handlers", "cases")  # the fields that hold statements
UNKNOWN_EFFECT = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.comprehension, ast.Starred, ast.In, ast.NotIn)
IGNORED_FIELDS = frozenset(("ctx", "type_comment", "returns", "annotation", "simple", "cause", "msg"))


class Imported(NamedTuple):
    """What an import gives a name to: a module, or an attribute of one."""

    module: str
    attribute: str = ""


def write_deciding(statements: Sequence[ast.stmt], imports: Mapping[str, Imported]) -> tuple[str, set[str]]:
    """The statements of a definition as text, without what decides nothing, and the names that they use.

    An attribute of a name is one of the names ("np.sum"). What decides nothing is taken out of the statements, too.
    """
    names = _Names(imports)
    names.find_progress(node for statement in statements for node in ast.walk(statement))
    _strip(statements, names)
    for statement in statements:
        _strip_messages(statement)
    while True:
        written = _Written(names.progress)
        for statement in statements:
            written.add(statement)
        if not any(_drop_unused(statement, written.used) for statement in statements):
            return "\0".join(written.text), written.names


def keep_deciding(body: Iterable[ast.stmt], imports: Mapping[str, Imported]) -> Iterator[ast.stmt]:
    """The statements of a module that decide something; what is inside of functions is not looked into."""
    return _kept(body, _Names(imports))


def is_type_checking(statement: ast.AST) -> bool:
    """Whether it is `if TYPE_CHECKING:`."""
    return isinstance(statement, ast.If) and _dotted(statement.test).endswith("TYPE_CHECKING")


class _Names:
    """Which names stand for lines to the user and for progress."""

    def __init__(self, imports: Mapping[str, Imported]) -> None:
        self.say = {name for name, target in imports.items() if target == (PROGRESS_MODULE, SAY)}
        self.progress = {name for name, target in imports.items() if target == (PROGRESS_MODULE, PROGRESS)}
        self.bars: set[str] = set()

    def find_progress(self, nodes: Iterable[ast.AST]) -> None:
        """Note every variable and attribute that is given a Progress."""
        for node in nodes if self.progress else ():
            if isinstance(node, ast.withitem) and node.optional_vars and self.makes_progress(node.context_expr):
                self.bars.add(_dotted(node.optional_vars))
            elif isinstance(node, ast.Assign) and self.makes_progress(node.value):
                self.bars.update(map(_dotted, node.targets))
            elif isinstance(node, ast.arg) and node.annotation and _dotted(node.annotation) in self.progress:
                self.bars.add(node.arg)

    def makes_progress(self, value: ast.expr) -> bool:
        """Whether an expression is `Progress(...)`, or `stack.enter_context(Progress(...))`."""
        if not isinstance(value, ast.Call):
            return False
        is_entered = isinstance(value.func, ast.Attribute) and value.func.attr == "enter_context"
        return _dotted(value.func) in self.progress or (is_entered and any(map(self.makes_progress, value.args)))

    def is_of_progress(self, value: ast.expr) -> bool:
        """Whether an expression makes progress, or is a call of one's method: `progress.follow(count)`."""
        return self.makes_progress(value) or (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Attribute)
            and _dotted(value.func.value) in self.bars
        )

    def is_told(self, statement: ast.stmt) -> bool:
        """Whether a statement is a line for the user or an advance of progress."""
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
            return False
        return _dotted(statement.value.func) in self.say or self.is_of_progress(statement.value)


def _dotted(node: ast.AST) -> str:
    """`self.progress` of such a node; "" of others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant):
        return str(node.value)  # an annotation between quotes
    return f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def _strip(statements: Iterable[ast.AST], names: _Names) -> None:
    """Take what decides nothing out of all bodies below."""
    for statement in statements:
        for field in BODIES:
            below = getattr(statement, field, None)
            if isinstance(below, list):
                kept = list(_kept(below, names, in_class=isinstance(statement, ast.ClassDef)))
                setattr(statement, field, kept)
                _strip(kept, names)


def _strip_messages(statement: ast.stmt) -> None:
    """Take the arguments of `super().__init__` out of exception classes: they are the text of a message."""
    for node in ast.walk(statement):
        if isinstance(node, ast.ClassDef) and node.bases and all(_dotted(base) in EXCEPTIONS for base in node.bases):
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                    call.args, call.keywords = [], []


def _kept(body: Iterable[ast.stmt], names: _Names, *, in_class: bool = False) -> Iterator[ast.stmt]:
    """The statements that decide something."""
    for statement in body:
        if isinstance(statement, (ast.Pass, ast.Import, ast.ImportFrom)) or names.is_told(statement):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring, or the dots of a body without code
        if isinstance(statement, ast.If) and is_type_checking(statement):
            yield from _kept(statement.orelse, names)
        elif isinstance(statement, ast.With):
            statement.items = [item for item in statement.items if not names.is_of_progress(item.context_expr)]
            yield from [statement] if statement.items else _kept(statement.body, names)
        elif isinstance(statement, ast.If) and not statement.orelse and all(map(names.is_told, statement.body)):
            if not _is_without_effect(statement.test):
                yield ast.copy_location(ast.Expr(statement.test), statement)
        elif isinstance(statement, ast.AnnAssign) and not in_class:
            if statement.value is not None:
                yield ast.copy_location(ast.Assign([statement.target], statement.value), statement)
        else:
            yield statement


class _Written:
    """A syntax tree as text, without what decides nothing in expressions, and the names that it uses."""

    def __init__(self, progress: Set[str]) -> None:
        self._without_arguments = EXCEPTIONS | progress
        self.text: list[str] = []
        self.names: set[str] = set()  # "np.sum" where it is the attribute that is used
        self.used: set[str] = set()  # "np"

    def add(self, node: ast.AST) -> None:
        """Append what a node is and holds."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            self._use(node.value.id, f"{node.value.id}.{node.attr}")
            self.text += ("Attribute", node.value.id, node.attr)
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Store):
                self._use(node.id, node.id)
            self.text += ("Name", node.id)
        elif isinstance(node, ast.Constant):
            self.text += ("Constant", repr(node.value))
        elif isinstance(node, ast.AugAssign):
            self.used.add(_dotted(node.target))  # in place: what else holds the value has changed
            self._add_fields(node)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            self.text.append("Raise")
            self.add(node.exc.func)
        elif isinstance(node, ast.Call) and _dotted(node.func) in self._without_arguments:
            self.text.append("Call")
            self.add(node.func)
        else:
            self._add_fields(node)

    def _add_fields(self, node: ast.AST) -> None:
        text = self.text
        text.append(type(node).__name__)
        for field in node._fields:
            value = getattr(node, field, None)
            if value is None or value == [] or field in IGNORED_FIELDS:  # newer versions of Python have more
                continue
            text.append(field)
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    self.add(each)
                else:
                    text.append(repr(each))
        text.append(")")
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            self.used.update(node.names)
            self.names.update(node.names)

    def _use(self, name: str, as_part: str) -> None:
        self.used.add(name)
        self.names.add(as_part)


def _drop_unused(node: ast.AST, used: set[str], *, in_function: bool = False) -> bool:
    """Take assignments without an effect, to names that nothing uses, out of functions; whether one went."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        in_function = not isinstance(node, ast.ClassDef)
    dropped = False
    for field in BODIES:
        below = getattr(node, field, None)
        if isinstance(below, list):
            kept = [each for each in below if not (in_function and _is_unused(each, used))]
            setattr(node, field, kept)
            dropped |= len(kept) < len(below)
            for each in kept:
                dropped |= _drop_unused(each, used, in_function=in_function)
    return dropped


def _is_unused(statement: ast.AST, used: set[str]) -> bool:
    return (
        isinstance(statement, ast.Assign)
        and all(isinstance(target, ast.Name) and target.id not in used for target in statement.targets)
        and _is_without_effect(statement.value)
    )


def _is_without_effect(expression: ast.expr) -> bool:
    for node in ast.walk(expression):
        if isinstance(node, UNKNOWN_EFFECT):
            return False
        if isinstance(node, ast.Call) and _dotted(node.func) not in WITHOUT_EFFECT:
            return False
    return True
