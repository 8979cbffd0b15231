"""The checkpoint folder: what is written is read, and nothing damaged passes for whole; the rows of the curve."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertline.model.training.checkpoint import (
    Checkpoint,
    TrainingLog,
    evaluations,
    read_checkpoint,
    rows_of,
    select,
    training_rows,
    write_arrays,
    write_checkpoint,
)


@pytest.fixture
def checkpoint(toy) -> Checkpoint:
    weights = {"bert/pooler/dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}
    slots = {"bert/pooler/dense/kernel/adam_m": np.ones((2, 3), np.float32)}
    return Checkpoint(toy, weights, b"[PAD]\n", False, {"step": 7}, slots)


def test_what_is_written_is_read(tmp_path: Path, checkpoint: Checkpoint) -> None:
    write_checkpoint(tmp_path, checkpoint)
    read = read_checkpoint(tmp_path, with_slots=True)
    assert np.array_equal(read.weights["bert/pooler/dense/kernel"], [[0, 1, 2], [3, 4, 5]])
    assert list(read.slots or ()) == ["bert/pooler/dense/kernel/adam_m"]
    assert (read.bert_config, read.vocabulary, read.do_lower_case, read.state) == (
        checkpoint.bert_config,
        b"[PAD]\n",
        False,
        {"step": 7},
    )


def test_same_checkpoint_same_bytes(tmp_path: Path, checkpoint: Checkpoint) -> None:
    weights = {name: np.full((3, 2), number, np.float32) for number, name in enumerate("cabd")}
    for folder, names in (("one", "abcd"), ("two", "dcba")):
        (tmp_path / folder).mkdir()
        reordered = {name: weights[name] for name in names}
        write_checkpoint(tmp_path / folder, dataclasses.replace(checkpoint, weights=reordered))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_transposed_view_is_written_as_it_reads(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    write_arrays(tmp_path / "x.safetensors", {"x": np.arange(6, dtype=np.float32).reshape(2, 3).T})
    assert load_file(tmp_path / "x.safetensors")["x"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_missing_file_is_named(tmp_path: Path, checkpoint: Checkpoint) -> None:
    write_checkpoint(tmp_path, dataclasses.replace(checkpoint, slots=None))
    with pytest.raises(FileNotFoundError, match=r"optimizer\.safetensors is missing"):
        read_checkpoint(tmp_path, with_slots=True)
    (tmp_path / "training_state.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"training_state\.json is missing"):
        read_checkpoint(tmp_path)


def test_cut_weights_are_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    write_checkpoint(tmp_path, checkpoint)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a whole safetensors file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_foreign_training_state_is_refused(tmp_path: Path, checkpoint: Checkpoint, content: str) -> None:
    write_checkpoint(tmp_path, checkpoint)
    (tmp_path / "training_state.json").write_text(content)
    with pytest.raises(ValueError, match=r"training_state\.json"):
        read_checkpoint(tmp_path)


def test_missing_variables_and_other_shapes_are_refused() -> None:
    arrays = {"a": np.zeros((2, 3))}
    assert list(select(arrays, {"a": (2, 3)}, Path("here"))) == ["a"]
    with pytest.raises(ValueError, match="here: variable b is missing"):
        select(arrays, {"a": (2, 3), "b": (1,)}, Path("here"))
    with pytest.raises(ValueError, match=r"here: a has shape \[2, 3\], its bert_config.json asks for \[3, 2\]"):
        select(arrays, {"a": (3, 2)}, Path("here"))


FILL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from bertline.model.training.checkpoint import write_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_arrays(Path(sys.argv[1]), {"x": np.zeros(1_000_000, np.float32)})
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_an_oserror_that_says_so(tmp_path: Path) -> None:
    """A limit on the file's size stands for the disk's end."""
    command = [sys.executable, "-c", FILL_DISK, str(tmp_path / "x.safetensors")]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "x.safetensors: could not write 4,000,000 bytes" in printed.stdout, printed.stderr
    assert "is the disk full?" in printed.stdout


def test_rows_are_means_and_the_last_rate() -> None:
    log = TrainingLog(2)
    assert log.add(1, {"loss": 4.0, "learning_rate": 0.1}) is None
    assert log.add(2, {"loss": 2.0, "learning_rate": 0.2}) == {"step": 2, "loss": 3.0, "learning_rate": 0.2}
    assert log.add(3, {"loss": 1.0, "learning_rate": 0.3}, last=True) == {"step": 3, "loss": 1.0, "learning_rate": 0.3}
    assert rows_of(log.to_lines()) == log.rows


def test_a_log_that_goes_on_equals_one_that_never_stopped() -> None:
    metrics = [{"loss": 1.0 / step, "learning_rate": 0.1} for step in range(1, 8)]
    whole = TrainingLog(3)
    for step, row in enumerate(metrics, start=1):
        whole.add(step, row)
    first = TrainingLog(3)
    for step, row in enumerate(metrics[:4], start=1):
        first.add(step, row)
    second = TrainingLog(3, first.rows, first.pending)
    for step, row in enumerate(metrics[4:], start=5):
        second.add(step, row)
    assert second.to_lines() == whole.to_lines()


def test_evaluations_are_rows_of_their_own_and_leave_the_means_alone() -> None:
    log = TrainingLog(2)
    log.add(1, {"loss": 4.0})
    assert log.add_evaluation(1, {"perplexity": 12.3456789}) == {"step": 1, "heldout_perplexity": 12.34568}
    log.add(2, {"loss": 2.0})
    assert rows_of(log.to_lines()) == [{"step": 1, "heldout_perplexity": 12.34568}, {"step": 2, "loss": 3.0}]
    assert training_rows(log.rows) == [{"step": 2, "loss": 3.0}]
    assert evaluations(log.rows) == [{"step": 1, "heldout_perplexity": 12.34568}]
