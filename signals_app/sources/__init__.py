"""Registry of post sources, by the name that `config/signals.yaml` uses."""

from maxxit.core.registry import Registry
from signals_app.sources.base import PostSource

SOURCES: Registry[PostSource] = Registry(
    "post source",
    {
        "jsonl": "signals_app.sources.jsonl.JsonlSource",
        "x": "signals_app.sources.x.XSource",
    },
)
