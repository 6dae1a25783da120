"""`manage.py version`: which release this is, and on what it runs."""

import platform
import tomllib
from typing import Any

import django
from django.db import OperationalError, connection

from maxxit.core.commands import OpsCommand
from maxxit.core.config import ROOT, profile
from maxxit.pipeline import release


class Command(OpsCommand):
    help = (
        "Show version and release of this code, the release that executes orders, and what they run on. Exit code 1 if "
        "the two releases differ."
    )

    def run(self, **options: Any) -> Any:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        found = {
            "version": project["version"],
            "release": release.mine(),
            "declared": "",
            "profile": profile(),
            "python": platform.python_version(),
            "django": django.get_version(),
            "postgres": "does not answer",
        }
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('server_version')")
                (found["postgres"],) = cursor.fetchone()
            found["declared"] = release.declared()
        except OperationalError:
            pass
        self.say(
            f"Maxxit {found['version']}, release {found['release']}, profile {found['profile'] or 'none'}"
        )
        if found["declared"] not in ("", found["release"]):
            self.say(
                f"release {found['declared']} executes orders: finish the deployment with `manage.py setup`",
                "WARNING",
            )
            self.exit_code = 1
        self.say(f"Python {found['python']}, Django {found['django']}, Postgres {found['postgres']}")
        return found
