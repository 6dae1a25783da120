"""`manage.py events export | verify | tail`: the event log as JSON lines with a hash chain, as CSV, and as it grows."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock, csv_text
from maxxit.core.commands import OpsCommand, count
from maxxit.core.errors import Rejected
from maxxit.events import log
from maxxit.events.hash_chain import HashChain, Verified, body, instant, verify
from maxxit.events.log import LoggedEvent

CHUNK = 5_000
"""Events read at a time."""
COLUMNS = ("event_id", "ts", "name", "subject", "correlation_id", "data")
POLL_SECONDS = 0.5


class Command(OpsCommand):
    help = "Export the event log, verify an export, follow new events. Times are UTC."
    subcommands = {
        "export": "write events to a file: JSON lines with a hash chain, or CSV",
        "verify": "check each line of an export: finds a changed byte, a missing and a moved line",
        "tail": "print the newest events, with --follow each new one",
    }
    epilog = """examples:
  manage.py events export --file events.jsonl --since 2026-11-01
  manage.py events verify events.jsonl --database
  manage.py events tail --follow --name 'order.*'"""

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "verify":
            parser.add_argument("file", type=Path, help="an export, or the file of the relay `file`")
            parser.add_argument("--head", default="", help="hash of the last line, as `export` printed it")
            parser.add_argument(
                "--database", action="store_true", help="also compare each event with the event log"
            )
            return
        parser.add_argument(
            "--name", action="append", default=[], help="only events of this name or pattern (repeatable)"
        )
        if action == "tail":
            parser.add_argument(
                "-n", "--number", type=count, default=20, help="how many to begin with (default 20)"
            )
            parser.add_argument("--follow", action="store_true", help="go on with each new event")
            return
        parser.add_argument("--file", type=Path, required=True, help="written anew; never overwritten")
        parser.add_argument("--csv", action="store_true", help="CSV instead of JSON lines; without hashes")
        parser.add_argument("--since", type=moment, help="first day or moment")
        parser.add_argument("--until", type=moment, help="first moment that is left out")

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _export(self, options: dict[str, Any]) -> Any:
        path: Path = options["file"]
        events = selected(options["name"], options["since"], options["until"])
        hash_chain = HashChain()
        written = 0
        with create(path) as file:
            file.write(csv_text.lines([COLUMNS]).encode() if options["csv"] else hash_chain.header())
            for event in events:
                file.write(csv_line(event) if options["csv"] else hash_chain.line(event))
                written += 1
            if not options["csv"]:
                file.write(hash_chain.trailer())
        head = "" if options["csv"] else hash_chain.head
        self.say(f"{written} events written to {path}", "SUCCESS")
        if head:
            self.say(f"head {head}")
        return {"file": str(path), "events": written, "head": head}

    def _verify(self, options: dict[str, Any]) -> Any:
        state = Verified()
        try:
            with options["file"].open("rb") as file:
                for state, text in verify(file):
                    if options["database"] and b'"event_id"' in text[:12]:
                        compare(state.last_id, text)
        except OSError as error:
            raise Rejected(f"{options['file']} cannot be read: {error.strerror}", code="no_file") from None
        if options["head"] and options["head"] != state.head:
            raise Rejected(
                f"the last line has the hash {state.head}, not {options['head']}: lines are missing at the end",
                code="chain_broken",
            )
        end = "finished" if state.finished or options["head"] else "not finished: its end cannot be checked"
        self.say(f"{state.events} events, {state.first_id} to {state.last_id}, unchanged; {end}", "SUCCESS")
        self.say(f"head {state.head}")
        return {
            "events": state.events,
            "first_id": state.first_id,
            "last_id": state.last_id,
            "head": state.head,
            "finished": state.finished,
        }

    def _tail(self, options: dict[str, Any]) -> Any:
        patterns = options["name"]
        shown = newest(options["number"], patterns)
        if not options["follow"]:
            for event in shown:
                self.say(text_line(event))
            return [json.loads(body(event) + b"}") for event in shown]
        position, final = shown[-1].id if shown else log.settled(), log.FinalId()
        while True:
            for event in shown:
                self.stdout.write(body(event).decode() + "}" if self.quiet else text_line(event))
            self.stdout.flush()
            found = log.read(position, final.read(), CHUNK)
            position = found[-1].id if found else position
            shown = [event for event in found if log.wanted(event.name, patterns)]
            if len(found) < CHUNK:
                time.sleep(POLL_SECONDS)


def moment(text: str) -> datetime:
    """argparse type: a UTC date or ISO time."""
    try:
        return clock.day(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date such as 2026-11-30, or an ISO time"
        ) from None


def create(path: Path) -> Any:
    """Open a new file for writing. Raises Rejected when it exists or cannot be written."""
    try:
        return path.open("xb")
    except FileExistsError:
        raise Rejected(f"{path} exists: name another file", code="file_exists") from None
    except OSError as error:
        raise Rejected(f"{path} cannot be written: {error.strerror}", code="no_file") from None


def selected(
    patterns: Sequence[str], since: datetime | None, until: datetime | None
) -> Iterator[LoggedEvent]:
    """Yield the final events of these names and times by ascending id, read in chunks."""
    final = log.settled()
    position = 0 if since is None else (log.first_since(since) or final + 1) - 1
    while events := log.read(position, final, CHUNK):
        position = events[-1].id
        for event in events:
            if (
                log.wanted(event.name, patterns)
                and (since is None or event.at >= since)
                and (until is None or event.at < until)
            ):
                yield event


def csv_line(event: LoggedEvent) -> bytes:
    """Return an event as a line of CSV."""
    corr = str(event.correlation_id or "")
    return csv_text.lines(
        [(str(event.id), instant(event.at), event.name, event.subject, corr, event.text)]
    ).encode()


def text_line(event: LoggedEvent) -> str:
    """Return an event as a line for people."""
    return f"{event.id}  {instant(event.at)}  {event.name}  {event.subject}  {event.text}"


def newest(number: int, patterns: Sequence[str]) -> list[LoggedEvent]:
    """Return the newest events of these names, oldest first; looks through the newest million at most."""
    upto = log.settled()
    found: list[LoggedEvent] = []
    lowest = max(0, upto - 1_000_000)
    while upto > lowest and len(found) < number:
        chunk = log.read(max(lowest, upto - CHUNK), upto, CHUNK)
        upto = max(lowest, upto - CHUNK)
        found = [event for event in chunk if log.wanted(event.name, patterns)] + found
    return found[-number:]


def compare(ident: int, text: bytes) -> None:
    """Compare one line with its row. Raises Rejected (chain_broken) when the row is missing or differs."""
    rows = log.read(ident - 1, ident, 1)
    if not rows or body(rows[0]) != text:
        what = "differs from" if rows else "is not in"
        raise Rejected(f"event {ident} of the file {what} the event log", code="chain_broken")
