"""Text files as people have them: plain or gzip, with or without a byte-order mark, with any line ending."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from maxxit.core.errors import Misconfigured

GZIP_MAGIC = b"\x1f\x8b"


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its line ending) of a UTF-8 file, gzip or not, whatever its name says.

    Raises `Misconfigured` with file and line where the gzip data is damaged or a line is not UTF-8.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        number = 0
        try:
            for number, line in enumerate(_unpacked(raw, packed), start=1):
                plain = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                try:
                    yield number, plain.decode().rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise Misconfigured(f"{path}:{number}: not UTF-8: {error.reason}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Misconfigured(f"{path}:{number + 1}: the gzip data is damaged: {error}") from error


def _unpacked(raw: IO[bytes], packed: bool) -> Iterator[bytes]:
    yield from gzip.GzipFile(fileobj=raw) if packed else raw
