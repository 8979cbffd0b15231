"""Released zips: what is unpacked, and every way in which a zip is refused."""

import io
import stat
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest

from bertline.model.formats.tf1.zips import unpacked

INDEX, DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
FILES = {INDEX: b"index", DATA: b"data" * 1000, "bert_config.json": b"{}", "vocab.txt": b"[PAD]\n"}
CENTRAL = b"PK\x01\x02"  # begins a member's entry in the directory at a zip's end
FLAGS, SIZES = 8, 20  # offsets in such an entry: flags, then packed and unpacked size


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
    with pytest.raises(ValueError, match=message) as raised, unpacked(path):
        pass
    assert str(path) in str(raised.value)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("inner", ["", "uncased_L-2_H-4_A-2/", "released/2020/uncased_L-2_H-4_A-2/"])
def test_the_checkpoints_files_are_unpacked_and_go_away_again(inner: str, temporary: Path, tmp_path: Path) -> None:
    others = {"bert_model.ckpt.meta": b"graph", "LICENSE": b"free"}
    members = {f"{inner}{name}": content for name, content in {**FILES, **others}.items()}
    members |= {f"__MACOSX/{inner}._{INDEX}": b"finder", f"{inner}._{INDEX}": b"finder", "other/notes.json": b"{}"}
    with unpacked(zip_of(tmp_path / "model.zip", members)) as folder:
        assert held(folder) == FILES
        assert not inner or folder.name == "uncased_L-2_H-4_A-2"
        assert held(temporary).keys() == {str((folder / name).relative_to(temporary)) for name in FILES}
    assert list(temporary.iterdir()) == []


def test_errors_inside_name_the_zip(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", {f"model/{name}": content for name, content in FILES.items()})
    with pytest.raises(ValueError) as raised, unpacked(path) as folder:
        raise ValueError(f"{folder / 'vocab.txt'}: is no good")
    assert str(raised.value) == f"{path}/model/vocab.txt: is no good"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/vocab.txt", "has an absolute name"),
        ("C:/vocab.txt", "has an absolute name"),
        ("c:vocab.txt", "has an absolute name"),
        ("../vocab.txt", "lies outside of its folder"),
        ("model/../../vocab.txt", "lies outside of its folder"),
        ("..\\vocab.txt", "has a backslash or a zero byte in its name"),
        ("model\\vocab.txt", "has a backslash or a zero byte in its name"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, reason: str, temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", {INDEX: b"index", name: b"text"})
    refused(path, temporary, f"model.zip: its member .* {reason}; a released zip has none of that")
    assert held(tmp_path) == {"model.zip": path.read_bytes()}


@pytest.mark.parametrize(("kind", "reason"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is no ordinary file")])
def test_links_and_devices_are_refused(kind: int, reason: str, temporary: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("vocab.txt")
    link.create_system, link.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(INDEX, b"index")
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "model.zip", temporary, f'its member "vocab.txt" {reason}')


@pytest.mark.parametrize("second", ["vocab.txt", "VOCAB.txt", "./vocab.txt"])
def test_a_member_that_is_there_twice_is_refused(second: str, temporary: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name in (INDEX, "vocab.txt", second):
            archive.writestr(name, b"text")
    refused(tmp_path / "model.zip", temporary, f'its member "{second}" is there twice')


def test_encrypted_members_are_refused(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(CENTRAL) + FLAGS] |= 1
    path.write_bytes(content)
    refused(path, temporary, f'its member "{INDEX}" is encrypted')


def test_a_member_that_grows_a_thousandfold_is_refused(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", {INDEX: b"index", DATA: bytes(65 << 20)})
    refused(path, temporary, f'its member "{DATA}" would unpack to 68,157,440 bytes from 6')


def test_more_than_any_model_holds_is_refused(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", {f"{number}.index": b"index" for number in range(9)})
    content, place = bytearray(path.read_bytes()), 0
    while (place := content.find(CENTRAL, place) + 1) > 0:
        content[place - 1 + SIZES : place + 7 + SIZES] = struct.pack("<II", 0xF0000000, 0xF0000000)
    path.write_bytes(content)
    refused(path, temporary, "would unpack to 36,238,786,560 bytes; no model is read that is above 34,359,738,368")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "model.zip: no zip, but a web page; download or copy it again"),
        (b"nothing of the kind", "model.zip: no zip, but another kind of file; download or copy it again"),
        (b"", "model.zip: no zip, but another kind of file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer"),
    ],
)
def test_what_is_no_zip_is_refused(content: bytes, message: str, temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    refused(tmp_path / "model.zip", temporary, message)


def test_a_missing_zip_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.zip: no such zip"), unpacked(tmp_path / "model.zip"):
        pass


def test_a_cut_zip_is_refused(temporary: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip", FILES)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, temporary, "a zip that is cut or damaged .*; download or copy it again")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_byte_is_refused_by_its_member(method: int, temporary: Path, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        place = archive.getinfo(DATA).header_offset + 30 + len(DATA) + 5
    content = bytearray(packed.getvalue())
    content[place] ^= 0x10
    (tmp_path / "model.zip").write_bytes(content)
    refused(tmp_path / "model.zip", temporary, f'its member "{DATA}" is damaged .*; download or copy it again')


def test_other_methods_of_packing_are_refused(temporary: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(INDEX, b"index")
    refused(tmp_path / "model.zip", temporary, "is packed by a method that is not read here")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b""}, "holds no TF1 checkpoint.*holds config.json, pytorch_model"),
        ({f"{number}.txt": b"" for number in range(7)}, "it holds 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more"),
        ({"2_128.zip": b"", "2_256.zip": b""}, "holds other zips: unpack it and give one of them"),
        ({}, "it is empty"),
        ({f"a/{INDEX}": b"", f"b/{INDEX}": b""}, "holds several checkpoints, in a, b; unpack it and give one folder"),
    ],
)
def test_a_zip_without_one_checkpoint_is_refused_by_what_it_holds(
    members: dict[str, bytes], message: str, temporary: Path, tmp_path: Path
) -> None:
    refused(zip_of(tmp_path / "model.zip", members), temporary, message)
