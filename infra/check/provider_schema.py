"""The arguments of the google provider's resources, read from the bindings that are generated from its schema.

cdktn-provider-google holds a Python module for each resource, with a class for its arguments and for each block in it:
keyword arguments without a default are required, and each one's text links to the name in Terraform's registry. They
are read as text, out of the wheel: nothing of it is installed or run.
"""

import ast
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = "cdktn_provider_google"
DOCUMENTED = re.compile(r":param (\w+): .*?\{@link \S+#(\S+) ")
VERSION = re.compile(r"hashicorp/google provider version (\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class Argument:
    """An argument, or a block of arguments."""

    required: bool
    repeated: bool = False  # a block that may be given more than once
    block: "dict[str, Argument] | None" = None


@dataclass(frozen=True)
class Resource:
    """What a type of resource takes and gives."""

    arguments: dict[str, Argument]
    attributes: set[str]  # what references may read


@dataclass
class Schema:
    """The provider's types, each read when it is first asked for and kept in a file beside the wheel."""

    wheel: Path
    _known: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open the wheel, and what was read of it before."""
        self._cache = self.wheel.with_suffix(".json")
        if self._cache.is_file():
            self._known = json.loads(self._cache.read_text(encoding="utf-8"))
        self._archive = zipfile.ZipFile(self.wheel)
        self._names = set(self._archive.namelist())

    @property
    def version(self) -> str:
        """The provider's."""
        (metadata,) = (name for name in self._names if name.endswith(".dist-info/METADATA"))
        found = VERSION.search(self._archive.read(metadata).decode())
        return found[1] if found else ""

    def find(self, kind: str, of_data: bool = False) -> Resource | None:
        """A type of resource or, `of_data`, of data source, such as google_storage_bucket; None: there is none."""
        module = f"data_{kind}" if of_data else kind.removeprefix("google_")
        if module not in self._known:
            names = (f"{PACKAGE}/{module}/__init__.py", f"{PACKAGE}/{module}_/__init__.py")
            path = next((name for name in names if name in self._names), None)
            self._known[module] = None if path is None else _read_module(self._archive.read(path).decode())
            self._cache.write_text(json.dumps(self._known), encoding="utf-8")
        read = self._known[module]
        return None if read is None else Resource(_as_arguments(read["arguments"]), set(read["attributes"]))

    def list_kinds(self) -> list[str]:
        """All types of resources."""
        modules = {name.split("/")[1] for name in self._names if name.startswith(f"{PACKAGE}/")}
        return sorted(f"google_{module.rstrip('_')}" for module in modules if not module.startswith(("data_", "_")))


def _read_module(source: str) -> dict[str, Any]:
    """The arguments of the one class that stands for the resource, with those of its blocks in place."""
    classes = {each.name: each for each in ast.parse(source).body if isinstance(each, ast.ClassDef)}
    inits = {name: init for name, each in classes.items() if (init := _find_init(each)) is not None}
    (config,) = (
        name
        for name, each in classes.items()
        if name.endswith("Config") and any("TerraformMetaArguments" in ast.unparse(base) for base in each.bases)
    )
    main = classes[config.removesuffix("Config")]
    attributes = [each.name for each in main.body if isinstance(each, ast.FunctionDef) and each.decorator_list]
    return {"arguments": _list_arguments(config, inits), "attributes": attributes}


def _find_init(each: ast.ClassDef) -> ast.FunctionDef | None:
    return next((body for body in each.body if isinstance(body, ast.FunctionDef) and body.name == "__init__"), None)


def _list_arguments(name: str, inits: dict[str, ast.FunctionDef]) -> dict[str, Any]:
    """Argument -> [required, repeated, arguments of the block or None]."""
    init = inits[name]
    documented = dict(DOCUMENTED.findall(ast.get_docstring(init, clean=False) or ""))
    found = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        if argument.arg in documented and argument.annotation is not None:
            kind = ast.unparse(argument.annotation)
            blocks = [each for each in re.findall(r"'(\w+)'", kind) if each in inits]
            block = _list_arguments(blocks[0], inits) if blocks else None
            found[documented[argument.arg]] = [default is None, "Sequence[" in kind and bool(blocks), block]
    return found


def _as_arguments(read: dict[str, Any]) -> dict[str, Argument]:
    return {
        name: Argument(required, repeated, None if block is None else _as_arguments(block))
        for name, (required, repeated, block) in read.items()
    }
