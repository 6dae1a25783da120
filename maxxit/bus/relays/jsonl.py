"""Relay to a file of JSON lines with a hash chain (`maxxit.events.hash_chain`): an event store to analyse and verify.

The file itself says where it is: its last line has the newest event's id and the head of the hash chain. A line that a
crash left unfinished is cut off; a file of something else is never changed. A file that was moved away is begun anew,
and its header carries the last hash.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from maxxit.bus.messages import Message
from maxxit.bus.models import EventCursor
from maxxit.core.config import ROOT
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.events.hash_chain import FORMAT, START, VERSION, HashChain
from maxxit.events.log import LoggedEvent

BLOCK = 1 << 20
HEADER = f'{{"format":"{FORMAT}","version":{VERSION},'.encode()


class JsonLines:
    """Appends our events to one file; nothing else, because only they have rows to compare with."""

    def __init__(self, *, path: str = "artifacts/events/events.jsonl", cursor: str = "relay:file") -> None:
        """Args: path: from the root of the project, or absolute; the variable EVENT_STORE_PATH replaces it."""
        self._path = ROOT / os.environ.get("EVENT_STORE_PATH", path)
        self._cursor = cursor
        self._file: BinaryIO | None = None
        self._hash_chain = HashChain()
        self._last_id = 0
        self._mark = ""

    def begin(self, position: int) -> None:
        """A file has its own position."""

    def send(self, messages: Sequence[Message], after: int, upto: int) -> int:
        """See `Relay.send`. The lines are on disk when it returns."""
        try:
            file = self._opened()
            if self._last_id and self._last_id != after:
                return self._last_id  # written before a crash, or an older file that was put back
            events = [one for one in messages if one.topic == "events"]
            file.writelines(self._hash_chain.line(_event(one)) for one in events)
            self._mark = events[-1].mark if events else self._mark
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

    def newest(self) -> str:
        """See `Relay.newest`."""
        return self._mark

    def close(self) -> None:
        """Close the file; the next batch opens it again and looks where it is."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what a full disk did not take is written again
                file.close()

    def _opened(self) -> BinaryIO:
        """Return the file, open for appending; reopened when it was moved away."""
        if self._file is not None and not _is_at(self._file, self._path):
            self.close()
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+b")
            try:
                self._resume(file)
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def _resume(self, file: BinaryIO) -> None:
        """Take position and head from the last line, and cut an unfinished one off; begin an empty file.

        Raises Misconfigured for a file of something else, which stays as it is.
        """
        end = _end_of_lines(file)
        line = _last_line(file, end)
        try:
            if not _begins_as_ours(file):
                raise ValueError("another header")
            members = json.loads(line) if line else {}
            head, last_id = members.get("hash") or self._known_head(), int(members.get("event_id", 0))
            mark = _mark(members)
        except (ValueError, TypeError, AttributeError, KeyError):
            raise Misconfigured(
                f"{self._path} is no file of events: move it away, or set EVENT_STORE_PATH"
            ) from None
        if members.get("end"):
            raise Misconfigured(f"{self._path} is a finished export: set EVENT_STORE_PATH to another file")
        file.truncate(end)
        file.seek(0, os.SEEK_END)
        self._hash_chain, self._last_id, self._mark = HashChain(head), last_id, mark
        if not line:
            file.write(self._hash_chain.header())

    def _known_head(self) -> str:
        head = EventCursor.objects.filter(pk=self._cursor).values_list("head", flat=True).first()
        return head or START


def _event(message: Message) -> LoggedEvent:
    corr = UUID(message.correlation_id) if message.correlation_id else None
    return LoggedEvent(int(message.event_id), message.at, message.name, message.subject, corr, message.data)


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _mark(members: Mapping[str, Any]) -> str:
    """Return the mark of the event of a line; empty for a header."""
    if "event_id" not in members:
        return ""
    at = datetime.fromisoformat(members["ts"])
    corr = members["correlation_id"] or ""
    return Message(
        "events", members["event_id"], members["name"], at, members["subject"], corr, "", "{}"
    ).mark


def _begins_as_ours(file: BinaryIO) -> bool:
    """Return whether the file is empty, or begins as the header of a file of events does."""
    file.seek(0)
    begun = file.read(len(HEADER))
    return HEADER.startswith(begun)


def _end_of_lines(file: BinaryIO) -> int:
    """Return the position after the last newline; 0 without any."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - BLOCK)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0


def _last_line(file: BinaryIO, end: int) -> bytes:
    """Return the line that ends at `end`; empty where there is none."""
    text, start = b"", end
    while start > 0 and text.count(b"\n", 0, -1) < 1:
        start = max(0, start - BLOCK)
        file.seek(start)
        text = file.read(end - start)
    return text.splitlines()[-1] if text else b""
