"""Two machines of one job of Vertex AI, here two processes, train with a store in a bucket and copies of their own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bertline.components.store.artifacts import Provenance, publish
from bertline.components.store.remote import open_store
from fakes.storage_server import StorageServer

SECONDS = 600  # that anything waited for may take, on a busy machine
BODY = """
import json, sys
from kfp import dsl
from bertline.components.kfp_artifacts import perform_step

told = json.loads(sys.argv[1])
inputs = {name: dsl.Dataset(name=name, uri=path) for name, path in told["inputs"].items()}
perform_step("pretrain", told["store"], "run", "pretrain_128", told["config"], inputs, dsl.Model(uri=told["output"]))
"""


SETTINGS = {
    "max_seq_length": 16,
    "train_batch_size": 8,
    "num_train_steps": 60,
    "num_warmup_steps": 2,
    "save_checkpoints_steps": 2,
    "jit_compile": False,
    "backend": "jax",
    "hosts": 2,
    "devices": 4,
}


@dataclass(frozen=True)
class NoConfig:
    pass


class Job:
    """Trainings of two hosts, each on a machine that has never seen the store."""

    def __init__(self, folder: Path, inputs: Path, started: Any) -> None:
        self.folder, self.inputs, self.started, self.machines = folder, inputs, started, 0

    def start(self, store: str) -> "list[subprocess.Popen[str]]":
        ports = []
        for _ in range(2):
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                ports.append(listener.getsockname()[1])
        cluster = {f"workerpool{number}": [f"127.0.0.1:{port}"] for number, port in enumerate(ports)}
        return [self._start_host(store, number, cluster) for number in range(2)]

    def _start_host(self, store: str, number: int, cluster: dict[str, list[str]]) -> "subprocess.Popen[str]":
        self.machines += 1
        machine = self.folder / f"machine {self.machines}"
        machine.mkdir()
        environment = {
            "CLUSTER_SPEC": json.dumps({"cluster": cluster, "task": {"type": f"workerpool{number}", "index": 0}}),
            "BERTLINE_CACHE": str(machine / "cache"),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        }
        told = {
            "store": store,
            "inputs": self._point_to_inputs(store, machine),
            "output": str(machine / "checkpoint"),
            "config": {"model": str(self.inputs / "bert_config.json"), **SETTINGS},
        }
        return self.started([json.dumps(told)], BODY, **environment)

    def _point_to_inputs(self, store: str, machine: Path) -> dict[str, str]:
        """What KFP hands to a task: a small file for each artifact."""
        os.environ["BERTLINE_CACHE"] = str(self.folder / "cache of what is there")
        place, paths = open_store(store), {}
        kinds = {"records": ("records_16", "records/part-*"), "vocab": ("vocabulary", "vocab.txt")}
        for name, (kind, files) in kinds.items():

            def write(out: Path, work: Path, files: str = files) -> dict[str, int | float]:
                (file,) = self.inputs.glob(files)
                return {"bytes": Path(shutil.copy(file, out)).stat().st_size}

            modules = ["bertline.components.pretraining_data.prepare"]
            made = publish(place, Provenance(kind, kind, {}, NoConfig(), modules), write)
            paths[name] = str(machine / name)
            pointer = {"path": place.uri_of(made.path), "kind": kind, "digest": made.manifest["digest"]}
            Path(paths[name]).write_text(json.dumps(pointer))
        return paths


@pytest.mark.slow
def test_hosts_go_on_on_other_machines_from_the_bucket_to_the_same_bytes(
    storage_server: StorageServer, pretrain_inputs: Path, started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTLINE_CACHE", "")  # restored at the end
    job, served = Job(tmp_path, pretrain_inputs, started), tmp_path / "served" / "b"
    processes, deadline = job.start("gs://b/store"), time.monotonic() + SECONDS
    while not list(served.glob("store/resume/checkpoint_16/*/INDEX.json")):
        assert all(process.poll() is None for process in processes), [each.communicate() for each in processes]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)  # the one that writes nothing
    ends = [(process.communicate(timeout=SECONDS)[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [75, 75], ends
    for store in ("gs://b/store", "gs://b/undisturbed"):
        for process in job.start(store):
            said = process.communicate(timeout=SECONDS)[1]
            assert process.returncode == 0, said
            assert ("training goes on from step" in said) == (store == "gs://b/store"), said
    made = {path.parents[2].name: path for path in served.glob("*/checkpoint_16/*/MANIFEST.json")}
    digests = {json.loads(path.read_text())["digest"] for path in made.values()}
    assert set(made) == {"store", "undisturbed"} and len(digests) == 1
    assert not list(served.glob("store/resume/*/*/*")), "all of it is made"
    (note,) = served.glob("store/runs/run/*.json")
    assert json.loads(note.read_text())["reused"] is False, "the first host's"
    pointers = {(tmp_path / f"machine {number}" / "checkpoint").read_text() for number in (3, 4)}
    assert len(pointers) == 1, "KFP may take either's"
