"""The event log as JSON lines that a hash chain protects.

Each line is a JSON object whose last member is `hash`: SHA-256 over the hash of the line before and the bytes of this
line up to its `hash`. The first line is a header that names the hash before it; a finished file ends with a line that
counts its events. A file that a relay still appends to has no such line: its head is kept with the relay's cursor.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, BinaryIO

from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.events.log import LoggedEvent

FORMAT, VERSION = "maxxit-events", 1
START = "0" * 64
"""The hash before the first line of all."""
MAX_LINE = 64 * 1024 * 1024
"""Bytes; no event is nearly as long."""
_HASH = b',"hash":"'
_END = b'"}\n'
_TAIL = len(_HASH) + len(START) + len(_END)


def instant(moment: datetime) -> str:
    """Return a time in UTC with microseconds, as the lines have it: an event is found again by it."""
    return iso_utc(moment)[:-4] + f"{moment.microsecond:06d}Z"


def body(event: LoggedEvent) -> bytes:
    """Return an event as the JSON object of its line, without the closing brace and the hash."""
    corr = f'"{event.correlation_id}"' if event.correlation_id else "null"
    return (
        f'{{"event_id":"{event.id}","name":{quoted(event.name)},"ts":"{instant(event.at)}",'
        f'"subject":{quoted(event.subject)},"correlation_id":{corr},"data":{event.text}'
    ).encode()


class HashChain:
    """Makes lines; `head` is the hash of the newest one."""

    def __init__(self, head: str = START, events: int = 0) -> None:
        self.head, self.events = head, events

    def header(self) -> bytes:
        """Return the first line of a file."""
        return self._line(f'{{"format":"{FORMAT}","version":{VERSION},"previous":"{self.head}"'.encode())

    def line(self, event: LoggedEvent) -> bytes:
        """Return the line of the next event."""
        self.events += 1
        return self._line(body(event))

    def trailer(self) -> bytes:
        """Return the last line of a finished file."""
        return self._line(f'{{"end":true,"events":{self.events}'.encode())

    def _line(self, text: bytes) -> bytes:
        self.head = digest(self.head, text)
        return text + _HASH + self.head.encode() + _END


def digest(head: str, text: bytes) -> str:
    """Return the hash of a line, which the next line's goes on from."""
    return sha256(head.encode() + text).hexdigest()


@dataclass(slots=True)
class Verified:
    """What a file holds whose every line has the right hash."""

    head: str = START
    """Hash of the last line."""
    events: int = 0
    first_id: int = 0
    last_id: int = 0
    finished: bool = False
    """Whether the last line counts the events, so that no line can be missing at the end."""


def verify(file: BinaryIO) -> Iterator[tuple[Verified, bytes]]:
    """Check a file line by line; yield the state after each line, and that line without its hash.

    Raises Rejected (code chain_broken), naming the line: a byte was changed, or a line added, removed or moved.
    """
    state, number = Verified(), 0
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
        text, stated = _split(line, number)
        members = _members(text, number)
        if number == 1:
            state.head = _header(members)
        if state.finished:
            raise _broken(number, "it follows the line that ends the file")
        state.head = _checked(state.head, text, stated, number)
        if "event_id" in members:
            _count(state, members, number)
        elif number > 1:
            _finish(state, members, number)
        yield state, text
    if not number:
        raise _broken(1, "the file is empty")


def _split(line: bytes, number: int) -> tuple[bytes, str]:
    text, tail = line[:-_TAIL], line[-_TAIL:]
    if len(line) <= _TAIL or not (tail.startswith(_HASH) and tail.endswith(_END)):
        raise _broken(number, "it does not end with its hash")
    return text, tail[len(_HASH) : -len(_END)].decode(errors="replace")


def _members(text: bytes, number: int) -> dict[str, Any]:
    try:
        found = json.loads(text + b"}")
    except ValueError:
        raise _broken(number, "it is no JSON object") from None
    return found if isinstance(found, dict) else {}


def _header(members: dict[str, Any]) -> str:
    if (members.get("format"), members.get("version")) != (FORMAT, VERSION):
        raise _broken(1, f"it is not the header of format {FORMAT}, version {VERSION}")
    return str(members.get("previous", ""))


def _checked(head: str, text: bytes, stated: str, number: int) -> str:
    computed = digest(head, text)
    if computed != stated:
        raise _broken(number, f"its hash is {stated}, computed {computed}")
    return computed


def _count(state: Verified, members: dict[str, Any], number: int) -> None:
    ident = int(members["event_id"])
    if ident <= state.last_id:
        raise _broken(number, f"event {ident} follows event {state.last_id}")
    state.events, state.last_id = state.events + 1, ident
    state.first_id = state.first_id or ident


def _finish(state: Verified, members: dict[str, Any], number: int) -> None:
    state.finished = True
    if members.get("events") != state.events:
        raise _broken(number, f"it counts {members.get('events')} events, the file holds {state.events}")


def _broken(number: int, why: str) -> Rejected:
    return Rejected(f"line {number}: {why}; the file was changed after it was written", code="chain_broken")
