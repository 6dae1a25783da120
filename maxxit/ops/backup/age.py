"""Encryption of backups in the format of age (age-encryption.org/v1) with a passphrase.

`age --decrypt` opens them on a machine without Maxxit. The primitives are those of `cryptography`; the format is small:
a header with the file key, which scrypt wraps by the passphrase, then the content in chunks of 64 KiB, each sealed with
ChaCha20-Poly1305 under a counter and a mark of the last one, so that no chunk can be changed, moved or missing.
"""

import base64
import binascii
import hmac
import os
from hashlib import sha256
from io import BufferedIOBase
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from maxxit.core.errors import Rejected

MAGIC = b"age-encryption.org/v1"
CHUNK = 64 * 1024
TAG = 16
WORK_FACTOR, MOST_WORK = 16, 20
"""Logarithm of scrypt's cost: 64 MiB of memory to make a backup; up to 1 GiB to open one of another program."""
HEADER_LINES = 3
LONGEST_LINE = 256


def _wrapping_key(passphrase: str, salt: bytes, work: int) -> ChaCha20Poly1305:
    derive = Scrypt(salt=MAGIC + b"/scrypt" + salt, length=32, n=1 << work, r=8, p=1)
    return ChaCha20Poly1305(derive.derive(passphrase.encode()))


def _derived(file_key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(file_key)


def _mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), header, sha256)


def _text(raw: bytes) -> bytes:
    return base64.b64encode(raw).rstrip(b"=")


def _raw(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise _damaged("its header") from None


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _damaged(what: str) -> Rejected:
    return Rejected(
        f"the backup is damaged or was changed ({what} is wrong): take another one", code="backup_damaged"
    )


class Writer(BufferedIOBase):
    """Encrypts what is written to it. `close` writes the last chunk; without it the file cannot be opened."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        self._file, self._kept, self._number = file, bytearray(), 0
        file_key, salt = os.urandom(16), os.urandom(16)
        wrapped = _wrapping_key(passphrase, salt, WORK_FACTOR).encrypt(bytes(12), file_key, None)
        header = MAGIC + b"\n-> scrypt %b %d\n%b\n---" % (_text(salt), WORK_FACTOR, _text(wrapped))
        nonce = os.urandom(16)
        file.write(header + b" " + _text(_mac(file_key, header)) + b"\n" + nonce)
        self._cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take bytes; whole chunks are encrypted at once, but never the newest, which may be the last."""
        self._kept += data
        while len(self._kept) > CHUNK:
            self._seal(bytes(self._kept[:CHUNK]), last=False)
            del self._kept[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Write the last chunk. The file below stays open."""
        if not self.closed:
            self._seal(bytes(self._kept), last=True)
        super().close()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last=last), chunk, None))
        self._number += 1


class Reader(BufferedIOBase):
    """Decrypts a file of `Writer` or of age, front to back. Raises Rejected for a wrong passphrase or changed bytes."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        self._file, self._kept, self._number = file, b"", 0
        lines = [file.readline(LONGEST_LINE) for _ in range(HEADER_LINES)]
        stanza = lines[1].split()
        if lines[0].rstrip() != MAGIC or len(stanza) != 4 or stanza[:2] != [b"->", b"scrypt"]:
            raise Rejected(
                "the file is not encrypted with a passphrase by age: name a backup", code="no_backup"
            )
        work = int(stanza[3]) if stanza[3].isdigit() else MOST_WORK + 1
        if work > MOST_WORK:
            raise Rejected(
                f"its passphrase costs more than 2^{MOST_WORK} to test: open it with age", code="no_backup"
            )
        end = file.readline(LONGEST_LINE)
        try:
            key = _wrapping_key(passphrase, _raw(stanza[2]), work)
            file_key = key.decrypt(bytes(12), _raw(lines[2].strip()), None)
        except InvalidTag:
            raise Rejected(
                "the passphrase does not open this backup: set BACKUP_PASSPHRASE to the one that it was made with",
                code="wrong_passphrase",
            ) from None
        stated = end.removeprefix(b"--- ").strip()
        if not hmac.compare_digest(_mac(file_key, b"".join(lines) + b"---"), _raw(stated)):
            raise _damaged("its header")
        self._cipher = ChaCha20Poly1305(_derived(file_key, file.read(16), b"payload"))
        self._next: bytes | None = file.read(CHUNK + TAG)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        parts, wanted = [self._kept], len(self._kept)
        while size is None or size < 0 or wanted < size:
            chunk = self._open()
            if chunk is None:
                break
            parts.append(chunk)
            wanted += len(chunk)
        found = b"".join(parts)
        cut = len(found) if size is None or size < 0 else size
        self._kept = found[cut:]
        return found[:cut]

    def _open(self) -> bytes | None:
        """Decrypt the next chunk; None after the last."""
        if self._next is None:
            return None
        sealed, following = self._next, self._file.read(CHUNK + TAG)
        last = not following
        try:
            chunk = self._cipher.decrypt(_nonce(self._number, last=last), sealed, None)
        except (InvalidTag, ValueError):
            raise _damaged("its end" if last else f"part {self._number + 1}") from None
        self._next = None if last else following
        self._number += 1
        return chunk
