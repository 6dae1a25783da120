"""`manage.py logs [NAME …]`: the newest lines of the log files of `make up`."""

import re
import time
from collections import deque
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, count
from maxxit.core.errors import Rejected

TROUBLE = re.compile(r"\b(error|critical|exception|traceback|panic|fatal)\b", re.IGNORECASE)
POLL_SECONDS = 0.5


class Command(OpsCommand):
    help = "Show the newest lines of the log files of `make up`, and follow them."
    epilog = """examples:
  manage.py logs worker-execute --follow
  manage.py logs --errors -n 100               of every process"""

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="processes (default: all)")
        parser.add_argument(
            "-n", type=count, default=20, help="lines of each file to begin with (default 20)"
        )
        parser.add_argument("--errors", action="store_true", help="only lines that name an error")
        parser.add_argument("--follow", action="store_true", help="go on with each new line until Ctrl-C")

    def run(self, **options: Any) -> Any:
        folder = Path(settings.DATA_DIR) / "logs"
        known = {path.stem: path for path in sorted(folder.glob("*.log"))}
        if unknown := [name for name in options["names"] if name not in known]:
            raise Rejected(
                f"no log of {', '.join(unknown)} in {folder}; there are: {', '.join(known) or 'none'}. "
                "Under systemd use `journalctl -u`, with compose `docker compose logs`",
                code="no_log",
            )
        chosen = {name: known[name] for name in options["names"]} or known
        found, places = [], {}
        for name, path in chosen.items():
            with path.open(errors="replace") as file:
                newest = deque(self._wanted(file, options["errors"]), options["n"])
                places[name] = file.tell()
            found += [{"process": name, "line": line} for line in newest]
        for row in found:
            self.say(f"{row['process']}: {row['line']}")
        while options["follow"]:
            time.sleep(POLL_SECONDS)
            for name, path in chosen.items():
                places[name] = self._new(name, path, places[name], options["errors"])
        return found

    def _new(self, name: str, path: Path, place: int, errors: bool) -> int:
        """Print the lines after `place`; return where they end. A file that was rotated begins anew."""
        with path.open(errors="replace") as file:
            file.seek(place if path.stat().st_size >= place else 0)
            for line in self._wanted(file, errors):
                self.stdout.write(f"{name}: {line}")
            return file.tell()

    @staticmethod
    def _wanted(file: Any, errors: bool) -> Any:
        for line in iter(file.readline, ""):
            if not errors or TROUBLE.search(line):
                yield line.rstrip("\n")
