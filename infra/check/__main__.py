"""`make infra-check`: all of infra/ held against what can be known without a cloud.

Prints a line for each check: what is right, what is wrong with file and line, and what could not be checked here. Ends
with 1 where something is wrong, 2 where the check's own tools cannot be installed, else 0.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from infra.check import agreement, cloudbuild, engine, environments, images, linters, manifests, rights, terraform
from infra.check.finding import Finding, Unchecked
from infra.check.provider_schema import Schema

ROOT = Path(__file__).parents[2]
WRONG, NO_TOOLS = 1, 2
Check = Callable[[], Iterable[Finding]]
NO_VALIDATE = "it downloads the provider; ARGS=--terraform asks for it"
NO_ENGINE_ASKED = "an engine answers, but it takes minutes and 5 GB; ARGS=--engine asks for it"


@dataclass
class Report:
    """What has been found so far."""

    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    lacks_tools: bool = False

    def make(self, title: str, check: Check) -> None:
        """Make one check and print what came of it."""
        try:
            found = sorted(set(check()))
        except Unchecked as reason:
            self.unchecked.append(f"{title}: {reason}")
            print(f"-     {title}: not checked: {reason}", flush=True)
            return
        self.findings += found
        print(f"{'WRONG' if found else 'ok   '} {title}", flush=True)
        for each in found:
            print(f"      {each}", flush=True)

    def end(self) -> int:
        """The last lines, and the exit code."""
        if self.unchecked:
            print("\nNot checked here:")
            print("\n".join(f"  {each}" for each in self.unchecked))
        count = len(self.findings)
        print(f"\n{count} {'thing is' if count == 1 else 'things are'} wrong" if count else "\nnothing is wrong")
        return WRONG if self.findings else NO_TOOLS if self.lacks_tools else 0


def list_checks(root: Path, folder: Path) -> Iterator[tuple[str, str, Check]]:
    """Title, what it needs ("": nothing but Python) and the check itself, in order."""
    tools, rendered = folder / environments.TOOLS, folder / "rendered"
    yield "images", "", lambda: images.check_images(root)
    yield "names that files share", "", lambda: agreement.check_agreement(root)
    yield "rights", "", lambda: rights.check_roles(root)
    yield "buckets", "", lambda: rights.check_buckets(root)
    yield "YAML", environments.TOOLS, lambda: manifests.check_yaml(root)
    yield "HCL", environments.TOOLS, lambda: terraform.check_syntax(root)
    yield "cloudbuild.yaml by Cloud Build's API", environments.TOOLS, lambda: cloudbuild.check_cloudbuild(root)
    yield "Dockerfile by hadolint", environments.TOOLS, lambda: linters.run_hadolint(root, tools)
    yield "shell by shellcheck", environments.TOOLS, lambda: linters.run_shellcheck(root, tools)
    yield "overlays by kustomize", environments.TOOLS, lambda: manifests.render(root, tools, rendered)
    yield "objects by Kubernetes' schema", environments.TOOLS, lambda: manifests.check_objects(root, rendered)
    yield "resources by the provider's schema", environments.PROVIDER, lambda: _with_schema(root, folder)
    yield (
        "security by checkov",
        environments.CHECKOV,
        lambda: linters.run_checkov(root, folder / environments.CHECKOV, rendered),
    )


def _with_schema(root: Path, folder: Path) -> Iterator[Finding]:
    schema = Schema(environments.find_wheel(folder))
    yield from terraform.check_schema(root, schema)
    yield from terraform.check_references(root, schema)


def main(argv: list[str]) -> int:
    """Make all checks, or those whose titles hold a word that is given."""
    given = _parse(argv)
    root, folder = given.root.resolve(), given.tools.resolve()
    report = Report()
    _enter_tools(argv, folder, report)
    for title, needs, check in list_checks(root, folder):
        if given.only and not any(word in title for word in given.only):
            continue
        report.make(title, functools.partial(_prepared, needs, folder, check))
    if not given.only:
        report.make("terraform validate", lambda: _validate(root, folder, given.terraform))
        report.make("images built and run", lambda: _build_and_run(root, folder, given.engine))
    return report.end()


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make infra-check ARGS=...", description=__doc__, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=ROOT, help="the project to check (default: this one)")
    parser.add_argument("--tools", type=Path, default=environments.DEFAULT_FOLDER, help="where the tools are installed")
    parser.add_argument("--only", action="append", metavar="WORD", help="only the checks with this in their titles")
    parser.add_argument("--terraform", action="store_true", help="run terraform validate, which downloads the provider")
    parser.add_argument("--engine", action="store_true", help="build the cpu image and run the tiny graph in it")
    return parser.parse_args(argv)


def _enter_tools(argv: list[str], folder: Path, report: Report) -> None:
    """Go on in the Python that has the tools' libraries; where it cannot be made, stay in this one."""
    try:
        place = environments.prepare(environments.TOOLS, folder)
    except Unchecked:
        report.lacks_tools = True
        return
    if Path(sys.prefix).resolve() != place.resolve():
        sys.stdout.flush()
        python = str(place / "bin" / "python")
        os.execv(python, [python, "-m", "infra.check", *argv])


def _prepared(needs: str, folder: Path, check: Check) -> Iterable[Finding]:
    if needs:
        environments.prepare(needs, folder)
    return check()


def _validate(root: Path, folder: Path, wanted: bool) -> Iterator[Finding]:
    if not wanted:
        raise Unchecked(NO_VALIDATE)
    return terraform.validate(root, folder)


def _build_and_run(root: Path, folder: Path, wanted: bool) -> Iterator[Finding]:
    engine.find_engine()
    if not wanted:
        raise Unchecked(NO_ENGINE_ASKED)
    python = root / ".venv" / "bin" / "python"
    if not python.exists():
        raise Unchecked("the project is not installed, whose graph is to be run: make install")
    return engine.build_and_run(root, folder, str(python))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
