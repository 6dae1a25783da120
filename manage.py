#!/usr/bin/env python
"""Maxxit's command line: `python manage.py help` lists every command."""

import atexit
import gc
import os
import select
import signal
import sys

from maxxit.core.commands import CommandLine

OWNER_COMMANDS = ("setup", "migrate", "roles", "flush", "replay", "bench")
"""What makes tables or databases connects as the owner (DATABASE_OWNER_URL), all else as the application."""


def nobody_reads() -> bool:
    """Whether the reader of stdout has gone, as after `| head`; a broken pipe to another process is an error."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


if __name__ == "__main__":
    # What start-up makes is no garbage, so looking for some costs a quarter of the time that a short command takes.
    # `maxxit.pipeline.apps` turns the collector on again; at the end nothing is worth a last look.
    gc.disable()
    atexit.register(gc.freeze)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    if len(sys.argv) > 1 and sys.argv[1] in OWNER_COMMANDS:
        os.environ.setdefault("MAXXIT_DATABASE_ROLE", "owner")
    try:
        CommandLine(sys.argv).execute()
        sys.stdout.flush()
    except BrokenPipeError:
        if not nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        sys.exit(128 + signal.SIGPIPE)
