"""pytorch_model.bin: read through the safe loader alone, whatever the file asks for.

The tests that need PyTorch run where the `check` extra is installed.
"""

import io
import json
import pickle
import sys
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from bertline.model.formats.huggingface.weight_files import read_tensors, read_torch


class Payload:
    """Makes a file when it is unpickled by a loader that trusts its input."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def assert_executes_nothing(file: Path, target: Path) -> None:
    with pytest.raises(ValueError, match="refused, it holds more than tensors and could run code when loaded"):
        read_torch(file)
    assert not target.exists()


def test_without_torch_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as on a machine without it
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r'needs torch.*pip install "bertline\[torch\]", or convert .*safetensors'):
        read_torch(tmp_path / "pytorch_model.bin")


def test_a_git_lfs_pointer_needs_no_torch_to_be_told(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: a git-lfs pointer"):
        read_tensors(tmp_path)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("new_format", [True, False])
def test_tensors_of_both_file_formats_are_read(torch, tmp_path: Path, new_format: bool) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    state = OrderedDict(
        plain=shared,
        view=shared.T,
        half=torch.ones(2, dtype=torch.bfloat16) / 3,
        parameter=torch.nn.Parameter(torch.zeros(1)),
        position_ids=torch.arange(4)[None],
    )
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    tensors, remarks = read_tensors(tmp_path)
    assert sorted(tensors) == ["half", "parameter", "plain", "view"]
    assert tensors["plain"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["view"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["half"].tolist() == state["half"].float().tolist()
    assert all(array.dtype == np.float32 for array in tensors.values())
    assert remarks == ["1 of 4 tensors were bfloat16, widened to float32 without loss"]


def test_shards_are_read(torch, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert read_tensors(tmp_path)[0]["a"].tolist() == [1, 1]


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_would_run_code_is_refused_before_it_does(torch, tmp_path: Path, new_format: bool) -> None:
    target = tmp_path / "made-by-the-file"
    path = tmp_path / "pytorch_model.bin"
    state = {"a": torch.ones(2), "payload": Payload(target)}
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    torch.load(path, weights_only=False)
    assert target.exists()  # a trusting loader does run it
    target.unlink()
    assert_executes_nothing(path, target)


def test_a_bare_pickle_that_would_run_code_is_refused_before_it_does(torch, tmp_path: Path) -> None:
    target, path = tmp_path / "made-by-the-file", tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps(Payload(target), protocol=2))
    assert_executes_nothing(path, target)


def test_a_whole_module_is_refused(torch, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"refused, it holds more than tensors .*torch.nn.modules.linear.Linear"):
        read_torch(path)


def test_the_tar_format_of_2016_is_refused(torch, tmp_path: Path) -> None:
    target, path = tmp_path / "made-by-the-file", tmp_path / "pytorch_model.bin"
    content = pickle.dumps(Payload(target), protocol=2)
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(
        ValueError, match=r"not a whole PyTorch file of tensors .*convert the file to model.safetensors"
    ):
        read_torch(path)
    assert not target.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, -200, -1])
def test_a_cut_file_is_refused(torch, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(200)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"pytorch_model.bin: not a whole PyTorch file"):
        read_torch(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a mapping from name to tensor"),
        ({}, "holds a dict, not a mapping"),
        ({"epoch": 3}, "epoch is a int, not a tensor"),
    ],
)
def test_anything_but_tensors_by_name_is_refused(torch, tmp_path: Path, content, message: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_torch(path)


def test_sparse_tensors_are_refused(torch, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.eye(3).to_sparse()}, path)
    with pytest.raises(ValueError, match=r"a is a sparse or quantized tensor|refused"):
        read_torch(path)
