"""Source files and their bytes: blocks and lines out of any compression, text out of any encoding."""

import bz2
import codecs
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import cast

BLOCK_SIZE_BYTES = 2**20

Advance = Callable[[int], None]  # told how many more bytes of a file, as it lies on disk, are read

STRAY_NULS = 8  # and one in 1000 bytes: a file with more is no text
UTF8_REPLACEMENT = "\ufffd".encode()


@dataclass(frozen=True)
class SourceFile:
    """A file to read, and the name that goes into ids and documents instead of its path."""

    kind: str  # "dump", "books", ...: a field of Sources
    path: Path
    name: str  # path below the folder or the wildcard that was given: "pg84.txt", "AA/wiki_00"

    @property
    def stem(self) -> str:
        """The name without what tells format and compression: "shelf/pg84" of "shelf/pg84.txt.gz"."""
        return self.name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".txt")


class CutFileError(ValueError):
    """A compressed file that ends early or is damaged."""


def read_blocks(path: Path, advance: Advance) -> Iterator[bytes]:
    """The content in blocks of at most 1 MiB, decompressed by what the file is, not by its name.

    Reads all streams of a multi-stream file. Raises CutFileError after the last whole block of a file
    that is cut.
    """
    with path.open("rb") as file:
        stream = _decompress(file)
        position = 0
        while True:
            try:
                # read1, because read loses the data before an error.
                block = stream.read1(BLOCK_SIZE_BYTES)
            except (EOFError, OSError, zlib.error) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise CutFileError(
                    f"{path}: cut or damaged near byte {file.tell():,} of {path.stat().st_size:,} ({error}); "
                    "fetch the file again"
                ) from error
            advance(file.tell() - position)
            position = file.tell()
            if not block:
                return
            yield block


def read_lines(path: Path, advance: Advance) -> Iterator[bytes]:
    r"""The lines without their "\n", and no other line ends: U+2028 may stand inside a JSON line."""
    rest: list[bytes] = []
    for block in read_blocks(path, advance):
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            yield b"".join(rest)
            yield from others[:-1]
            rest = [others[-1]]
    if last := b"".join(rest):
        yield last


def read_text(path: Path, counts: Counter[str], advance: Advance) -> str:
    r"""A whole text file with "\n" line ends; one that is not UTF-8 is read as cp1252 or Latin-1.

    Counts `repaired.not_utf8` files. Raises ValueError for a file that is no text.
    """
    content = b"".join(read_blocks(path, advance))
    encoding = _encoding(content)
    if encoding != "utf-16" and content.count(0) > STRAY_NULS + len(content) // 1000:
        raise ValueError(
            f"{path}: holds NUL bytes, so it is no text, or UTF-16 without a byte-order mark; leave it out"
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        counts["repaired.not_utf8"] += 1
        text = _decode_8_bit(content)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def decode_stream(blocks: Iterable[bytes], counts: Counter[str]) -> Iterator[str]:
    """The text of a stream: UTF-16 if a byte-order mark says so, else UTF-8 with errors replaced.

    Counts as `repaired.invalid_utf8` the places that became U+FFFD.
    """
    decoder: codecs.IncrementalDecoder | None = None
    tail = b""
    for block in blocks:
        if decoder is None:
            decoder = codecs.getincrementaldecoder(_encoding(block))("replace")
        text = decoder.decode(block)
        # A U+FFFD that the file itself holds was broken elsewhere; it may lie across two blocks.
        tail += block
        replaced = text.count("\ufffd") - tail.count(UTF8_REPLACEMENT)
        tail = tail[1 - len(UTF8_REPLACEMENT) :]
        if replaced > 0:
            counts["repaired.invalid_utf8"] += replaced
        yield text
    if decoder is not None and (text := decoder.decode(b"", final=True)):
        counts["repaired.invalid_utf8"] += 1
        yield text


def decode_line(line: bytes, counts: Counter[str]) -> str:
    """One line of a UTF-8 file with errors replaced and counted, as in `decode_stream`."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return "".join(decode_stream([line], counts))


def _decompress(file: BufferedReader) -> BufferedReader:
    magic = file.read(3)
    file.seek(0)
    if magic == b"BZh":
        return cast(BufferedReader, bz2.BZ2File(file))
    if magic[:2] == b"\x1f\x8b":
        return cast(BufferedReader, gzip.GzipFile(fileobj=file))
    return file


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _decode_8_bit(content: bytes) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")
