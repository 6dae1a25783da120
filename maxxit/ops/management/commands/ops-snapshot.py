"""`manage.py ops-snapshot`: write one file with jobs, checks, orders, positions, differences and the last errors."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand
from maxxit.core.errors import Rejected
from maxxit.reports.operators import snapshot


class Command(OpsCommand):
    help = "Write jobs, checks, open orders, positions and the last errors into a file. Exit code 1 if a check fails."
    epilog = """examples:
  manage.py ops-snapshot                      Markdown, into snapshots/ of the data folder
  manage.py ops-snapshot --format json --out /tmp/now.json
  manage.py ops-snapshot --out -              to the terminal"""

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--format", choices=["markdown", "json"], default="markdown", help="(default markdown)"
        )
        parser.add_argument(
            "--out",
            default="",
            metavar="FILE",
            help="where to write it; - for the terminal (default: a new file)",
        )

    def run(self, **options: Any) -> Any:
        taken = snapshot.snapshot()
        as_json = options["format"] == "json"
        text = json.dumps(taken, indent=1, default=str) + "\n" if as_json else snapshot.markdown(taken)
        checks = taken["checks"]
        ok = isinstance(checks, list) and all(check["ok"] for check in checks)
        self.exit_code = 0 if ok else 1
        if options["out"] == "-":
            self.say(text.rstrip())
            return {"ok": ok, "path": None, "snapshot": taken}
        path = Path(options["out"]) if options["out"] else self._new_file("json" if as_json else "md")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(text)
        except OSError as error:
            raise Rejected(f"{path} cannot be written: {error.strerror}", code="no_file") from None
        self.say(
            f"wrote {path}" + ("" if ok else "; health checks fail: `manage.py doctor`"),
            "" if ok else "WARNING",
        )
        return {"ok": ok, "path": str(path), "snapshot": taken}

    @staticmethod
    def _new_file(ending: str) -> Path:
        name = f"ops-{clock.now():%Y%m%dT%H%M%SZ}.{ending}"
        return Path(settings.ENV.maxxit_data_dir) / "snapshots" / name
