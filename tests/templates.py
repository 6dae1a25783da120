"""The data folder with all migrations applied from which programs of the tests start a Postgres of their own."""

import os
from pathlib import Path

TEMPLATE = "MAXXIT_TEST_TEMPLATE"
"""Names the folder to a program that a test starts: that of the fixture `migrated_template`."""


def given_template() -> Path | None:
    """Return the folder; None where nobody named one, and the program migrates an empty database itself."""
    folder = os.environ.get(TEMPLATE)
    return Path(folder) if folder else None
