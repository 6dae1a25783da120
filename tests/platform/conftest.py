"""What the platform's tests share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that `nobody`, who runs Postgres under root, can enter; pytest's own are private."""
    made = Path(tempfile.mkdtemp(prefix="maxxit-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)
