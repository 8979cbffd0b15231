"""`make infra-check` finds nothing wrong in infra/, and each of many mistakes by its file and line."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from infra.check import environments
from infra.check.accelerators import LABEL_OF_MACHINE, check_pod
from infra.check.agreement import check_agreement
from infra.check.engine import find_engine
from infra.check.finding import Finding, Unchecked
from infra.check.images import check_images
from infra.check.provider_schema import Argument, Schema
from infra.check.rights import check_buckets, check_roles
from infra.check.run_in_docker import list_arguments
from infra.check.terraform import read_defaults

from bertline.pipelines.placing.resources import ACCELERATORS, TRAINING

ROOT = Path(__file__).parents[2]
READ = (
    *("Makefile", "pyproject.toml", "requirements.lock", ".dockerignore"),
    *("components/steps.py", "pipelines/placing/on_kubeflow.py"),
)
COPIED = ("src", "model", "tokenizer", "examples", "README.md", "LICENSE", "NOTICE", "requirements-light.lock")
ALL_BUT_CHECKOV = (
    *("images", "names", "rights", "buckets", "YAML", "HCL", "cloudbuild", "hadolint", "shellcheck"),
    *("overlays", "objects", "resources"),
)


class Mistake(NamedTuple):
    """A text of a file of infra/, what it is made into, and what the check must say of it."""

    name: str
    file: str
    old: str
    new: str
    said: str  # @LINE is the line of the change


MADE = tomllib.loads((Path(__file__).parent / "mistakes.toml").read_text(encoding="utf-8"))
PLAIN, WITH_TOOLS, INSECURE = ([Mistake(**each) for each in MADE[kind]] for kind in ("plain", "with_tools", "insecure"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the check reads, the rest of the project beside it."""
    shutil.copytree(ROOT / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("__pycache__", ".terraform"))
    for name in READ:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in COPIED:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def make(mistake: Mistake, project: Path) -> str:
    """Make it in a copy; returns what the check must say."""
    file = project / "infra" / mistake.file
    before, found, after = file.read_text(encoding="utf-8").partition(mistake.old)
    assert found, mistake
    file.write_text(before + mistake.new + after, encoding="utf-8")
    return mistake.said.replace("@LINE", str(before.count("\n") + 1))


def check_plainly(root: Path) -> list[Finding]:
    return [each for check in (check_images, check_agreement, check_roles, check_buckets) for each in check(root)]


def test_nothing_is_wrong_that_is_seen_without_tools() -> None:
    assert check_plainly(ROOT) == []


@pytest.mark.parametrize("mistake", PLAIN, ids=[each.name for each in PLAIN])
def test_a_mistake_is_named_without_tools(mistake: Mistake, project: Path) -> None:
    said = make(mistake, project)
    assert said in "\n".join(map(str, check_plainly(project)))


def test_the_guide_lists_the_rights_that_terraform_gives() -> None:
    """A row for each account: its roles on the project, the bucket and the images, and as whom it acts."""
    accounts = (ROOT / "infra" / "terraform" / "accounts.tf").read_text(encoding="utf-8")
    given: dict[str, list[set[str]]] = {}
    for column, name in enumerate(("project_roles", "bucket_roles", "image_roles", "acts_as")):
        block = accounts.split(f"  {name} = toset([")[1].split("  ])")[0]
        for account, what in re.findall(r'"(\w+)/(?:roles/)?([\w.]+)"', block):
            given.setdefault(account, [set(), set(), set(), set()])[column].add(what)
    guide = (ROOT / "docs" / "guides" / "infrastructure.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in guide.splitlines() if line.startswith("| bertline-")]
    told = {
        row[0].strip().removeprefix("bertline-"): [set(re.findall(r"[\w.]+", cell)) for cell in row[2:]] for row in rows
    }
    assert told == given


TPU_POOL = {"machine_type": "ct6e-standard-4t", "topology": "4x4", "chips_per_host": "4"}
GPU_POOL = {"accelerator": "nvidia-l4"}


def make_pod(resource: str, count: str, key: str, **selector: str) -> dict[str, Any]:
    labels = {f"cloud.google.com/gke-{name.replace('_', '-')}": value for name, value in selector.items()}
    limits = {"resources": {"limits": {resource: count}}}
    return {"nodeSelector": labels, "tolerations": [{"key": key}], "containers": [limits]}


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (make_pod("google.com/tpu", "4", "google.com/tpu", tpu_accelerator="tpu-v6e-slice", tpu_topology="4x4"), []),
        (make_pod("nvidia.com/gpu", "1", "nvidia.com/gpu", accelerator="nvidia-l4"), []),
        ({"containers": [{}]}, []),
        (
            make_pod("google.com/tpu", "16", "nvidia.com/gpu", tpu_accelerator="tpu-v5p-slice"),
            [
                "no toleration for the taint google.com/tpu",
                "gke-tpu-accelerator is tpu-v5p-slice",
                "gke-tpu-topology is missing",
                "asks for 16 of google.com/tpu, a host of the pool has 4",
            ],
        ),
        (make_pod("nvidia.com/gpu", "1", "nvidia.com/gpu"), ["gke-accelerator is missing"]),
        (make_pod("cpu", "1", "", tpu_topology="4x4"), ["selects TPU nodes without asking for google.com/tpu"]),
    ],
)
def test_a_pod_with_accelerators_goes_with_the_pool(pod: dict[str, Any], said: list[str]) -> None:
    found = [each.what for each in check_pod("overlay", "Job probe", pod, GPU_POOL, TPU_POOL)]
    assert len(found) == len(said)
    assert all(part in each for part, each in zip(said, found, strict=True))


def test_the_pools_nodes_are_machines_that_tasks_are_given() -> None:
    """By default: their accelerators are known to the program, on such machines and in such topologies."""
    gpus, tpus = (read_defaults(ROOT, f"{each}_pool") for each in ("gpu", "tpu"))
    (gpu,) = (each for each in ACCELERATORS.values() if each.gke == gpus["accelerator"])
    assert gpu.machines[int(gpus["count"])] == gpus["machine_type"]
    assert TRAINING["base"].cpu < int(gpus["machine_type"].rpartition("-")[2])  # the node itself needs some
    chips = int(tpus["chips_per_host"])
    (tpu,) = (each for each in ACCELERATORS.values() if each.machines.get(chips) == tpus["machine_type"])
    assert tpu.topologies[chips] == tpus["topology"]
    assert tpu.gke == LABEL_OF_MACHINE[tpus["machine_type"].rpartition("-")[0]]


BINDINGS = '''
class Shelf:
    @builtins.property
    def email(self): ...

class ShelfConfig(_cdktn.TerraformMetaArguments):
    def __init__(self, *, count: typing.Optional[Number] = None, name: builtins.str,
                 boards: typing.Optional[typing.Sequence[typing.Union["ShelfBoards", typing.Dict]]] = None) -> None:
        """
        :param count:
        :param name: The name. {@link https://registry/shelf#name Shelf#name}
        :param boards: boards block. {@link https://registry/shelf#k8s_boards Shelf#k8s_boards}
        """

class ShelfBoards:
    def __init__(self, *, width: jsii.Number) -> None:
        """
        :param width: {@link https://registry/shelf#width Shelf#width}
        """
'''


def test_the_schema_of_a_resource_is_read_from_its_bindings(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bindings.whl", "w") as wheel:
        wheel.writestr("cdktn_provider_google/shelf/__init__.py", BINDINGS)
        wheel.writestr("bindings.dist-info/METADATA", "bindings for hashicorp/google provider version 1.2.3.")
    for _ in range(2):  # the second time from the file beside the wheel
        schema = Schema(tmp_path / "bindings.whl")
        found = schema.find("google_shelf")
        assert found is not None
        boards = Argument(required=False, repeated=True, block={"width": Argument(required=True)})
        assert found.arguments == {"name": Argument(required=True), "k8s_boards": boards}
        assert found.attributes == {"email"}
        assert (schema.version, schema.find("google_chair")) == ("1.2.3", None)


def check(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The check as make calls it."""
    command = [sys.executable, "-m", "infra.check", *arguments]
    given = os.environ | environment
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


def test_a_machine_without_a_container_engine_is_told_that_images_were_not_tried() -> None:
    ended = check("--only=images built", "--engine", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert ended.returncode == 0
    assert re.search(r"images built and run: not checked: no container engine", ended.stdout)
    assert "0 checks made, 1 not: nothing is known" in ended.stdout


def test_without_docker_the_reason_is_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unchecked, match="docker is not installed"):
        find_engine()


def test_a_step_in_an_image_reads_the_examples_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    given = list_arguments(tmp_path)
    paths = [given["dump"], given["books"], *(task[part] for task in given["tasks"] for part in ("train", "dev"))]
    assert all(Path(path).is_relative_to(tmp_path) and Path(path).exists() for path in paths)


def test_a_tool_that_cannot_be_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_NO_INDEX", "PIP_ISOLATED"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(Unchecked, match=r"pip failed \(.*cdktn-provider-google"):
        environments.prepare(environments.PROVIDER, tmp_path)


@pytest.fixture(scope="module")
def tools() -> Iterator[Path]:
    """The check's environments, made on first use; skips where their packages cannot be had."""
    folder = environments.DEFAULT_FOLDER
    try:
        for name in (environments.TOOLS, environments.PROVIDER, environments.CHECKOV):
            environments.prepare(name, folder)
    except Unchecked as reason:
        pytest.skip(f"the tools of infra-check cannot be installed: {reason}")
    yield folder


@pytest.mark.slow
def test_nothing_is_wrong_in_infra(tools: Path) -> None:
    ended = check(DOCKER_HOST="unix:///nowhere/docker.sock")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "13 checks made, 2 not: nothing is wrong" in ended.stdout
    assert "terraform validate: not checked: " in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mistake", WITH_TOOLS, ids=[each.name for each in WITH_TOOLS])
def test_a_mistake_is_named(mistake: Mistake, project: Path, tools: Path) -> None:
    said = make(mistake, project)
    require_named(said, check(f"--root={project}", *(f"--only={part}" for part in ALL_BUT_CHECKOV)))


@pytest.mark.slow
def test_what_is_insecure_is_named(project: Path, tools: Path) -> None:
    said = [make(mistake, project) for mistake in INSECURE]
    ended = check(f"--root={project}", "--only=overlays", "--only=security")
    for each in said:
        require_named(each, ended)


def require_named(said: str, ended: "subprocess.CompletedProcess[str]") -> None:
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert said in ended.stdout
    assert "Traceback" not in ended.stderr
