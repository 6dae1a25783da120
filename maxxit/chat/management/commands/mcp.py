"""`manage.py mcp`: the MCP server on standard input and output, for an assistant on this machine."""

import json
import sys
from collections.abc import Callable, Iterable
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from ninja.errors import HttpError

from maxxit.access import auth
from maxxit.access.auth import Caller
from maxxit.chat.mcp import protocol
from maxxit.core import redact, untrusted
from maxxit.core.config import variable

KEY = "MAXXIT_API_KEY"
MAX_LINE = 100_000
"""Characters of a message."""


def serve(lines: Iterable[str], out: IO[str], caller: Callable[[], Caller | None]) -> None:
    """Answer each line of JSON with a line of JSON, until there are no more.

    Args:
        caller: who calls, asked for each message: a key that is revoked meanwhile is refused.
    """
    for line in lines:
        if not line.strip():
            continue
        answer = _answer(line, caller)
        if answer is not None:
            out.write(json.dumps(answer, ensure_ascii=False) + "\n")
            out.flush()


def _answer(line: str, caller: Callable[[], Caller | None]) -> dict[str, Any] | None:
    if len(line) > MAX_LINE:
        return protocol.error_of(
            None, protocol.INVALID_REQUEST, f"a message has at most {MAX_LINE} characters"
        )
    try:
        message = untrusted.loads(line)
    except ValueError:
        return protocol.error_of(None, protocol.PARSE_ERROR, "this is no JSON")
    who = caller()
    if who is None:
        ident = message.get("id") if isinstance(message, dict) else None
        return protocol.error_of(
            ident, protocol.INVALID_REQUEST, f"the key of {KEY} is revoked or has expired"
        )
    return protocol.respond(message, who)


class Command(BaseCommand):
    help = "Serve an assistant by MCP on standard input and output, with the API key in MAXXIT_API_KEY."

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until the input ends."""
        key = variable(KEY)
        redact.know(key)

        def caller() -> Caller | None:
            close_old_connections()
            try:
                return auth.caller_of(key, "local") if key else None
            except HttpError:
                return None

        if caller() is None:
            raise CommandError(
                f"{KEY} holds no API key that works: make one in Settings, API keys, or by `apikey create`"
            )
        serve(sys.stdin, sys.stdout, caller)
