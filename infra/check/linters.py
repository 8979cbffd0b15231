"""What others' linters say of the Dockerfile, the shell scripts and, for security, of everything."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.check.finding import Finding
from infra.check.images import DOCKERFILE
from infra.check.terraform import FOLDER

SHOWN = Path(__file__).with_name("checkov.tfvars")

# What checkov wants that is no fault here, and why; faults of one file are excused beside it (#checkov:skip=...).
EXCUSED = {
    "CKV_DOCKER_2": "no image is a service: steps end by themselves, so there is no health to ask for",
    "CKV_K8S_8": "the same: jobs, not services",
    "CKV_K8S_9": "the same",
    "CKV_K8S_43": "digests of our own images are known only after they are built; tags are immutable in the registry",
    "CKV_K8S_14": "the same",
    "CKV_K8S_15": "tags are immutable: a node need not ask for what it has",
    "CKV_K8S_11": "a CPU limit slows a step down on an idle node; requests are set",
    "CKV_K8S_22": "steps write to their work folder",
    "CKV_K8S_38": "Workload Identity needs the pod's token",
    "CKV_K8S_40": "the images' user is 1000, as the store's folder belongs to it",
    "CKV2_K8S_6": "network policies belong to Kubeflow's installation",
}


def run_hadolint(root: Path, tools: Path) -> Iterator[Finding]:
    """The Dockerfile's style and traps."""
    command = [str(tools / "bin" / "hadolint"), "--format=json", DOCKERFILE]
    for each in _read_json(command, root)[0]:
        advice = f"https://github.com/hadolint/hadolint/wiki/{each['code']}" if each["code"].startswith("DL") else ""
        yield Finding(DOCKERFILE, each["line"], f"{each['code']}: {each['message']}", advice)


def run_shellcheck(root: Path, tools: Path) -> Iterator[Finding]:
    """The scripts' traps."""
    scripts = sorted(path.relative_to(root).as_posix() for path in (root / "infra").rglob("*.sh"))
    for each in _read_json([str(tools / "bin" / "shellcheck"), "--format=json", *scripts], root)[0]:
        advice = f"https://www.shellcheck.net/wiki/SC{each['code']}"
        yield Finding(each["file"], each["line"], f"SC{each['code']}: {each['message']}", advice)


def run_checkov(root: Path, checkov: Path, rendered: Path) -> Iterator[Finding]:
    """Security of terraform's files, the Dockerfile and the rendered manifests, by checkov's own rules."""
    command = [str(checkov / "bin" / "checkov"), "--skip-download", "--quiet", "--compact", "--output=json"]
    command += ["--framework", "terraform", "dockerfile", "kubernetes", f"--skip-check={','.join(EXCUSED)}"]
    command.append(f"--var-file={SHOWN}")  # with the defaults, what is made only on demand would be passed over
    for folder in (root / FOLDER, (root / DOCKERFILE).parent, rendered):
        command += ["--directory", str(folder)]
    for report in _read_json(command, root):
        for part in report if isinstance(report, list) else [report]:
            for failed in part.get("results", {}).get("failed_checks", []):
                yield _as_finding(root, part["check_type"], failed)


def _as_finding(root: Path, framework: str, failed: dict[str, Any]) -> Finding:
    path, code = Path(failed["file_abs_path"]), failed["check_id"]
    if framework == "kubernetes":
        file, line, excuse = f"infra/kustomize, as {path.stem}", 0, f"an annotation checkov.io/skip1: {code}=why"
    else:
        file, line = path.relative_to(root.resolve()).as_posix(), failed["file_line_range"][0]
        excuse = f"#checkov:skip={code}:why"
    what = f"{code}: {failed['resource']}: {failed['check_name']}"
    return Finding(file, line, what, f"mend it, or excuse it where it stands: {excuse}")


def _read_json(command: list[str], root: Path) -> list[Any]:
    """The values that a linter prints, which ends with an error code where it found something."""
    quiet = os.environ | {"LOG_LEVEL": "ERROR"}
    ended = subprocess.run(command, cwd=root, env=quiet, capture_output=True, text=True, check=False)
    values, rest = [], ended.stdout.strip()
    try:
        while rest:
            value, end = json.JSONDecoder().raw_decode(rest)
            values.append(value)
            rest = rest[end:].strip()
    except json.JSONDecodeError:
        values.clear()
    if not values:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise RuntimeError(f"{command[0]} ended with {ended.returncode}: {said[-1] if said else 'it says nothing'}")
    return values
