"""What terraform itself says of its variables, which needs no provider: values that cannot be are refused by name."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "terraform"

pytestmark = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the variables alone, and what the pools make of them."""
    folder = tmp_path_factory.mktemp("variables")
    shutil.copy(FOLDER / "variables.tf", folder)
    local = re.search(r"^locals \{.*?^\}", (FOLDER / "pools.tf").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert local is not None
    hosts = 'output "hosts" {\n  value = local.hosts\n}\n'
    (folder / "pools.tf").write_text(f"{local[0]}\n{hosts}", encoding="utf-8")
    assert run(folder, "init").returncode == 0
    return folder


def run(folder: Path, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("TF_")} | {
        "CHECKPOINT_DISABLE": "1"
    }
    argv = ["terraform", command, "-input=false", "-no-color", *arguments]
    return subprocess.run(argv, cwd=folder, env=quiet, capture_output=True, text=True, check=False)


def plan(folder: Path, **given: object) -> "subprocess.CompletedProcess[str]":
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return run(folder, "plan", *(f"-var={name}={value}" for name, value in values.items()))


def make_slice(topology: str, chips_per_host: int) -> dict[str, object]:
    machine = f"ct5lp-hightpu-{chips_per_host}t"
    return {
        "machine_type": machine,
        "topology": topology,
        "chips_per_host": chips_per_host,
        "max_slices": 1,
        "spot": True,
    }


@pytest.mark.parametrize(
    ("topology", "chips_per_host", "hosts"),
    [("2x2", 4, 1), ("1x1", 4, 1), ("4x4", 4, 4), ("2x2x4", 4, 4), ("2x4", 8, 1)],
)
def test_a_slice_has_as_many_hosts_as_its_chips_need(
    topology: str, chips_per_host: int, hosts: int, variables: Path
) -> None:
    ended = plan(variables, project="my-project", tpu_pool=make_slice(topology, chips_per_host))
    assert ended.returncode == 0, ended.stderr
    assert f"+ hosts = {hosts}\n" in ended.stdout


def test_every_value_that_cannot_be_is_refused_at_once(variables: Path) -> None:
    bad = {
        "project": "My_Project",
        "region": "europe-west4-a",
        "zones": ["europe-west4-a"],
        "bucket": "gs://bucket",
        "prefix": "a/b",
        "resume_days": 3,
        "undelete_days": 0,
        "kms_key": "key",
        "image_version": "latest",
        "submitters": ["allUsers"],
        "administrators": {"0.0.0.0/0": "all"},
        "gpu_pool": {
            "machine_type": "g2-standard-8",
            "accelerator": "l4",
            "count": 1,
            "max_nodes": 1,
            "spot": True,
        },
        "tpu_pool": make_slice("4", 4),
        "billing_account": "1234",
        "budget": 1.5,
        "budget_mails": ["me"],
    }
    ended = plan(variables, **bad)
    assert ended.returncode == 1
    assert set(re.findall(r'^ +\d+: variable "(\w+)"', ended.stderr, re.MULTILINE)) == set(bad)
