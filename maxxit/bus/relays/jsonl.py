"""Relay to a file of JSON lines with a hash chain (`maxxit.events.hash_chain`): an event store to analyse and verify.

The file itself says where it is: its last line has the newest event's id and the head of the hash chain. A line that a
crash left unfinished is cut off. A file that was moved away is begun anew, and its header carries the last hash.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from maxxit.bus.messages import Message
from maxxit.bus.models import EventCursor
from maxxit.core.config import ROOT
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.events.hash_chain import START, HashChain
from maxxit.events.log import LoggedEvent

BLOCK = 1 << 20


class JsonLines:
    """Appends our events to one file; nothing else, because only they have rows to compare with."""

    def __init__(self, *, path: str = "artifacts/events/events.jsonl", cursor: str = "relay:file") -> None:
        """Args: path: from the root of the project, or absolute; the variable EVENT_STORE_PATH replaces it."""
        self._path = ROOT / os.environ.get("EVENT_STORE_PATH", path)
        self._cursor = cursor
        self._file: BinaryIO | None = None
        self._hash_chain = HashChain()
        self._last_id = 0

    def begin(self, position: int) -> None:
        """A file has its own position."""

    def send(self, messages: Sequence[Message], after: int, upto: int) -> int:
        """See `Relay.send`. The lines are on disk when it returns."""
        try:
            file = self._opened()
            if self._last_id and self._last_id != after:
                return self._last_id  # written before a crash, or an older file that was put back
            for one in messages:
                if one.topic == "events":
                    file.write(self._hash_chain.line(_event(one)))
            self._last_id = upto
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            self.close()
            raise Retryable(f"{self._path}: {error.strerror}") from error
        EventCursor.objects.filter(pk=self._cursor).update(head=self._hash_chain.head)
        return upto

    def publish(self, messages: Sequence[Message]) -> None:
        """Prices are not written: they have a store of their own."""

    def close(self) -> None:
        """Close the file; the next batch opens it again and looks where it is."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        """Return the file, open for appending; reopened when it was moved away."""
        if self._file is not None and not _is_at(self._file, self._path):
            self.close()
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
            self._resume(self._file)
        return self._file

    def _resume(self, file: BinaryIO) -> None:
        """Cut an unfinished line off, and take position and head from the last line; begin an empty file."""
        _cut_unfinished(file)
        line = _last_line(file)
        if not line:
            head = EventCursor.objects.filter(pk=self._cursor).values_list("head", flat=True).first()
            self._hash_chain = HashChain(head or START)
            file.write(self._hash_chain.header())
            self._last_id = 0
            return
        try:
            members = json.loads(line)
            self._hash_chain = HashChain(members["hash"])
            self._last_id = int(members.get("event_id", 0))
        except (ValueError, KeyError, TypeError):
            raise Misconfigured(
                f"{self._path} is no file of events: move it away, or set EVENT_STORE_PATH"
            ) from None
        if members.get("end"):
            raise Misconfigured(f"{self._path} is a finished export: set EVENT_STORE_PATH to another file")


def _event(message: Message) -> LoggedEvent:
    corr = UUID(message.correlation_id) if message.correlation_id else None
    return LoggedEvent(int(message.event_id), message.at, message.name, message.subject, corr, message.data)


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _cut_unfinished(file: BinaryIO) -> None:
    """Cut off what follows the last newline."""
    size = file.seek(0, os.SEEK_END)
    position = size
    while position > 0:
        start = max(0, position - BLOCK)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != size:
        file.truncate(position)
    file.seek(0, os.SEEK_END)


def _last_line(file: BinaryIO) -> bytes:
    """Return the last line of a file that ends with a newline; empty for an empty file."""
    size = file.seek(0, os.SEEK_END)
    text, start = b"", size
    while start > 0 and text.count(b"\n", 0, -1) < 1:
        start = max(0, start - BLOCK)
        file.seek(start)
        text = file.read(size - start)
    file.seek(0, os.SEEK_END)
    return text.splitlines()[-1] if text else b""
