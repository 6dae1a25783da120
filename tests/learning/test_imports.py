"""Web and trading workers load none of the code that trains."""

import subprocess
import sys

from maxxit.core.config import ROOT

LOADS = """
import sys
import django; django.setup()
from django.contrib import admin
import maxxit.urls, maxxit.celery
maxxit.celery.app.loader.import_default_modules()
import signals_app.generate, trading.execute, positions.tasks, maxxit.learning.forecasts, maxxit.learning.registry
heavy = ("evaluate", "features", "forecasters", "sources", "statistics", "hours", "live", "morning", "night", "worlds")
heavy += ("tft", "rl", "bands")
print(*(name for name in heavy if f"maxxit.learning.{name}" in sys.modules))
"""


def test_pages_workers_and_decisions_load_no_training_code() -> None:
    done = subprocess.run([sys.executable, "-c", LOADS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
