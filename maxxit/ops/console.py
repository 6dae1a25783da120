"""What `make up` shows of the output of its processes; all of it is in their log files."""

import json
import re

LINE = re.compile(r"\S+Z \[(\w+) *\] (\S+)")
"""A line of ours: time, level, event (`maxxit.core.logs`)."""
TOLD = frozenset({"warning", "error", "critical"})
TRADES = frozenset({"positions_changed"})
"""Events of information that are shown as well."""
LONGEST = 300
"""Characters of a line that are shown."""
OF_OTHERS = re.compile(r"\[[^\]]+\] \[\d+\] \[INFO\]|worker: (Hitting|Cold|Warm|Soft)")
"""Information of gunicorn and Celery, which is not shown."""
IDS = re.compile(r" (parent_)?task_id=\S+")
SERVERS = re.compile(r"PANIC|No space left|[Oo]ut of memory")
"""What is shown of Postgres and Redis, which log more than their trouble."""


def line(name: str, text: str) -> str | None:
    """Return what is shown of a line that the process `name` printed; None for nothing.

    Warnings, errors and trades are shown, and whatever is no log line, such as the traceback after an error.
    """
    if name in ("postgres", "redis"):
        shown = bool(SERVERS.search(text))
    else:
        level, event = _read(text)
        shown = level in TOLD or event in TRADES or not (level or OF_OTHERS.match(text))
    if not shown or not text.strip():
        return None
    text = IDS.sub("", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _read(text: str) -> tuple[str, str]:
    """Return a line's level and event, both empty where it is no log line."""
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except ValueError:
            return "", ""
        return str(fields.get("level", "")), str(fields.get("event", ""))
    found = LINE.match(text)
    return (found[1], found[2]) if found else ("", "")


def box(lines: list[str]) -> list[str]:
    """Return lines with a frame around them."""
    width = max(map(len, lines))
    return [f"╭{'─' * (width + 2)}╮", *(f"│ {one:<{width}} │" for one in lines), f"╰{'─' * (width + 2)}╯"]
