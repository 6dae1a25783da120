"""Logging is configured once in a process, however often Django and Celery ask for it."""

from typing import Any

import pytest

from maxxit.core import logs


def test_the_same_configuration_is_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[dict[str, Any]] = []
    monkeypatch.setattr("logging.config.dictConfig", applied.append)
    monkeypatch.setattr(logs, "_applied", None)
    lines, other = logs.configure(as_json=False, level="INFO"), logs.configure(as_json=True, level="INFO")

    for config in (lines, logs.configure(as_json=False, level="INFO"), other, lines):
        logs.apply(config)

    assert applied == [lines, other, lines]
