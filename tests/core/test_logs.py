"""Logging is configured once in a process, however often Django and Celery ask for it."""

from typing import Any

import pytest
import structlog

from maxxit.core import logs


def test_the_same_configuration_is_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[dict[str, Any]] = []
    monkeypatch.setattr("logging.config.dictConfig", applied.append)
    monkeypatch.setattr(logs, "_applied", None)
    lines, other = logs.configure(as_json=False, level="INFO"), logs.configure(as_json=True, level="INFO")

    for config in (lines, logs.configure(as_json=False, level="INFO"), other, lines):
        logs.apply(config)

    assert applied == [lines, other, lines]


def test_lines_of_a_logger_that_was_used_are_still_captured_after_another_configuration() -> None:
    log = structlog.get_logger("tests.used")
    log.info("before")
    logs.configure(as_json=True, level="ERROR")
    with structlog.testing.capture_logs() as captured:
        log.info("after")
    assert [one["event"] for one in captured] == ["after"]
