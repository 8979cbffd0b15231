"""`make infra-check`: all of infra/ held against what can be known without a cloud.

Prints a line for each check: what is right, what is wrong with file and line, and what could not be checked here. Ends
with 1 where something is wrong, 2 where the check's own tools cannot be installed, else 0.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from infra.check import agreement, cloudbuild, engine, environments, images, linters, manifests, rights, terraform
from infra.check.finding import Finding, Unchecked
from infra.check.provider_schema import Schema

ROOT = Path(__file__).parents[2]
WRONG, NO_TOOLS = 1, 2
NO_VALIDATE = "it downloads the provider; ARGS=--terraform asks for it"
NO_ENGINE_ASKED = "an engine answers, but it takes minutes and 8 GB; ARGS=--engine asks for it"


@dataclass(frozen=True)
class Check:
    """One check."""

    title: str
    needs: str  # the environment of tools; "": none
    make: Callable[[], Iterable[Finding]]


@dataclass
class Report:
    """What has been found so far."""

    made: int = 0
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    lacks_tools: bool = False

    def make(self, check: Check, folder: Path) -> None:
        """Make one check and print what came of it."""
        try:
            if check.needs and self.lacks_tools:
                raise Unchecked("its tools cannot be installed")
            if check.needs:
                environments.prepare(check.needs, folder)
            found = sorted(set(check.make()))
        except Unchecked as reason:
            self.unchecked.append(f"{check.title}: {reason}")
            self.lacks_tools |= bool(check.needs)
            print(f"-     {check.title}: not checked: {reason}", flush=True)
            return
        self.made += 1
        self.findings += found
        print(f"{'WRONG' if found else 'ok   '} {check.title}", flush=True)
        for each in found:
            print(f"      {each}", flush=True)

    def end(self) -> int:
        """The last lines, and the exit code."""
        if self.unchecked:
            print("\nNot checked here:")
            print("\n".join(f"  {each}" for each in self.unchecked))
        count = len(self.findings)
        found = f"{count} {'thing is' if count == 1 else 'things are'} wrong" if count else "nothing is wrong"
        print(f"\n{self.made} checks made, {len(self.unchecked)} not: {found if self.made else 'nothing is known'}")
        return WRONG if self.findings else NO_TOOLS if self.lacks_tools else 0


def list_checks(given: argparse.Namespace, rendered: Path) -> list[Check]:
    """All checks, in order; manifests are rendered into a folder that one of them fills and others read."""
    root, folder = given.root.resolve(), given.tools.resolve()
    tools, checkov = folder / environments.TOOLS, folder / environments.CHECKOV
    return [
        Check("images", "", lambda: images.check_images(root)),
        Check("names that files share", "", lambda: agreement.check_agreement(root)),
        Check("rights", "", lambda: rights.check_roles(root)),
        Check("buckets", "", lambda: rights.check_buckets(root)),
        Check("YAML", environments.TOOLS, lambda: manifests.check_yaml(root)),
        Check("HCL", environments.TOOLS, lambda: terraform.check_syntax(root)),
        Check("cloudbuild.yaml by Cloud Build's API", environments.TOOLS, lambda: cloudbuild.check_cloudbuild(root)),
        Check("Dockerfile by hadolint", environments.TOOLS, lambda: linters.run_hadolint(root, tools)),
        Check("shell by shellcheck", environments.TOOLS, lambda: linters.run_shellcheck(root, tools)),
        Check("overlays by kustomize", environments.TOOLS, lambda: manifests.render(root, tools, rendered)),
        Check("objects by Kubernetes' schema", environments.TOOLS, lambda: manifests.check_objects(root, rendered)),
        Check("resources by the provider's schema", environments.PROVIDER, lambda: _hold_against_schema(root, folder)),
        Check("security by checkov", environments.CHECKOV, lambda: linters.run_checkov(root, checkov, rendered)),
        Check("terraform validate", "", lambda: _validate(root, folder, given.terraform)),
        Check("images built and run", "", lambda: _build_and_run(root, folder, given.engine)),
    ]


def main(argv: list[str]) -> int:
    """Make all checks, or those that are asked for by a part of their titles."""
    given = _parse(argv)
    report, folder = Report(), given.tools.resolve()
    with tempfile.TemporaryDirectory() as rendered:
        checks = list_checks(given, Path(rendered))
        asked = [each for each in checks if not given.only or any(part in each.title for part in given.only)]
        if any(each.needs for each in asked):
            report.lacks_tools = not _enter_tools(argv, folder)
        for each in asked:
            report.make(each, folder)
    return report.end()


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make infra-check ARGS=...", description=__doc__, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=ROOT, help="the project to check (default: this one)")
    parser.add_argument("--tools", type=Path, default=environments.DEFAULT_FOLDER, help="where the tools are installed")
    parser.add_argument("--only", action="append", metavar="PART", help="only the checks with this in their titles")
    parser.add_argument("--terraform", action="store_true", help="run terraform validate, which downloads the provider")
    parser.add_argument("--engine", action="store_true", help="build the cpu image and run the tiny graph in it")
    return parser.parse_args(argv)


def _enter_tools(argv: list[str], folder: Path) -> bool:
    """Go on in the Python that has the tools' libraries; False where it cannot be made."""
    try:
        place = environments.prepare(environments.TOOLS, folder)
    except Unchecked as reason:
        print(f"The check's tools cannot be installed: {reason}", flush=True)
        return False
    if Path(sys.prefix).resolve() != place.resolve():
        sys.stdout.flush()
        python = str(place / "bin" / "python")
        os.execv(python, [python, "-m", "infra.check", *argv])
    return True


def _hold_against_schema(root: Path, folder: Path) -> Iterator[Finding]:
    schema = Schema(environments.find_wheel(folder))
    yield from terraform.check_schema(root, schema)
    yield from terraform.check_references(root, schema)


def _validate(root: Path, folder: Path, wanted: bool) -> Iterator[Finding]:
    if not wanted:
        raise Unchecked(NO_VALIDATE)
    if shutil.which("terraform") is None:
        raise Unchecked("terraform is not installed")
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
