"""The file of a backup: a tar archive, encrypted with a passphrase.

    manifest.json        format, moment, release, facts about the database
    database/000000 …    the dump of pg_dump (custom format) in pieces, one after another
    database.json        length and SHA-256 of the dump
    files/…              what the policy includes
    end.json             the number of files: a backup without it is not whole

Everything is written and read front to back, so that no part is ever on disk in plain text.
"""

import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from maxxit.core.errors import Rejected
from maxxit.ops.backup import age

FORMAT, VERSION = "maxxit-backup", 1
MANIFEST, DATABASE, DIGEST = "manifest.json", "database/", "database.json"
FILES, END = "files/", "end.json"
ENCRYPTED, PLAIN = ".tar.age", ".tar"


class Archive:
    """Writes the parts of a backup in their order."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar, self._files = tar, 0

    def manifest(self, content: dict[str, Any]) -> None:
        """Write the first part."""
        self._json(MANIFEST, {"format": FORMAT, "version": VERSION} | content)

    def database(self, pieces: Iterable[bytes]) -> None:
        """Write the dump and its digest."""
        digest, size = sha256(), 0
        for number, piece in enumerate(pieces):
            self._add(f"{DATABASE}{number:06d}", piece)
            digest.update(piece)
            size += len(piece)
        self._json(DIGEST, {"bytes": size, "sha256": digest.hexdigest()})

    def file(self, name: str, path: Path) -> None:
        """Write one file under `name`. Raises Rejected (no_file) where it cannot be read."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Rejected(f"{path} cannot be read: {error.strerror}", code="no_file") from None
        self._add(f"{FILES}{name}", content)
        self._files += 1

    def end(self) -> None:
        """Write the last part."""
        self._json(END, {"files": self._files})

    def _json(self, name: str, content: dict[str, Any]) -> None:
        self._add(name, json.dumps(content, indent=1).encode())

    def _add(self, name: str, content: bytes) -> None:
        part = tarfile.TarInfo(name)
        part.size, part.mode, part.mtime = len(content), 0o600, int(time.time())
        self._tar.addfile(part, io.BytesIO(content))


@contextmanager
def create(file: IO[bytes], passphrase: str) -> Iterator[Archive]:
    """Yield an archive that is written to `file`; not encrypted where the passphrase is empty."""
    sink: Any = age.Writer(file, passphrase) if passphrase else file
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        yield Archive(tar)
    if passphrase:
        sink.close()


class Contents:
    """Reads a backup: first `manifest`, then the pieces of `database`, then `files`; checks that it is whole."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        name, content = self._advance()
        if name != MANIFEST:
            raise _not_ours()
        self.manifest = _parsed(content)
        if (self.manifest.get("format"), self.manifest.get("version")) != (FORMAT, VERSION):
            raise _not_ours()

    def database(self) -> Iterator[bytes]:
        """Yield the pieces of the dump; the last one only once all of them have the stated digest.

        So a program that needs the whole dump never ends its work with a wrong one.
        """
        digest, size, held = sha256(), 0, b""
        name, content = self._advance()
        while name.startswith(DATABASE):
            if held:
                yield held
            held = content
            digest.update(content)
            size += len(content)
            name, content = self._advance()
        if name != DIGEST or _parsed(content) != {"bytes": size, "sha256": digest.hexdigest()}:
            raise _cut()
        yield held

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each file, after the dump was read. Raises Rejected where one is missing."""
        count = 0
        name, content = self._advance()
        while name.startswith(FILES):
            count += 1
            yield name.removeprefix(FILES), content
            name, content = self._advance()
        if name != END or _parsed(content) != {"files": count}:
            raise _cut()

    def _advance(self) -> tuple[str, bytes]:
        """Return name and content of the next part; an empty name at the end."""
        try:
            part = self._tar.next()
            content = self._tar.extractfile(part) if part else None
            return (part.name, content.read()) if part and content else ("", b"")
        except (tarfile.TarError, EOFError, OSError):
            raise _cut() from None


@contextmanager
def read(path: Path, passphrase: str) -> Iterator[Contents]:
    """Yield the contents of a backup.

    Raises Rejected where it cannot be read, is not whole, or the passphrase does not open it.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise Rejected(f"{path} cannot be read: {error.strerror}", code="no_file") from None
    with file:
        begins = file.read(len(age.MAGIC))
        file.seek(0)
        encrypted = begins == age.MAGIC
        if encrypted and not passphrase:
            raise Rejected(
                f"{path} is encrypted: set BACKUP_PASSPHRASE or BACKUP_PASSPHRASE_FILE", code="no_passphrase"
            )
        source: Any = age.Reader(file, passphrase) if encrypted else file
        with _tar(source) as tar:
            yield Contents(tar)


def _tar(source: Any) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=source, mode="r|")
    except tarfile.TarError:
        raise _not_ours() from None


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise _cut() from None
    return found if isinstance(found, dict) else {}


def _not_ours() -> Rejected:
    return Rejected("the file is no backup of Maxxit, or of a later version", code="no_backup")


def _cut() -> Rejected:
    return Rejected("the backup is not whole: take another one", code="backup_damaged")
