"""What the tests of `ask` ask, and what the fake model answers."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from django.db import connection

from maxxit.llm.ask import Asked, ask
from signals_app.reading.schema import Readings

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def post(post_id: str = "1", text: str = "Long $BTC here") -> dict[str, str]:
    return {"post_id": post_id, "author": "a", "text": text, "posted_at": "2026-05-01T12:00:00Z"}


def reading(post_id: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        **{"post_id": post_id, "candidate": True, "tokens": ["BTC"], "sentiment": "bullish"},
        **{"confidence": 0.8, "reasoning": "a call", "sides": {}},
        **changes,
    }


def answer(*readings: dict[str, Any]) -> dict[str, Any]:
    return {"readings": list(readings)}


def asked(*posts: dict[str, str], **options: Any) -> Asked[Readings]:
    chosen = list(posts) or [post()]
    return ask(
        purpose="classify",
        data={"posts": chosen, "tokens": {"BTC": ["btc", "bitcoin"]}},
        schema=Readings,
        correlation_ids=[uuid4() for _ in chosen],
        **options,
    )


def edit(folder: Path, **changes: Any) -> None:
    """Change stanza `classify` of the policy."""
    values = yaml.safe_load((folder / "llm.yaml").read_text())
    values["purposes"]["classify"] |= changes
    (folder / "llm.yaml").write_text(yaml.safe_dump(values))


def together(count: int, work: Any) -> None:
    """Run `work` in threads, each with a database session of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
