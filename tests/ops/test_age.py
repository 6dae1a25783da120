"""The encryption of backups is age's: what its program wrote is opened here, and what is changed is refused."""

import base64
import io
import os
import pty
import shutil
import time
from pathlib import Path

import pytest

from maxxit.core.errors import Rejected
from maxxit.ops.backup.age import CHUNK, Reader, Writer

PHRASE = "correct horse battery staple"
BY_AGE = (
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCB2SWtrbC9peWRROUZsejdRTlpEWGxnIDE4CnBqS2UyaFZTU2YzVXhVWFlkcERscUtFME5J"
    "L0dmcXRCUTdaSmV1WGZ0N1EKLS0tIFd5RG5xN0lLclNUdnZsOEc0NnJocWRsc3VqVEE2VjZWcUtUYlZVYWF2aEUKor7W0ymkeT/eVKn6g0a4iww8"
    "IqhHmEOHVojEB+iW4kExG8w1Et0yTO8s6idf"
)
"""Written by age 1.1.1 (Debian): `age --passphrase` of the text below."""
SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7)


def sealed(content: bytes, phrase: str = PHRASE) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, phrase)
    writer.write(content)
    writer.close()
    return file.getvalue()


def opened(content: bytes, phrase: str = PHRASE) -> bytes:
    return Reader(io.BytesIO(content), phrase).read()


def test_what_age_wrote_is_opened() -> None:
    assert opened(base64.b64decode(BY_AGE)) == b"hello backup\n"


@pytest.mark.parametrize("size", SIZES)
def test_every_length_comes_back_in_pieces_of_any_length(size: int) -> None:
    content = os.urandom(size)
    reader, found = Reader(io.BytesIO(sealed(content)), PHRASE), b""
    while piece := reader.read(10_007):
        found += piece
    assert found == content


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(Rejected, match="passphrase does not open"):
        opened(sealed(b"content"), "another passphrase!")


def test_every_changed_byte_and_every_cut_is_found() -> None:
    content = os.urandom(CHUNK + 100)
    file = sealed(content)
    begins = file.index(b"---")
    for place in (begins + 10, begins + 60, begins + 3000, len(file) - 3):
        with pytest.raises(Rejected, match=r"damaged|age"):
            opened(file[:place] + bytes([file[place] ^ 1]) + file[place + 1 :])
    for cut in (begins + 100, len(file) - 116, len(file) - 1):
        with pytest.raises(Rejected, match="damaged"):
            opened(file[:cut])
    with pytest.raises(Rejected, match="damaged"):
        opened(file + file[-116:])


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"age-encryption.org/v1\n-> X25519 abc\nxyz\n--- abc\n"]
)
def test_another_file_is_named_as_such(content: bytes) -> None:
    with pytest.raises(Rejected, match="not encrypted with a passphrase"):
        opened(content)


def test_a_passphrase_that_costs_gigabytes_to_test_is_refused() -> None:
    file = sealed(b"content").replace(b" 16\n", b" 30\n", 1)
    with pytest.raises(Rejected, match="open it with age"):
        opened(file)


if shutil.which("age"):

    @pytest.mark.parametrize("size", SIZES)
    def test_age_opens_what_we_wrote(tmp_path: Path, size: int) -> None:
        content = os.urandom(size)
        (tmp_path / "file.age").write_bytes(sealed(content))
        pid, terminal = pty.fork()
        if pid == 0:
            os.execlp("age", "age", "-d", "-o", str(tmp_path / "file"), str(tmp_path / "file.age"))
        time.sleep(0.3)
        os.write(terminal, PHRASE.encode() + b"\r")
        assert os.waitpid(pid, 0)[1] == 0
        assert ((tmp_path / "file").read_bytes() if size else b"") == content
