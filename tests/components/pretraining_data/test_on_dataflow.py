"""The same graph on Dataflow: Beam's own client and gs:// files, against servers on this machine."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from apache_beam.internal.gcp import auth

from bertline.components.declaration import make
from bertline.components.pretraining_data import files as worker_files
from bertline.components.pretraining_data.beam_runs import JobError
from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.prepare import run
from bertline.components.step_table import STEPS
from bertline.components.store.artifacts import Provenance, Store, publish
from bertline.components.store.manifests import FACTS
from bertline.components.store.remote import open_store
from fakes.storage_server import serving

FAKES = Path(__file__).parents[2] / "fakes"
BUCKET = "corpora"
SMALL = {"max_seq_length": 32, "max_predictions_per_seq": 5, "dupe_factor": 2, "num_shards": 3, "length_bins": "16"}


@pytest.fixture
def storage_server(tmp_path):
    """A server of the buckets below tmp_path/gcs."""
    (tmp_path / "gcs" / BUCKET).mkdir(parents=True)
    with serving(tmp_path / "gcs") as server:
        yield server


@pytest.fixture
def mount(tmp_path, storage_server, monkeypatch):
    """The folder at which this process, a Dataflow job's client, finds the buckets."""
    monkeypatch.setattr(worker_files, "MOUNT", f"{tmp_path}/gcs/")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_server.url)
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)  # none; Beam would look for them for 20 s
    return tmp_path / "gcs"


@pytest.fixture
def dataflow(mount):
    """What a job needs: a project, places in a bucket, and a service that answers."""
    with serving_jobs(mount) as config:
        yield config


@contextmanager
def serving_jobs(*folders):
    command = [sys.executable, str(FAKES / "dataflow_server.py"), *map(str, folders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        options = "--project=a-project --region=europe-west4 --no_auth --sdk_location=container "
        options += f"--temp_location=gs://{BUCKET}/temporary --staging_location=gs://{BUCKET}/staged "
        options += f"--dataflow_endpoint=http://localhost:{port}"
        try:
            yield PrepareConfig(**SMALL, part="all", runner="DataflowRunner", beam_options=options)
        finally:
            server.terminate()


def corpus(folder):
    """A folder of sentences in two files, and a vocabulary."""
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(30)]
    (folder / "sentences").mkdir(parents=True)
    for number in range(2):
        documents = (
            "".join(" ".join(random.choice(words, random.integers(1, 12))) + ".\n" for _ in range(5)) for _ in range(60)
        )
        (folder / "sentences" / f"sentences-{number:05}.txt").write_text("\n".join(documents))
        names = "".join(f"text:{number}-{document}\n" for document in range(60))
        (folder / "sentences" / f"ids-{number:05}.txt").write_text(names)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words[::2]]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return folder / "sentences", folder / "vocab.txt"


def prepared(sentences, vocab, out, config):
    """Every file that `run` makes, and its counts."""
    out.mkdir(exist_ok=True)
    counts = run(sentences, vocab, out, config)
    made = [path for path in out.rglob("*") if path.is_file() and path.name != FACTS]
    return {str(path.relative_to(out)): path.read_bytes() for path in made}, counts


@pytest.mark.slow
def test_dataflow_makes_the_bytes_of_a_local_run(tmp_path, mount, storage_server, dataflow):
    sentences, vocab = corpus(mount / BUCKET / "corpus")
    on_dataflow = prepared(sentences, vocab, mount / BUCKET / "records", dataflow)
    workers_read = set(storage_server.reads)
    assert {f"corpus/sentences/{path.name}" for path in sentences.iterdir()} <= workers_read
    assert "corpus/vocab.txt" in workers_read
    local = prepared(*corpus(tmp_path / "local"), tmp_path / "records", PrepareConfig(**SMALL, part="all"))
    assert on_dataflow == local
    assert {"length_16/part-00002-of-00003.tfrecord", "length_32/part-00000-of-00003.tfrecord"} <= set(local[0])


@pytest.mark.slow
def test_a_failing_worker_says_why_and_the_same_command_goes_on(tmp_path, mount, storage_server, dataflow):
    (sentences, vocab), out = corpus(mount / BUCKET / "corpus"), mount / BUCKET / "records"
    # Shard 1, the first document's, is made first.
    storage_server.refused.update({"records/totals-00000.json", "records/totals-00002.json"})
    refused = f"gs://{BUCKET}/records/totals-0000[02].json: not written, the bucket answers 403"
    with pytest.raises(JobError, match=rf"(?s)ended as FAILED.*Traceback.*OSError: {refused}"):
        prepared(sentences, vocab, out, dataflow)
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("part-00001-*")}
    assert [path.name for path in out.glob("totals*")] == ["totals-00001.json"] and len(kept) == 2
    storage_server.refused.clear()
    again = prepared(sentences, vocab, out, dataflow)
    assert again == prepared(*corpus(tmp_path / "local"), tmp_path / "records", PrepareConfig(**SMALL, part="all"))
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


GO_ON = """
import json, sys
from apache_beam.internal.gcp import auth
from kfp import dsl
from bertline.components.kfp_artifacts import perform_step

auth._Credentials._credentials_init = True
told = json.loads(sys.argv[1])
inputs = {name: dsl.Dataset(name=name, uri=path) for name, path in told["inputs"].items()}
perform_step("prepare", told["store"], "run", "prepare_32", told["config"], inputs, dsl.Dataset(uri=told["output"]))
"""


def put(store, kind, *paths):
    """An artifact of such files."""

    def write(out, work):
        for path in paths:
            shutil.copy(path, out)
        return {}

    made = publish(store, Provenance(kind, kind, {}, PrepareConfig(), ["bertline.files"]), write)
    return {"path": store.uri_of(made.path), "digest": made.manifest["digest"]}


def fill(store, folder):
    """A corpus in a store: inputs of `prepare` -> what points to them."""
    sentences, vocab = corpus(folder)
    return {"sentences": put(store, "sentences", *sentences.iterdir()), "vocab": put(store, "vocabulary", vocab)}


@pytest.mark.slow
def test_text_and_records_of_a_store_in_a_bucket_stay_there(tmp_path, mount, storage_server, monkeypatch):
    """The launcher is ended while the job is at work; on another machine the same command waits for it."""
    control, out = tmp_path / "control", f"gs://{BUCKET}/store"
    control.mkdir()
    (control / "hold").touch()
    monkeypatch.setenv("BERTLINE_CACHE", str(tmp_path / "first"))
    inputs = fill(open_store(out), tmp_path / "local")
    with serving_jobs(tmp_path / "nothing", control) as config:
        port = config.beam_options.rpartition(":")[2]
        for name, pointer in inputs.items():
            (tmp_path / name).write_text(json.dumps(pointer))
        told = json.dumps(
            {
                "store": out,
                "inputs": {name: str(tmp_path / name) for name in inputs},
                "config": dataclasses.asdict(config),
                "output": str(tmp_path / "records"),
            }
        )
        for machine, said, code in (("second", "is begun", 75), ("third", "is at work already", 0)):
            environment = os.environ | {"BERTLINE_CACHE": str(tmp_path / machine), "_KFP_RUNTIME": "true"}
            launcher = subprocess.Popen(
                [sys.executable, "-c", GO_ON, told], env=environment, stderr=subprocess.PIPE, text=True
            )
            lines = []
            while not any(said in line for line in lines):
                lines.append(launcher.stderr.readline())
                assert lines[-1], lines
            if code:
                launcher.terminate()
            else:
                (control / "hold").unlink()
            rest = launcher.communicate(timeout=300)[1]
            assert launcher.returncode == code, "".join(lines) + rest
        with urllib.request.urlopen(f"http://localhost:{port}/v1b3/projects/p/locations/l/jobs") as answer:
            (job,) = json.load(answer)["jobs"]
    here = [path.name for machine in ("second", "third") for path in (tmp_path / machine).rglob("*")]
    assert not [name for name in here if name.endswith(".tfrecord") or name.startswith("sentences-")]
    store = open_store(out)
    places = {name: store.folder_of(pointer["path"]) for name, pointer in inputs.items()}
    made = make(STEPS["prepare"], store, PrepareConfig(**SMALL, part="all"), places)
    assert made.reused, "a local run finds it"
    store.fetch([made.path])
    local = make(STEPS["prepare"], Store(tmp_path / "alone"), PrepareConfig(**SMALL, part="all"), places)
    assert made.manifest == local.manifest
    assert json.loads((made.path / "RUN.json").read_text())["dataflow"]["job"] == job["id"]
    assert not list((mount / BUCKET / "store" / "resume").rglob("*.tfrecord"))


@pytest.mark.slow
def test_a_cancelled_job_fails_the_step_with_its_page(tmp_path, mount, monkeypatch):
    control, out = tmp_path / "control", f"gs://{BUCKET}/store"
    control.mkdir()
    (control / "cancel").touch()
    monkeypatch.setenv("BERTLINE_CACHE", str(tmp_path / "first"))
    store = open_store(out)
    inputs = {name: store.folder_of(each["path"]) for name, each in fill(store, tmp_path / "local").items()}
    page = "https://console.cloud.google.com/dataflow/jobs/europe-west4/job-"
    with serving_jobs(tmp_path / "nothing", control) as config, pytest.raises(JobError, match=f"(?s)CANCELLED.*{page}"):
        make(STEPS["prepare"], store, config, inputs)


def test_dataflow_takes_no_path_outside_the_mount(tmp_path, mount):
    config = PrepareConfig(**SMALL, part="all", runner="DataflowRunner")
    inside, outside = corpus(mount / BUCKET / "corpus"), corpus(tmp_path / "local")
    records = mount / BUCKET / "records"
    for sentences, vocab, out, refused in (
        (outside[0], inside[1], records, outside[0] / "sentences-00000.txt"),
        (inside[0], outside[1], records, outside[1]),
        (*inside, tmp_path / "records", tmp_path / "records"),
    ):
        with pytest.raises(ValueError, match=rf"{refused}: DataflowRunner's workers .* below {mount}/BUCKET, or "):
            run(sentences, vocab, out, config)
        assert not out.exists()


def test_lines_of_a_file_in_a_bucket_are_not_read_byte_by_byte(mount):
    """Beam's reader has no readline of its own; io's asks it for single bytes."""
    (mount / BUCKET / "lines.txt").write_bytes(b"a line\n" * 1000)
    with worker_files.open_bytes(f"gs://{BUCKET}/lines.txt") as file:
        assert isinstance(file, io.BufferedReader)
        assert list(file) == [b"a line\n"] * 1000
