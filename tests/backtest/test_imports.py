"""What the pages of stored runs load has no numpy and none of the code that runs backtests."""

import subprocess
import sys

from maxxit.core.config import ROOT

LOADS = """
import sys
import django; django.setup()
from django.contrib import admin
import maxxit.urls, maxxit.celery
maxxit.celery.app.loader.import_default_modules()
import maxxit.web.evaluation.backtests, maxxit.backtest.as_agent, maxxit.backtest.runs
heavy = ("decisions", "exits", "figures", "market", "monte_carlo", "report", "run", "saving", "sweep", "trades")
print(*(name for name in heavy if f"maxxit.backtest.{name}" in sys.modules), "numpy" * ("numpy" in sys.modules))
"""


def test_pages_and_workers_load_nothing_that_runs_a_backtest() -> None:
    done = subprocess.run([sys.executable, "-c", LOADS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
