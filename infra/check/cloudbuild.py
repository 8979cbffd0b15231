"""cloudbuild.yaml: it is a Build of Cloud Build's API, its variables are set, and it pushes what it builds."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.check.finding import Finding, line_at, line_of, read
from infra.check.images import CLOUDBUILD

# https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
BUILT_IN = {"PROJECT_ID", "PROJECT_NUMBER", "BUILD_ID", "LOCATION", "SERVICE_ACCOUNT", "SERVICE_ACCOUNT_EMAIL"}
VARIABLE = re.compile(r"\$\{?([A-Z_][A-Z0-9_]*)\}?")


def check_cloudbuild(root: Path) -> Iterator[Finding]:
    """All of it; nothing for a file that is no YAML, of which another check tells."""
    import yaml
    from google.cloud.devtools.cloudbuild_v1.types import Build
    from google.protobuf.json_format import ParseDict, ParseError

    text = read(root, CLOUDBUILD)
    try:
        build: dict[str, Any] = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        return
    try:
        ParseDict(build, Build.pb(Build()))
    except ParseError as error:
        field = re.search(r'"(\w+)"', str(error))
        line = line_of(text, rf"^[ \t]*-?\s*{field[1]}:") if field else 0
        yield Finding(CLOUDBUILD, line, f"Cloud Build does not take it: {error}", "https://cloud.google.com/build/docs/build-config-file-schema")  # fmt: skip  # noqa: E501
        return
    yield from _check_variables(text, set(build.get("substitutions", {})))
    yield from _check_steps(text, build)


def _check_variables(text: str, given: set[str]) -> Iterator[Finding]:
    content = re.sub(r"^#[^\n]*", lambda line: " " * len(line[0]), text, flags=re.MULTILINE)
    for found in VARIABLE.finditer(content):
        if found[1] not in BUILT_IN | given:
            yield Finding(
                CLOUDBUILD, line_at(content, found.start()), f"{found[1]} is not set", "add it to substitutions"
            )
    for name in sorted(given):
        if not re.search(rf"\$\{{?{name}\b", content):
            yield Finding(CLOUDBUILD, line_of(text, rf"^  {name}:"), f"nothing reads {name}", "Cloud Build refuses it; remove it")  # fmt: skip  # noqa: E501


def _check_steps(text: str, build: dict[str, Any]) -> Iterator[Finding]:
    steps, known = build.get("steps", []), {"-"}
    for step in steps:
        for before in step.get("waitFor", []):
            if before not in known:
                line = line_of(text, rf"^[ \t]*- id: {step.get('id')}\b")
                yield Finding(CLOUDBUILD, line, f"waits for {before}, which is no earlier step")
        known.add(step.get("id", ""))
        if re.search(r"(:latest|/[^:]*)$", step.get("name", "")):
            line = line_of(text, re.escape(step["name"]))
            yield Finding(CLOUDBUILD, line, f"{step['name']} moves", "name a version's tag")
    tagged = {each.removeprefix("--tag=") for step in steps for each in step.get("args", []) if "--tag=" in each}
    for image in sorted(tagged ^ set(build.get("images", []))):
        what = "is built and not pushed" if image in tagged else "is pushed and not built"
        yield Finding(CLOUDBUILD, line_of(text, re.escape(image)), f"{image} {what}", "name it in steps and images")
