"""A digest of the code that decides an artifact's bytes: other bytes may come of it once it changes, and not before.

It covers the functions, classes and constants that a step's modules use, at any depth, wherever they are defined:
what moves to another module, or is added beside them, changes nothing.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bertline.components.store.deciding_code import Imported
from bertline.components.store.syntax import AT_IMPORT, PACKAGE, Definition, Module, read_module

ROOT = Path(__file__).parents[2]  # the folder of the package, whose subfolders are the floors

# Modules, or rooms of them, that decide no byte of an artifact; they are not followed.
WITHOUT_BYTES = {
    "bertline.progress": "what a terminal shows",
    "bertline.preemption": "when a training stops; it goes on to the bit",
    "bertline.processes": "when a process ends",
    "bertline.files": "how bytes come to the disk, not which",
    "bertline.components.pages": "pages lie beside an artifact, outside its digest",
    "bertline.components.run_process": "when a run, its steps and their workers end",
    "bertline.model.training.speed": "a training's speed, in no file of its checkpoint",
}


class Place(NamedTuple):
    """Where something is defined."""

    module: str
    name: str


Uses = dict[str, str | list[Place]]  # by name: a thing of another library, or what it is in bertline


def code_fingerprint(modules: Sequence[str]) -> str:
    """Hexadecimal digest of what `modules` define and of all of bertline that this uses."""
    return _digest(_lines(ROOT, tuple(modules)).values())


def code_digests(modules: Sequence[str]) -> dict[str, str]:
    """A digest for each module that has a part in it, so that a message can say which one has changed."""
    by_module: dict[str, list[str]] = {}
    for place in sorted(_lines(ROOT, tuple(modules))):
        by_module.setdefault(place.module, []).append(f"{place.name} {_source(ROOT).definition(place).digest}")
    return {module: _digest(lines) for module, lines in by_module.items()}


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()[:16]


def forget() -> None:
    """Read the sources again when they are needed next."""
    _source.cache_clear()
    _lines.cache_clear()


@cache
def _lines(root: Path, modules: tuple[str, ...]) -> dict[Place, str]:
    """Of each definition in reach its line, where it lies."""
    source = _source(root)
    return {place: source.line(place) for place in source.find_reached(modules)}


@cache
def _source(root: Path) -> "_Source":
    return _Source(root)


class _Source:
    """The modules below a folder, read when they are needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._modules: dict[str, Module | None] = {}
        self._used: dict[Place, Uses] = {}
        self._written: dict[Place, str] = {}

    def line(self, place: Place) -> str:
        """A definition's name, its digest, and what the names in it stand for: not where it lies."""
        if place not in self._written:
            uses = sorted(self._uses(place).items())
            meanings = [f"{name}={self._meaning(used)}" for name, used in uses]
            self._written[place] = " ".join([place.name, self.definition(place).digest, *meanings])
        return self._written[place]

    def find_reached(self, modules: Iterable[str]) -> set[Place]:
        """All that `modules` define, and what is used by it at any depth."""
        found: set[Place] = set()
        imported: set[str] = set()
        waiting = []
        for module in modules:
            waiting += [*self._list_declared(module), *self._run_at_import(module, imported)]
        while waiting:
            place = waiting.pop()
            if place in found:
                continue
            found.add(place)
            used = self._uses(place).values()
            waiting += [each for places in used if not isinstance(places, str) for each in places]
            waiting += self._find_annotated_classes(place)
            for module in (place.module, *(target.module for target in self.definition(place).imports.values())):
                waiting += self._run_at_import(module, imported)
        return found

    def definition(self, place: Place) -> Definition:
        """What is defined at a place."""
        module = self._module(place.module)
        assert module is not None
        return module[place.name]

    def _list_declared(self, name: str) -> list[Place]:
        if self._module(name) is None and not _is_without_bytes(name):
            raise ValueError(f"{name}: no such module, but a step names it as its code; correct the step's declaration")
        return self._whole(name)

    def _meaning(self, used: str | list[Place]) -> str:
        return used if isinstance(used, str) else ",".join(sorted(self.definition(place).digest for place in used))

    def _uses(self, place: Place) -> Uses:
        if place not in self._used:
            self._used[place] = dict(self._find_uses(place))
        return self._used[place]

    def _find_uses(self, place: Place) -> Iterator[tuple[str, str | list[Place]]]:
        module, definition = self._module(place.module), self.definition(place)
        assert module is not None
        imports = {**module.imports, **definition.imports}
        for name in definition.names:
            first, _, attribute = name.partition(".")
            if first in module and first not in definition.imports:
                yield name, [Place(place.module, first)]
            elif first in imports:
                yield name, self._resolve(imports[first], attribute)

    def _find_annotated_classes(self, place: Place) -> Iterator[Place]:
        """The classes of bertline that a caller may hand over, such as a step's config."""
        module, definition = self._module(place.module), self.definition(place)
        assert module is not None
        imports = {**module.type_imports, **module.imports, **definition.imports}
        for name in definition.annotations:
            named: str | list[Place] = [Place(place.module, name)] if name in module else []
            if not named and name in imports:
                named = self._resolve(imports[name])
            if not isinstance(named, str):
                yield from (each for each in named if self.definition(each).is_class)

    def _resolve(self, target: Imported, attribute: str = "") -> str | list[Place]:
        """What an import gives its name to, or of a module that attribute; nothing where that decides no bytes."""
        inner = ".".join(filter(None, target))
        if target.module.partition(".")[0] != PACKAGE:
            return inner
        path = self._root.joinpath(*inner.split(".")[1:])
        is_package = path.is_dir() and not path.with_suffix(".py").is_file()
        if attribute and (is_package or self._module(inner) is not None):
            return self._resolve(Imported(inner, attribute))
        if is_package and not _is_without_bytes(inner):
            raise ValueError(f"{inner} is a package, in which nothing is followed: write `from {inner} import MODULE`")
        if self._module(inner) is not None:
            return self._whole(inner)
        module = self._module(target.module)
        if module is None or _is_without_bytes(target.module):
            return []
        if target.attribute in module:
            return [Place(target.module, target.attribute)]
        if target.attribute in module.imports:
            return self._resolve(module.imports[target.attribute])
        return self._whole(target.module)

    def _whole(self, name: str) -> list[Place]:
        module = None if _is_without_bytes(name) else self._module(name)
        return [] if module is None else [Place(name, each) for each in module]

    def _run_at_import(self, name: str, imported: set[str]) -> Iterator[Place]:
        """What runs when a module is imported: its own statements, its packages' and those of what it imports."""
        if name in imported or _is_without_bytes(name) or name.partition(".")[0] != PACKAGE:
            return
        imported.add(name)
        yield from self._run_at_import(name.rpartition(".")[0], imported)
        module = self._module(name)
        if module is not None:
            if AT_IMPORT in module:
                yield Place(name, AT_IMPORT)
            for target in module.imports.values():
                yield from self._run_at_import(target.module, imported)
                yield from self._run_at_import(f"{target.module}.{target.attribute}", imported)

    def _module(self, name: str) -> Module | None:
        """A module or package of bertline; None for anything else."""
        if name not in self._modules:
            path = self._root.joinpath(*name.split(".")[1:])
            files = [path.with_suffix(".py"), path / "__init__.py"]
            file = next((file for file in files if file.is_file()), None) if name.startswith(f"{PACKAGE}.") else None
            self._modules[name] = None if file is None else read_module(file.read_text(encoding="utf-8"))
        return self._modules[name]


def _is_without_bytes(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in WITHOUT_BYTES)
