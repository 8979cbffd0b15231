"""Released zips: what is unpacked and where, and which zips are refused."""

import io
import shutil
import stat
import struct
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from bertline.model.formats.tf1.zips import unpack_checkpoint

INDEX, DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
FILES = {INDEX: b"index", DATA: b"data" * 1000, "bert_config.json": b"{}", "vocab.txt": b"[PAD]\n"}
CENTRAL = b"PK\x01\x02"  # begins a member's entry in the directory at a zip's end
FLAGS, SIZES = 8, 20  # offsets in such an entry: flags, then packed and unpack_checkpoint size


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that temporary folders are made in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def held(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(path: Path, temporary: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised, unpack_checkpoint(path):
        pass
    assert str(path) in str(raised.value)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("inner", ["", "uncased_L-2_H-4_A-2/", "released/2020/uncased_L-2_H-4_A-2/"])
def test_the_checkpoints_files_are_unpack_checkpoint_and_go_away_again(
    inner: str, temporary: Path, tmp_path: Path
) -> None:
    others = {"bert_model.ckpt.meta": b"graph", "LICENSE": b"free"}
    members = {f"{inner}{name}": content for name, content in {**FILES, **others}.items()}
    members |= {f"__MACOSX/{inner}._{INDEX}": b"finder", f"{inner}._{INDEX}": b"finder", "other/notes.json": b"{}"}
    with unpack_checkpoint(zip_of(tmp_path / "model.zip", members)) as folder:
        assert held(folder) == FILES
        assert not inner or folder.name == "uncased_L-2_H-4_A-2"
        assert held(temporary).keys() == {str((folder / name).relative_to(temporary)) for name in FILES}
    assert list(temporary.iterdir()) == []


def test_errors_inside_name_the_zip(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", {f"model/{name}": content for name, content in FILES.items()})
    with pytest.raises(ValueError) as raised, unpack_checkpoint(path) as folder:
        raise ValueError(f"{folder / 'vocab.txt'}: is no good")
    assert str(raised.value) == f"{path}/model/vocab.txt: is no good"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "inner", ["/absolute/", "C:/model/", "../", "model/../../", "..\\model\\", "model\\"], ids=lambda inner: inner
)
def test_nothing_is_written_outside_of_the_temporary_folder(inner: str, temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", {f"{inner}{name}": content for name, content in FILES.items()})
    with unpack_checkpoint(path) as folder:
        (made,) = temporary.iterdir()
        assert folder.resolve().is_relative_to(made)
        assert set(held(tmp_path)) == {"model.zip", *(f"temporary/{made.name}/{name}" for name in held(made))}
        assert sorted(held(made).values()) == sorted(FILES.values())
    assert list(temporary.iterdir()) == []


def test_links_are_not_followed(temporary: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = zipfile.ZipInfo("vocab.txt")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(INDEX, b"index")
        archive.writestr(link, str(secret))
    with unpack_checkpoint(tmp_path / "model.zip") as folder:
        assert held(folder) == {INDEX: b"index", "vocab.txt": str(secret).encode()}
        assert not (folder / "vocab.txt").is_symlink()


def test_encrypted_members_are_refused(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(CENTRAL) + FLAGS] |= 1
    path.write_bytes(content)
    refused(path, temporary, f"not a whole, plain zip .*{INDEX}'.* is encrypted")


def test_more_than_any_model_holds_is_refused(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", {INDEX: b"index", **{f"{number}.txt": b"text" for number in range(8)}})
    content, place = bytearray(path.read_bytes()), 0
    while (place := content.find(CENTRAL, place) + 1) > 0:
        content[place - 1 + SIZES : place + 7 + SIZES] = struct.pack("<II", 0xF0000000, 0xF0000000)
    path.write_bytes(content)
    refused(path, temporary, "would unpack to 36,238,786,560 bytes; models of up to 34,359,738,368 are read")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"<!DOCTYPE html><html>Sign in</html>",
            r"it begins with b'<!DOCTYPE html><html'\); download or copy it again",
        ),
        (b"", "model.zip: not a whole, plain zip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer"),
    ],
)
def test_other_files_are_refused_by_how_they_begin(
    content: bytes, message: str, temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    refused(tmp_path / "model.zip", temporary, message)


def test_a_missing_zip_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.zip: no such zip"), unpack_checkpoint(tmp_path / "model.zip"):
        pass


def test_a_cut_zip_is_refused(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", FILES)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, temporary, "not a whole, plain zip .*; download or copy it again")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_byte_is_refused(method: int, temporary: Path, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        place = archive.getinfo(DATA).header_offset + 30 + len(DATA) + 5
    content = bytearray(packed.getvalue())
    content[place] ^= 0x10
    (tmp_path / "model.zip").write_bytes(content)
    refused(tmp_path / "model.zip", temporary, "not a whole, plain zip .*; download or copy it again")


def test_a_full_disk_is_told_as_such(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    path = zip_of(tmp_path / "model.zip", FILES)
    with (
        pytest.raises(OSError, match=r"model\.zip: needs 4,013 bytes unpacked, .*; name a folder"),
        unpack_checkpoint(path),
    ):
        pass


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"config.json": b"{}", "2_128.zip": b""}, "but config.json, 2_128.zip; a zip in it must be unpacked first"),
        ({f"{number}.txt": b"" for number in range(7)}, "0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more;"),
        ({}, r"holds no TF1 checkpoint \(\*.index\), but nothing;"),
        ({f"a/{INDEX}": b"", f"b/{INDEX}": b""}, "holds several checkpoints, in a, b; unpack it and give one folder"),
    ],
)
def test_a_zip_without_one_checkpoint_is_refused_by_what_it_holds(
    members: dict[str, bytes], message: str, temporary: Path, tmp_path: Path
) -> None:
    refused(zip_of(tmp_path / "model.zip", members), temporary, message)
