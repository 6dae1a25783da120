"""Circuit breaker of a provider: open after repeated failures; then a single probe call decides.

The state is a row and not a Redis key: the guarded UPDATE guarantees a single probe, the call's trace needs Postgres
anyway, and the admin shows it.
"""

from datetime import timedelta

import structlog
from django.db.models import F

from maxxit.core import clock
from maxxit.llm.errors import NotCalled
from maxxit.llm.models import LlmCircuit
from maxxit.llm.policy import Breaker

log = structlog.get_logger(__name__)
MAX_OPEN_SECONDS = 3600.0
"""Caps the wait that a provider asks for."""


def admit(provider: str, rules: Breaker) -> None:
    """Admit a call. Raises `NotCalled` with the time until the next probe while the circuit is open."""
    circuit = LlmCircuit.objects.filter(provider=provider).first()
    if circuit is None or circuit.retry_at is None:
        return
    now = clock.now()
    if circuit.retry_at <= now:
        lease = now + timedelta(seconds=rules.probe_seconds)
        is_probe = LlmCircuit.objects.filter(provider=provider, retry_at=circuit.retry_at).update(
            retry_at=lease
        )
        if is_probe:
            return
    wait = max((circuit.retry_at - now).total_seconds(), 0.0)
    raise NotCalled(f"{provider} is paused after {circuit.failures} failures in a row", after=wait)


def succeeded(provider: str) -> None:
    """Close the circuit."""
    if LlmCircuit.objects.filter(provider=provider, failures__gt=0).update(
        failures=0, retry_at=None, last_error=""
    ):
        log.info("llm_circuit_closed", provider=provider)


def failed(provider: str, rules: Breaker, error: str, after: float | None = None) -> None:
    """Count a failure; open the circuit at the limit, or at once when the provider asks to wait (`after` seconds)."""
    LlmCircuit.objects.get_or_create(provider=provider)
    LlmCircuit.objects.filter(provider=provider).update(failures=F("failures") + 1, last_error=error[:1000])
    threshold = 1 if after else rules.failures
    until = clock.now() + timedelta(seconds=min(after or rules.open_seconds, MAX_OPEN_SECONDS))
    if LlmCircuit.objects.filter(provider=provider, failures__gte=threshold).update(retry_at=until):
        log.error("llm_circuit_open", provider=provider, until=until.isoformat(), error=error[:300])
