#!/usr/bin/env python
"""Maxxit's command line; `python manage.py help` lists the commands."""

import atexit
import gc
import os
import select
import signal
import sys

from maxxit.core.commands import CommandLine

OWNER_COMMANDS = ("setup", "migrate", "roles", "flush", "replay", "bench", "backup", "restore")
"""Commands that create tables or databases, or read them whole, connect as the owner (DATABASE_OWNER_URL), all others
as the application."""


def stdout_closed() -> bool:
    """Return whether the reader of stdout is gone, as after `| head`; another broken pipe is an error."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


if __name__ == "__main__":
    # Collecting garbage during start-up frees nothing and takes a quarter of a short command's time.
    # `maxxit.pipeline.apps` enables the collector again; at exit a last collection is skipped.
    gc.disable()
    atexit.register(gc.freeze)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    if len(sys.argv) > 1 and sys.argv[1] in OWNER_COMMANDS:
        os.environ.setdefault("MAXXIT_DATABASE_ROLE", "owner")
    if sys.argv[1:2] != ["up"]:  # whose processes inherit it
        os.environ.setdefault("MAXXIT_DATABASE_DIRECT", "true")
    try:
        CommandLine(sys.argv).execute()
        sys.stdout.flush()
    except BrokenPipeError:
        if not stdout_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        sys.exit(128 + signal.SIGPIPE)
