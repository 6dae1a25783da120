"""Stored traces to the exporters of `config/llm.yaml`, by a task of its own, never by whoever asked the model.

The table of traces is the queue: it is bounded by its retention, it survives a crash, and a reading neither waits for
an exporter nor learns of its troubles. Each exporter has a place in it (`llm_exports`), which moves on when a batch
was taken or refused, and stays when the other side is away. A new exporter begins with what comes next.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog
from django.db.models import F, Max

from maxxit.core import clock, redact
from maxxit.core.errors import MaxxitError, Rejected
from maxxit.llm.exporters import EXPORTERS
from maxxit.llm.exporters.base import Exporter
from maxxit.llm.models import LlmExport, LlmTrace
from maxxit.llm.policy import ExporterStanza, policy

log = structlog.get_logger(__name__)
SETTLED = timedelta(seconds=10)
"""A row with a smaller id may become visible a moment later than one with a greater; nobody waits this long."""
WHO_WE_ARE = {"http_401", "http_403", "http_404"}
"""The other side does not know us or this place: no fault of the batch, so it stays."""


def export_traces() -> dict[str, int]:
    """One pass; how many traces each exporter took. Failures are logged and stand in `llm_exports`; none is raised."""
    redact.know_environment()
    rules = policy()
    return {name: _export(name, rules.exporters[name]) for name in rules.exports}


def _export(name: str, stanza: ExporterStanza) -> int:
    newest = LlmTrace.objects.aggregate(newest=Max("id"))["newest"] or 0
    _, created = LlmExport.objects.get_or_create(name=name, defaults={"last_id": newest})
    if created:
        return 0
    taken = 0
    try:
        exporter: Exporter = EXPORTERS.open(stanza.adapter, stanza=stanza)
        for _ in range(stanza.batches_per_pass):
            sent = _next_batch(name, stanza, exporter)
            if sent is None:
                break
            taken += sent
    except MaxxitError as error:
        told = redact.text(str(error))[:1000]
        LlmExport.objects.filter(pk=name).update(last_error=told)
        log.warning("traces_not_exported", exporter=name, error=told)
    return taken


def _next_batch(name: str, stanza: ExporterStanza, exporter: Exporter) -> int | None:
    """Send one batch and move on; None when there is none.

    No transaction waits for the network: two workers at once would send a batch twice, which does no harm there, and
    only one of them moves on.
    """
    last = LlmExport.objects.values_list("last_id", flat=True).get(pk=name)
    settled = LlmTrace.objects.filter(pk__gt=last, ts__lte=clock.now() - SETTLED)
    batch = list(settled.order_by("pk")[: stanza.batch])
    if not batch:
        return None
    sent, error = _sent(exporter, batch)
    moved = LlmExport.objects.filter(pk=name, last_id=last).update(
        last_id=batch[-1].pk,
        sent=F("sent") + sent,
        refused=F("refused") + len(batch) - sent,
        last_error=error,
    )
    return sent if moved else None


def _sent(exporter: Exporter, batch: Sequence[LlmTrace]) -> tuple[int, str]:
    """How many were taken. What is refused for its own sake is given up: the rest must not wait behind it."""
    try:
        return exporter.send(batch), ""
    except Rejected as error:
        if error.code in WHO_WE_ARE:
            raise
        told = redact.text(str(error))[:1000]
        log.warning("traces_refused", first=batch[0].pk, last=batch[-1].pk, error=told)
        return 0, told
