"""Text files as people have them."""

import gzip
from pathlib import Path

import pytest

from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_endings_and_gzip_make_no_difference(
    tmp_path: Path, packed: bool, ending: bytes, mark: bytes
) -> None:
    whole = mark + ending.join([b"a,b", "ü,2".encode()])
    path = tmp_path / "file.csv"  # packed or not: the content counts, not the name
    path.write_bytes(gzip.compress(whole) if packed else whole)
    assert list(lines(path)) == [(1, "a,b"), (2, "ü,2")]


@pytest.mark.parametrize("cut", [15, 40, -3])
def test_damaged_gzip_is_named_with_its_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(b"a\n" * 10_000)[:cut])
    with pytest.raises(Misconfigured, match=r"file\.csv\.gz:\d+: the compressed data is damaged"):
        list(lines(path))


def test_a_changed_byte_in_gzip_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(bytes(range(256)).hex().encode() * 50))
    data[40] ^= 0xFF
    path = tmp_path / "file.csv.gz"
    path.write_bytes(data)
    with pytest.raises(Misconfigured, match="damaged"):
        list(lines(path))


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(b"good\nb\xffd\n")
    with pytest.raises(Misconfigured, match=r"file\.csv:2: not UTF-8"):
        list(lines(path))
