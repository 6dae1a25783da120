"""What short commands import: `manage.py check` all pages, but nothing that only works; `why` neither pages nor API."""

import subprocess
import sys

from maxxit.core.config import ROOT

CHECK = """
import sys
import django; django.setup()
from django.core.checks import run_checks
assert run_checks() == []
from ninja import Schema
schemas = [one for one in Schema.__subclasses__() if one.__name__ not in ("FilterSchema", "ModelSchema")]
built = [one.__name__ for one in schemas if one.__pydantic_complete__]
"""
WHY = """
import sys
import django; django.setup()
from django.core.management import get_commands, load_command_class
load_command_class(get_commands()["why"], "why").create_parser("manage.py", "why")
"""


def loaded(code: str, *shown: str) -> list[str]:
    """Run `code` in a process of its own; the values of the expressions `shown`."""
    lines = "".join(f"\nprint({one})" for one in shown)
    done = subprocess.run(
        [sys.executable, "-c", code + lines], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def of(*names: str) -> str:
    return f"sorted(name for name in {names!r} if name in sys.modules)"


def test_a_check_reads_the_admin_but_loads_no_worker_and_builds_no_validator() -> None:
    pages = of("maxxit.urls", "trading.admin", "maxxit.web.admin")
    work = of(
        *("numpy", "talib", "web3", "safe_eth", "eth_account", "flower", "tornado", "gunicorn", "apprise"),
        *(
            "signals_app.tasks",
            "signals_app.classify",
            "signals_app.reading.rules.positions",
            "maxxit.ops.tasks",
        ),
    )
    of_refusals = "sum('Problem' in str(one.model_fields.get('response')) for one in schemas)"
    assert loaded(CHECK, pages, work, "built", of_refusals) == [
        "['maxxit.urls', 'maxxit.web.admin', 'trading.admin']",
        "[]",
        "[]",
        "1",
    ]


def test_why_loads_neither_pages_nor_the_api() -> None:
    pages = "sorted(name for name in sys.modules if name == 'maxxit.urls' or name.startswith('maxxit.api'))"
    admins = (
        "sorted(name for name in sys.modules if name.endswith('.admin') and not name.startswith('django'))"
    )
    assert loaded(WHY, pages, admins, of("numpy", "talib", "web3", "safe_eth")) == ["[]", "[]", "[]"]
