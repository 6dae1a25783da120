"""Celery tasks of the market: feeds are polled only while no stream runs."""

import pytest

from maxxit.market import quotes, tasks
from maxxit.market.feeds.base import PriceFeed


def test_polling_stands_aside_while_a_stream_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def feeds() -> list[PriceFeed]:
        asked.append("feeds")
        return []

    monkeypatch.setattr(quotes, "open_feeds", feeds)
    monkeypatch.setattr(tasks.intake, "take", lambda ticks: ticks)
    monkeypatch.setattr(tasks, "status", lambda: {"leader": "another process"})
    assert tasks.refresh_quotes() == 0
    assert asked == []

    monkeypatch.setattr(tasks, "status", lambda: None)
    tasks.refresh_quotes()
    assert asked == ["feeds"]
