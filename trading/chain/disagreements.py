"""Which RPC endpoints contradicted the others lately, for the page Health and its alerts. Kept in the cache: a hint."""

import time
from collections.abc import Iterable

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.core.cache import cache

from maxxit.core import clock
from maxxit.evm.rpc import endpoint_name

log = structlog.get_logger(__name__)
KEPT_SECONDS = 600
"""How long a contradiction counts."""
NOTED_AGAIN_SECONDS = 60.0
_noted: dict[str, float] = {}
"""Key of an endpoint -> when this process noted it last, by the monotonic clock."""


def _key(chain_id: int, endpoint: str) -> str:
    return f"rpc-contradicts:{chain_id}:{endpoint}"


def note(chain_id: int, endpoint: str, problem: str) -> None:
    """Note that an endpoint contradicted the others, at most once in NOTED_AGAIN_SECONDS in each process.

    A cache that fails or is slow must not break a read, nor slow down each one.
    """
    key, now = _key(chain_id, endpoint), time.monotonic()
    if now - _noted.get(key, float("-inf")) < NOTED_AGAIN_SECONDS:
        return
    _noted[key] = now
    try:
        cache.set(key, f"{problem}, {clock.now():%H:%M:%S} UTC", timeout=KEPT_SECONDS)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        log.warning("disagreement_not_noted", endpoint=endpoint, error=str(error))


def recent(chain_id: int, urls: Iterable[str]) -> dict[str, str]:
    """Return endpoint -> its newest contradiction, of those that had one lately."""
    keys = {_key(chain_id, name): name for name in map(endpoint_name, urls)}
    return {keys[key]: str(text) for key, text in cache.get_many(list(keys)).items()}
