"""A provider that fails again and again is left alone for a while; then one call, and only one, tries it.

The state is a row, not a key in Redis: the guarded UPDATE gives the single probe, the trace of the same call needs
Postgres anyway, so a call depends on one store less, and the admin shows it.
"""

from datetime import timedelta

import structlog
from django.db.models import F

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.llm.models import LlmCircuit
from maxxit.llm.policy import Breaker

log = structlog.get_logger(__name__)
LONGEST_REST = 3600.0
"""Seconds. A provider that asks for more is tried again after this anyway."""


def admit(provider: str, rules: Breaker) -> None:
    """Let a call pass, or raise `Retryable` with the time until the next probe."""
    circuit = LlmCircuit.objects.filter(provider=provider).first()
    if circuit is None or circuit.retry_at is None:
        return
    now = clock.now()
    if circuit.retry_at <= now:
        lease = now + timedelta(seconds=rules.probe_seconds)
        mine = LlmCircuit.objects.filter(provider=provider, retry_at=circuit.retry_at).update(retry_at=lease)
        if mine:
            return
    wait = max((circuit.retry_at - now).total_seconds(), 0.0)
    raise Retryable(f"{provider} rests after {circuit.failures} failures in a row", after=wait)


def succeeded(provider: str) -> None:
    """Close the circuit."""
    if LlmCircuit.objects.filter(provider=provider, failures__gt=0).update(
        failures=0, retry_at=None, last_error=""
    ):
        log.info("llm_circuit_closed", provider=provider)


def failed(provider: str, rules: Breaker, error: str, after: float | None = None) -> None:
    """Count a failure; open the circuit when it is one too many, or at once for the time that the provider names."""
    LlmCircuit.objects.get_or_create(provider=provider)
    LlmCircuit.objects.filter(provider=provider).update(failures=F("failures") + 1, last_error=error[:1000])
    enough = 1 if after else rules.failures
    until = clock.now() + timedelta(seconds=min(after or rules.open_seconds, LONGEST_REST))
    if LlmCircuit.objects.filter(provider=provider, failures__gte=enough).update(retry_at=until):
        log.error("llm_circuit_open", provider=provider, until=until.isoformat(), error=error[:300])
