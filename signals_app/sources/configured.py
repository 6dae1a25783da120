"""The sources of `config/signals.yaml`, opened."""

from functools import cache
from typing import Any

from django.conf import settings

from maxxit.core.config import ROOT
from maxxit.core.errors import Misconfigured
from signals_app.policy import policy
from signals_app.sources import INBOUND, NAMED, SOURCES
from signals_app.sources.base import PostSource, Unopened
from signals_app.sources.inbound import InboundSource


def sources() -> dict[str, PostSource]:
    """Return the configured post sources; one that cannot be opened fails alone, and is opened by a later pass."""
    return {name: _source(name) for name in policy().ingest.sources}


def _source(name: str) -> PostSource:
    try:
        return _opened(name)
    except Misconfigured as error:
        return Unopened(error)


def inbound_source(name: str) -> InboundSource | None:
    """Return the source of that name if others push to it; only the web process needs its secret."""
    stanza = policy().ingest.sources.get(name, {})
    return InboundSource(name=name, **_options(stanza)) if stanza.get("adapter") == INBOUND else None


def _options(stanza: dict[str, Any]) -> dict[str, Any]:
    return {option: value for option, value in stanza.items() if option != "adapter"}


@cache
def _opened(name: str) -> PostSource:
    """Open a post source, once. Raises Misconfigured."""
    stanza = policy().ingest.sources[name]
    named = {"name": name} if stanza.get("adapter") in NAMED else {}
    return SOURCES.open(**_resolved(stanza), **named)


def _resolved(stanza: dict[str, Any]) -> dict[str, Any]:
    """Fill in `{data_dir}` in the stanza's paths; other relative paths start at the project root."""
    if "paths" not in stanza:
        return stanza
    paths = [str(ROOT / path.format(data_dir=settings.DATA_DIR)) for path in stanza["paths"]]
    return stanza | {"paths": paths}
