"""Registry of post sources, by the name that `config/signals.yaml` uses."""

from maxxit.core.registry import Registry
from signals_app.sources.base import PostSource

INBOUND = "inbound"
NAMED = frozenset({INBOUND, "telegram"})
"""Adapters that take the name of their stanza: they offer what was stored under it when it arrived."""
SOURCES: Registry[PostSource] = Registry(
    "post source",
    {
        INBOUND: "signals_app.sources.inbound.InboundSource",
        "jsonl": "signals_app.sources.jsonl.JsonlSource",
        "rss": "signals_app.sources.rss.RssSource",
        "telegram": "signals_app.sources.telegram.TelegramSource",
        "x": "signals_app.sources.x.XSource",
        "x_session": "signals_app.sources.x_session.XSessionSource",
    },
)
