"""A module's source -> its definitions, each with a digest of what decides bytes in it, and the names that it uses."""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from bertline.components.store.deciding_code import Imported, is_type_checking, keep_deciding, write_deciding

PACKAGE = "bertline"
AT_IMPORT = ""  # the name under which a module keeps the statements that run when it is imported


@dataclass(frozen=True)
class Definition:
    """A function, a class, a constant, or what a module does when it is imported."""

    digest: str  # of what decides bytes in it
    names: tuple[str, ...]  # that it uses, with their attributes ("np.sum"); those of local variables among them
    annotations: tuple[str, ...]  # names in those of parameters and fields: whatever a caller hands over may be that
    imports: Mapping[str, Imported]  # inside of it, by their names there
    is_class: bool


class Module:
    """A module's definitions and imports by name; a definition is looked into when it is asked for."""

    def __init__(self, source: str) -> None:
        body = ast.parse(source).body
        self.imports = _imports(body)
        for_types = (each for each in body if isinstance(each, ast.If) and is_type_checking(each))
        self.type_imports = _imports(statement for each in for_types for statement in each.body)
        self._statements: dict[str, list[ast.stmt]] = {}
        for statement in keep_deciding(body, self.imports):
            for name in _defined(statement):
                self._statements.setdefault(name, []).append(statement)
        self._definitions: dict[str, Definition] = {}

    def __contains__(self, name: str) -> bool:
        """Whether it defines the name."""
        return name in self._statements

    def __iter__(self) -> Iterator[str]:
        """The names that it defines; AT_IMPORT where it does something when it is imported."""
        return iter(self._statements)

    def __getitem__(self, name: str) -> Definition:
        """What it defines by that name."""
        if name not in self._definitions:
            self._definitions[name] = _definition(self._statements[name], self.imports)
        return self._definitions[name]


@lru_cache(maxsize=256)  # more than a step has
def read_module(source: str) -> Module:
    """The module that a source text defines."""
    return Module(source)


def _imports(nodes: Iterable[ast.AST]) -> dict[str, Imported]:
    """What imports among the nodes, or in statements that run with them, give names to; not what functions import."""
    found: dict[str, Imported] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                _add(found, {name: Imported(alias.name if alias.asname else name)})
                if "." in alias.name and not alias.asname:  # `import a.b` gives the name a, and loads a.b as well
                    _add(found, {alias.name: Imported(alias.name)})
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                _add(found, {alias.asname or alias.name: Imported(node.module or "", alias.name)})
        elif isinstance(node, (ast.If, ast.Try, ast.With)) and not is_type_checking(node):
            _add(found, _imports(ast.iter_child_nodes(node)))
        elif isinstance(node, ast.ExceptHandler):
            _add(found, _imports(node.body))
    return found


def _add(found: dict[str, Imported], more: Mapping[str, Imported]) -> None:
    """Add imports; raises ValueError where a name would have two meanings, of which only one could be followed."""
    for name, target in more.items():
        meanings = {found.get(name, target), target}
        if len(meanings) > 1 and any(each.module.partition(".")[0] == PACKAGE for each in meanings):
            both = " and as ".join(sorted(".".join(filter(None, each)) for each in meanings))
            raise ValueError(f"{name} is imported as {both}: a fingerprint follows one of them; give each its own name")
        found[name] = target


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module gives a meaning; AT_IMPORT for one that does something else."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = [each for target in statement.targets for each in getattr(target, "elts", [target])]
    elif isinstance(statement, ast.AugAssign):
        targets = [statement.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if targets and len(names) == len(targets) else [AT_IMPORT]


def _definition(statements: list[ast.stmt], imports: Mapping[str, Imported]) -> Definition:
    nodes = [node for statement in statements for node in ast.walk(statement)]
    inside = _imports(nodes)
    everywhere = dict(imports)
    _add(everywhere, inside)
    annotations = set(_annotated(nodes))
    text, names = write_deciding(statements, everywhere)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    is_class = isinstance(statements[0], ast.ClassDef)
    return Definition(digest, tuple(sorted(names)), tuple(sorted(annotations)), inside, is_class)


def _annotated(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names in annotations of parameters and, of a class, fields."""
    for node in nodes:
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            for part in ast.walk(node.annotation):
                if isinstance(part, ast.Name):
                    yield part.id
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from re.findall(r"\w+", part.value)
