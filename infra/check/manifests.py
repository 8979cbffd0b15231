"""Kubernetes' manifests: the overlays are built by kustomize, and every object is what Kubernetes' schema says."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.check.accelerators import check_pod
from infra.check.finding import Finding, Unchecked, line_at
from infra.check.terraform import read_defaults

VERSION = "1.34"  # of Kubernetes, as GKE's regular channel and kind have it
PLACES = {each: f"infra/kustomize/overlays/{each}" for each in ("cpu", "gpu", "tpu")} | {"local": "infra/local"}
CLUSTER_WIDE = {"Namespace", "PriorityClass"}


def check_yaml(root: Path) -> Iterator[Finding]:
    """Every YAML file of infra/ can be read."""
    import yaml

    for path in sorted((root / "infra").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        try:
            list(yaml.safe_load_all(text))
        except yaml.MarkedYAMLError as error:
            mark = error.context_mark or error.problem_mark  # where what is not ended began
            line = mark.line + 1 if mark else 0
            yield Finding(path.relative_to(root).as_posix(), line, f"is no YAML: {error.problem}")
        except yaml.reader.ReaderError as error:
            yield Finding(path.relative_to(root).as_posix(), line_at(text, error.position), f"is no YAML: {error}")


def render(root: Path, tools: Path, folder: Path) -> Iterator[Finding]:
    """Build each overlay into `folder`/NAME.yaml; what cannot be built is a finding, and has no file there."""
    kubectl = tools / "bin" / "kubectl"
    program = str(kubectl) if kubectl.exists() else shutil.which("kubectl")
    if program is None:
        raise Unchecked("no kubectl: install it, or let the check install its tools")
    for name, place in PLACES.items():
        ended = subprocess.run([program, "kustomize", str(root / place)], capture_output=True, text=True, check=False)
        if ended.returncode:
            said = ended.stderr.strip().removeprefix("error: ").replace(f"{root}/", "")
            yield Finding(
                place, 0, f"kustomize cannot build it: {said.splitlines()[-1] if said else 'no reason given'}"
            )
        else:
            (folder / f"{name}.yaml").write_text(ended.stdout, encoding="utf-8")


def check_objects(root: Path, folder: Path) -> Iterator[Finding]:
    """What was rendered, object by object."""
    import kubernetes_validate

    gpu_pool, tpu_pool = (read_defaults(root, f"{each}_pool") for each in ("gpu", "tpu"))
    for name, place in PLACES.items():
        for each in _read_all(folder / f"{name}.yaml"):
            title = f"{each.get('kind')} {each.get('metadata', {}).get('name')}"
            try:
                kubernetes_validate.validate(each, VERSION, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(map(str, error.path))
                yield Finding(
                    place, 0, f"{title}: {path or 'it'}: {error.message}", "https://kubernetes.io/docs/reference/"
                )
            except kubernetes_validate.SchemaNotFoundError:
                yield Finding(
                    place, 0, f"{title}: Kubernetes {VERSION} has no {each.get('apiVersion')}/{each.get('kind')}"
                )
            if each.get("kind") not in CLUSTER_WIDE and not each.get("metadata", {}).get("namespace"):
                yield Finding(place, 0, f"{title}: has no namespace", "it would land in the one that kubectl is set to")
            if each.get("kind") == "Job":
                yield from check_pod(place, title, each["spec"]["template"]["spec"], gpu_pool, tpu_pool)


def _read_all(path: Path) -> list[dict[str, Any]]:
    import yaml

    if not path.is_file():
        return []
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
