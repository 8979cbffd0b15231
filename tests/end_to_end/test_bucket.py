"""The whole pipeline with its store in a bucket: killed, gone on with on another machine, through all faults."""

import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.storage_server import Fault, Request, StorageServer, serving

ROOT = Path(__file__).parents[2]
BUDGET = [
    *("--steps_128=400", "--steps_512=2", "--batch=4", "--save_every=20", "--vocab_size=1500", "--evaluate_examples=8"),
    *("--finetune_epochs=0.5", "--finetune_length=32", "--jit_compile=false", "--task="),
]
FAULTS = [Fault(code=503), Fault(is_lost=True), Fault(cut_share=0.5), Fault(stall_seconds=0.2)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    (tmp_path / "served" / "b").mkdir(parents=True)
    with serving(tmp_path / "served") as server:
        yield server


def command(out: str) -> list[str]:
    return [sys.executable, "-m", "bertline", "run", "tiny", f"--out={out}", *BUDGET]


def digest_of(artifact: Path) -> str:
    return str(json.loads((artifact / "MANIFEST.json").read_text())["digest"])


@pytest.mark.slow
def test_a_killed_run_goes_on_on_another_machine_to_the_bytes_of_an_undisturbed_one(
    server: StorageServer, tmp_path: Path, program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served" / "b" / "team" / "store"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setenv("BERTLINE_CACHE", str(tmp_path / "first machine"))
    killed = program(command("gs://b/team"), tmp_path)
    code = killed.end(signal.SIGKILL, lambda each: list(served.glob("resume/checkpoint_128/*/INDEX.json")))
    assert code == -signal.SIGKILL
    assert "pretrain_128" in killed.said

    chance = random.Random(0)

    def befall(request: Request) -> Fault | None:
        return chance.choice(FAULTS) if chance.random() < 1 / 4 else None

    server.fault = befall
    monkeypatch.setenv("BERTLINE_CACHE", str(tmp_path / "second machine"))
    ended = subprocess.run(command("gs://b/team"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "ingest: made before, kept: gs://b/team/store/documents/" in ended.stderr
    assert "training goes on from step" in ended.stderr
    assert re.search(r"^model +gs://b/team/store/checkpoint_512/[0-9a-f]+$", ended.stdout, re.MULTILINE)
    assert not list(served.glob("resume/*/*/INDEX.json"))
    alone = subprocess.run(command(str(tmp_path / "alone")), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    (entry,) = (json.loads(path.read_text()) for path in served.glob("refs/latest/*.json"))
    places = {task: served.parents[1] / place.removeprefix("gs://b/") for task, place in entry["artifacts"].items()}
    links = {link.name: link for link in (tmp_path / "alone" / "latest").iterdir()}
    assert {task: digest_of(place) for task, place in places.items()} == {
        task: digest_of(link) for task, link in links.items()
    }
