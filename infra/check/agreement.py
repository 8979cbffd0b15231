"""Names that files of several kinds share: versions, accounts, the claim. Read as text: this check needs no tools."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from infra.check.finding import Finding, line_of, list_manifests, read, read_lock
from infra.check.images import CLOUDBUILD, DOCKERFILE, LAPTOP, TAG

VARIABLES = "infra/terraform/variables.tf"
ACCOUNTS = "infra/terraform/accounts.tf"
PLATFORMS = "pipelines/placing/on_kubeflow.py"
BASE = "infra/kustomize/base"
CLAIM = "infra/kustomize/components/store-claim"
NAMED_CLAIM = r"kind: PersistentVolumeClaim\nmetadata:\n  name: (\S+)"


def check_agreement(root: Path) -> Iterator[Finding]:
    """All of it."""
    yield from check_versions(root)
    yield from check_accounts(root)
    yield from check_pods_accounts(root)
    yield from check_claim(root)


def check_versions(root: Path) -> Iterator[Finding]:
    """One version of bertline, of Python, of Beam, of Kubeflow Pipelines."""
    version = tomllib.loads(read(root, "pyproject.toml"))["project"]["version"]
    locked = read_lock(root, "requirements.lock")
    found = re.search(r"^PYTHON \?= python([\d.]+)", read(root, "Makefile"), re.MULTILINE)
    python, kubeflow = found[1] if found else "", ".".join(locked.get("kfp", "").split(".")[:2])
    wanted = [
        (VARIABLES, r'variable "image_version" \{[^}]*?default\s*=\s*"([\d.]+)"', version, "pyproject.toml"),
        (CLOUDBUILD, r"_VERSION: ([\d.]+)", version, "pyproject.toml"),
        (LAPTOP, r"bertline-python:cpu-([\d.]+)\}", version, "pyproject.toml"),
        (DOCKERFILE, r"ARG PYTHON_VERSION=(\d+\.\d+)", python, "Makefile"),
        (DOCKERFILE, r"beam_python(\d+\.\d+)_sdk", python, "Makefile"),
        (DOCKERFILE, r"ARG BEAM_VERSION=([\d.]+)", locked.get("apache-beam", ""), "requirements.lock"),
        (LAPTOP, r"KFP_VERSION:-(\d+\.\d+)", kubeflow, "requirements.lock"),
    ]
    for name, pattern, value, source in wanted:
        text = read(root, name)
        given = re.search(pattern, text, re.DOTALL)
        if given is None or given[1] != value:
            line = line_of(text, re.escape(given[0].splitlines()[-1])) if given else 0
            yield Finding(
                name, line, f"{given[1] if given else 'nothing'} where {source} has {value}", f"write {value}"
            )
    for name, text in list_manifests(root).items():
        for tag in TAG.finditer(text):
            if tag[2] != version:
                line = line_of(text, re.escape(tag[0]))
                yield Finding(name, line, f"{tag[2]} where pyproject.toml has {version}", f"write {version}")


def check_accounts(root: Path) -> Iterator[Finding]:
    """Accounts of Google's that files name are those that terraform makes; pods and terraform share a namespace."""
    block = re.search(r"^  accounts = \{\n(.*?)^  \}", read(root, ACCOUNTS), re.DOTALL | re.MULTILINE)
    made = {f"bertline-{each}" for each in re.findall(r"^    (\w+)\s*=", block[1], re.MULTILINE)} if block else set()
    for name, text in list_manifests(root).items():
        for found in re.finditer(r"(bertline-\w+)@", text):
            if found[1] not in made:
                line = line_of(text, re.escape(found[0]))
                yield Finding(name, line, f"{ACCOUNTS} makes no account {found[1]}", f"it makes {sorted(made)}")
    variables = read(root, VARIABLES)
    namespace = re.search(r'"kubernetes_namespace" \{[^}]*?default\s*=\s*"([\w-]+)"', variables, re.DOTALL)
    used = re.search(r"^namespace: (\S+)", read(root, f"{BASE}/kustomization.yaml"), re.MULTILINE)
    if namespace and used and namespace[1] != used[1]:
        what = f"kubernetes_namespace is {namespace[1]}, the manifests' is {used[1]}"
        yield Finding(VARIABLES, line_of(variables, '"kubernetes_namespace"'), what, f"write {used[1]}")


def check_pods_accounts(root: Path) -> Iterator[Finding]:
    """Kubernetes' accounts are those that terraform binds, and pods name one of them."""
    bound = re.search(r"in_kubernetes = toset\(\[([^]]*)\]\)", read(root, ACCOUNTS))
    wanted = {f"bertline-{each}" for each in re.findall(r'"(\w+)"', bound[1])} if bound else set()
    manifest = f"{BASE}/accounts.yaml"
    there = set(re.findall(r"kind: ServiceAccount\nmetadata:\n  name: ([\w-]+)", read(root, manifest)))
    for each in sorted(wanted ^ there):
        where = ACCOUNTS if each in there else manifest
        yield Finding(where, 0, f"{each} has no other half here", "bind it in both, by the same name")
    for name, text in list_manifests(root).items():
        for found in re.finditer(r"serviceAccountName: (\S+)", text):
            if found[1] not in there:
                line = line_of(text, re.escape(found[0]))
                yield Finding(name, line, f"{manifest} has no account {found[1]}", f"it has {sorted(there)}")


def check_claim(root: Path) -> Iterator[Finding]:
    """The claim that the compiled pipeline mounts is the one that is made, for the images' user."""
    mounted = re.search(
        r'^MOUNT = "(?P<mount>[^"]+)".*\nCLAIM = "(?P<claim>[\w-]+)"', read(root, PLATFORMS), re.MULTILINE
    )
    if mounted is None:
        yield Finding(PLATFORMS, 0, "no claim is mounted", f"remove {CLAIM}, too")
        return
    job = f"{CLAIM}/permissions.yaml"
    named = {f"{CLAIM}/claim.yaml": NAMED_CLAIM, "infra/local/claim.yaml": NAMED_CLAIM, job: r"claimName: (\S+)"}
    for name, pattern in named.items():
        text = read(root, name)
        found = re.search(pattern, text)
        if found is None or found[1] != mounted["claim"]:
            line = line_of(text, pattern) + found[0].count("\n") if found else 0
            what = f"the claim is {found[1] if found else 'missing'}; {PLATFORMS} mounts {mounted['claim']}"
            yield Finding(name, line, what, f"call it {mounted['claim']}")
    user = re.search(r"useradd --uid (\d+)", read(root, DOCKERFILE))
    if user and f'-o, "{user[1]}", -g, "{user[1]}", {mounted["mount"]}/store' not in read(root, job):
        what = f"the images' user is {user[1]}, the store {mounted['mount']}/store"
        yield Finding(job, line_of(read(root, job), "command:"), what, "give the folder to that user")
