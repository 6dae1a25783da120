"""The market's tasks: beat polls the feeds where no stream does."""

import pytest

from maxxit.market import quotes, tasks


def test_polling_stands_aside_while_a_stream_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(quotes, "open_feeds", lambda: asked.append("feeds") or [])
    monkeypatch.setattr(tasks.intake, "take", lambda ticks: ticks)
    monkeypatch.setattr(tasks, "status", lambda: {"leader": "another process"})
    assert tasks.refresh_quotes() == 0
    assert asked == []

    monkeypatch.setattr(tasks, "status", lambda: None)
    tasks.refresh_quotes()
    assert asked == ["feeds"]
