"""Read text files: plain, gzip or zip, UTF-8 with or without a byte-order mark, lines that end in \\n or \\r\\n."""

import codecs
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from maxxit.core.errors import Misconfigured

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""A file that begins with one of these is UTF-16 or UTF-32, as spreadsheets save "Unicode text"."""
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
"""Magic bytes of compressed files."""


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without line ending) of a UTF-8 file, detecting compression by its content.

    Raises `Misconfigured` with file and line where compressed data is damaged, a zip holds several files, or a line
    is not UTF-8.
    """
    for number, line in raw_lines(path):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            found = "UTF-16, not UTF-8" if line.startswith(UTF_16) else f"not UTF-8: {error.reason}"
            raise Misconfigured(f"{path}:{number}: {found}. Save the file as UTF-8") from None


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the same as `lines` undecoded, for readers that reject single lines."""
    with path.open("rb") as raw:
        begins = raw.read(len(ZIP))
        raw.seek(0)
        number = 0
        try:
            for number, line in enumerate(_unpacked(path, raw, begins), start=1):
                yield number, (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).rstrip(b"\r\n")
        except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
            raise Misconfigured(f"{path}:{number + 1}: the compressed data is damaged: {error}") from error


def head(path: Path, most: int = 5) -> str:
    """Return the first `most` lines that are not empty, to detect a format; bytes that are no UTF-8 are replaced.

    Raises `Misconfigured` for UTF-16 and for a damaged archive.
    """
    found = list(islice((line for _, line in raw_lines(path) if line.strip()), most))
    if found and found[0].startswith(UTF_16):
        raise Misconfigured(f"{path}:1: UTF-16, not UTF-8. Save the file as UTF-8")
    return "\n".join(line.decode(errors="replace") for line in found)


def _unpacked(path: Path, raw: IO[bytes], begins: bytes) -> Iterator[bytes]:
    if begins.startswith(GZIP):
        yield from gzip.GzipFile(fileobj=raw)
    elif begins == ZIP:
        with zipfile.ZipFile(raw) as packed:
            names = [name for name in packed.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise Misconfigured(f"{path} contains {len(names)} files: unpack it and name one of them")
            with packed.open(names[0]) as only:
                yield from only
    else:
        yield from raw
