"""Terraform's files: they can be read, each resource is as the provider's schema wants it, each reference leads to
something that is declared. What `terraform validate` would find, without the provider.
"""

import difflib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.check.finding import Finding, line_at, line_of, read
from infra.check.provider_schema import Argument, Resource, Schema

FOLDER = "infra/terraform"
META = {"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner", "connection"}  # of every resource
MARKS = ("dynamic", "__is_block__")  # of the parser
REFERENCE = re.compile(r"(?<![\w.\"-])(var|local|data\.google_\w+|google_\w+)\.(\w+)(?:\[[^]\n]*\])?(?:\.(\w+))?")
LOCALS = re.compile(r"^locals \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)


def list_files(root: Path) -> dict[str, str]:
    """Name -> text of the files, those that cannot be read as HCL among them."""
    return {f"{FOLDER}/{path.name}": path.read_text(encoding="utf-8") for path in sorted(root.glob(f"{FOLDER}/*.tf"))}


def parse(text: str) -> dict[str, Any]:
    """A file as nested dicts and lists; lark's errors, which know the line, where it cannot be read."""
    import hcl2
    from hcl2.utils import SerializationOptions

    options = SerializationOptions(with_comments=False, strip_string_quotes=True)
    return dict(hcl2.loads(text, serialization_options=options))


def check_syntax(root: Path) -> Iterator[Finding]:
    """Files that cannot be read, and such as `terraform fmt` would write differently, where there is a terraform."""
    from lark.exceptions import UnexpectedInput

    for name, text in list_files(root).items():
        try:
            parse(text)
        except UnexpectedInput as error:
            yield Finding(name, max(int(error.line), 0), f"is no HCL: {str(error).splitlines()[0]}")
    if shutil.which("terraform"):
        command = ["terraform", f"-chdir={root / FOLDER}", "fmt", "-check"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in ended.stdout.splitlines():
            if line.endswith(".tf"):
                yield Finding(f"{FOLDER}/{line}", 0, "is not formatted", f"terraform fmt {FOLDER}")


def check_schema(root: Path, schema: Schema) -> Iterator[Finding]:
    """Types that there are not, arguments that are unknown, missing, or of another shape."""
    for name, text, parsed in _list_parsed(root):
        for kind, title, body in _list_blocks(parsed, "resource"):
            yield from _check_one(name, text, schema.find(kind), ("resource", kind, title), body, schema)
        for kind, title, body in _list_blocks(parsed, "data"):
            yield from _check_one(name, text, schema.find(kind, of_data=True), ("data", kind, title), body, schema)
        for block in parsed.get("terraform", []):
            for providers in block.get("required_providers", []):
                wanted = providers.get("google", {}).get("version", "")
                if wanted != f"~> {schema.version}":
                    line = line_of(text, r"^[ \t]*version\s*=")
                    yield Finding(name, line, f'the provider\'s version is "{wanted}"', f"the files are held against {schema.version}: write \"~> {schema.version}\", or pin other bindings in infra/check/requirements-provider.lock")  # fmt: skip  # noqa: E501


def _list_parsed(root: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    from lark.exceptions import UnexpectedInput

    for name, text in list_files(root).items():
        try:
            yield name, text, parse(text)
        except UnexpectedInput:  # check_syntax says so
            continue


def _list_blocks(parsed: Mapping[str, Any], section: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for block in parsed.get(section, []):
        for kind, titles in block.items():
            if kind not in MARKS:
                yield from ((kind, title, body) for title, body in titles.items() if title not in MARKS)


def _check_one(
    name: str, text: str, found: Resource | None, header: tuple[str, str, str], body: dict[str, Any], schema: Schema
) -> Iterator[Finding]:
    section, kind, title = header
    line = line_of(text, rf'^{section} "{kind}" "{title}"')
    where = f"{kind}.{title}"
    if found is None:
        near = difflib.get_close_matches(kind, schema.list_kinds(), 1)
        advice = f"did you mean {near[0]}?" if near else ""
        yield Finding(name, line, f"{where}: google {schema.version} has no {section} {kind}", advice)
        return
    body = {key: value for key, value in body.items() if key not in META}
    yield from _check_block(name, text, line, where, body, found.arguments)


def _check_block(
    name: str, text: str, line: int, where: str, body: dict[str, Any], arguments: dict[str, Argument]
) -> Iterator[Finding]:
    dynamic = {kind: each for block in body.get("dynamic", []) for kind, each in block.items() if kind not in MARKS}
    given = {key: value for key, value in body.items() if key not in MARKS}
    given |= {kind: each.get("content", []) for kind, each in dynamic.items()}
    for key, value in given.items():
        here = line_of(text, rf'^[ \t]*(dynamic ")?{re.escape(key)}\b', line) or line
        if key not in arguments:
            near = difflib.get_close_matches(key, arguments, 1)
            yield Finding(name, here, f"{where}: unknown argument {key}", f"did you mean {near[0]}?" if near else "")
            continue
        argument = arguments[key]
        blocks = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)]
        if argument.block is None:
            if any("__is_block__" in each for each in blocks):
                yield Finding(name, here, f"{where}: {key} is no block", f"write {key} = ...")
            continue
        if not isinstance(value, list) and not str(value).startswith("${"):
            yield Finding(name, here, f"{where}: {key} is a block", f"write {key} {{ ... }}")
        if len(blocks) > 1 and not argument.repeated:
            yield Finding(name, here, f"{where}: {key} is given {len(blocks)} times", "it may be given once")
        for block in blocks:
            yield from _check_block(name, text, here, f"{where}.{key}", block, argument.block)
            here = line_of(text, rf"^[ \t]*{re.escape(key)} \{{", here + 1) or here  # the next of its kind
    for key, argument in arguments.items():
        if argument.required and key not in given:
            yield Finding(name, line, f"{where}: {key} is missing", "it must be given")


def check_references(root: Path, schema: Schema) -> Iterator[Finding]:
    """References to what is not declared, attributes that there are not, and variables that nothing reads."""
    files = {name: _without_comments(text) for name, text in list_files(root).items()}
    whole = "\n".join(files.values())
    declared = {f"var.{each}" for each in re.findall(r'^variable "(\w+)"', whole, re.MULTILINE)}
    declared |= {f"{kind}.{title}" for kind, title in re.findall(r'^resource "(\w+)" "(\w+)"', whole, re.MULTILINE)}
    declared |= {f"data.{kind}.{title}" for kind, title in re.findall(r'^data "(\w+)" "(\w+)"', whole, re.MULTILINE)}
    for block in LOCALS.findall(whole):
        declared |= {f"local.{each}" for each in re.findall(r"^  (\w+)\s*=", block, re.MULTILINE)}
    read_ones = set()
    for name, text in files.items():
        for found in REFERENCE.finditer(text):
            target, line = f"{found[1]}.{found[2]}", line_at(text, found.start())
            read_ones.add(target)
            if target not in declared:
                yield Finding(name, line, f"{target} is not declared", "declare it, or mend the name")
            elif found[3] and not found[1].startswith(("var", "local")):
                of_data = found[1].startswith("data.")
                resource = schema.find(found[1].removeprefix("data."), of_data)
                if resource is not None and found[3] not in resource.attributes:
                    yield Finding(name, line, f"{target} has no attribute {found[3]}")
    for each in sorted(each for each in declared - read_ones if each.startswith(("var.", "local."))):
        kind, title = each.split(".")
        pattern = rf'^variable "{title}"' if kind == "var" else rf"^  {title}\s*="
        name = next(name for name, text in files.items() if line_of(text, pattern))
        yield Finding(name, line_of(files[name], pattern), f"nothing reads {each}", "remove it")


def _without_comments(text: str) -> str:
    return re.sub(r"(^|\s)#[^\n]*", r"\1", text)


def validate(root: Path, folder: Path) -> Iterator[Finding]:
    """Terraform's own word, with the provider, which it downloads."""
    copy = folder / "terraform-validate"
    shutil.copytree(root / FOLDER, copy, dirs_exist_ok=True)
    for command in (["init", "-backend=false", "-input=false"], ["validate"]):
        ended = subprocess.run(
            ["terraform", f"-chdir={copy}", *command, "-no-color"], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            yield Finding(FOLDER, 0, f"terraform {command[0]}: {ended.stderr.strip() or ended.stdout.strip()}")
            return


def read_defaults(root: Path, variable: str) -> dict[str, str]:
    """The fields of the default of a variable that is an object: machine_type -> "ct5lp-hightpu-4t"."""
    block = re.search(rf'^variable "{variable}" \{{(.*?)^\}}', read(root, f"{FOLDER}/variables.tf"), re.DOTALL | re.M)
    default = re.search(r"default\s*=\s*\{([^}]*)\}", block[1]) if block else None
    return {} if default is None else dict(re.findall(r'(\w+)\s*=\s*"?([^",}]+?)"?\s*(?:,|$)', default[1].strip()))
