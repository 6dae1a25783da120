"""Which RPC endpoints contradicted the others lately, for the page Health and its alerts. Kept in the cache: a hint."""

from collections.abc import Iterable

import structlog
from django.core.cache import cache

from maxxit.core import clock
from maxxit.evm.rpc import endpoint_name

log = structlog.get_logger(__name__)
KEPT_SECONDS = 600
"""How long a contradiction counts."""


def _key(chain_id: int, endpoint: str) -> str:
    return f"rpc-contradicts:{chain_id}:{endpoint}"


def note(chain_id: int, endpoint: str, problem: str) -> None:
    """Note that an endpoint contradicted the others. Never raises: a read must not fail because of it."""
    try:
        cache.set(_key(chain_id, endpoint), f"{problem}, {clock.now():%H:%M:%S} UTC", timeout=KEPT_SECONDS)
    except Exception as error:
        log.warning("disagreement_not_noted", endpoint=endpoint, error=str(error))


def recent(chain_id: int, urls: Iterable[str]) -> dict[str, str]:
    """Return endpoint -> its newest contradiction, of those that had one lately."""
    keys = {_key(chain_id, name): name for name in map(endpoint_name, urls)}
    return {keys[key]: str(text) for key, text in cache.get_many(list(keys)).items()}
