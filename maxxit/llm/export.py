"""Send stored traces to the exporters of `config/llm.yaml`, in a separate task; results of evaluations on request.

The trace table is the queue: retention bounds it, it survives a crash, and LLM calls never wait for an exporter. Each
exporter has a position in it (`llm_exports`), which moves on when a batch was accepted or rejected, and stays when
the exporter is down. A new exporter starts with the next trace.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog
from django.db.models import F, Max

from maxxit.core import clock, redact
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected
from maxxit.llm.exporters import EXPORTERS
from maxxit.llm.exporters.base import Exporter
from maxxit.llm.exporters.experiment import Experiment
from maxxit.llm.models import LlmExport, LlmTrace
from maxxit.llm.policy import ExporterStanza, policy

log = structlog.get_logger(__name__)
SETTLED = timedelta(seconds=10)
"""A row may become visible later than one with a greater id, but not by more than this."""
ACCOUNT_ERRORS = {"http_401", "http_403", "http_404"}
"""Wrong key or URL: not the batch's fault, so it is kept."""


def export_traces() -> dict[str, int]:
    """Run one pass; return how many traces each exporter accepted. Failures are logged and stored, not raised."""
    redact.know_environment()
    rules = policy()
    return {name: _export(name, rules.exporters[name]) for name in rules.exports}


def exporter_of(name: str) -> Exporter:
    """Open an exporter of `config/llm.yaml` for an evaluation. Raises `Misconfigured` where it could send nothing."""
    known = policy().exporters
    if name not in known:
        raise Misconfigured(f"no exporter {name!r} in config/llm.yaml; known: {', '.join(sorted(known))}")
    exporter: Exporter = EXPORTERS.open(known[name].adapter, stanza=known[name])
    exporter.check()
    return exporter


def export_experiment(exporter: Exporter, experiment: Experiment) -> int:
    """Send the results of an evaluation, redacted; return how many items were accepted. Failures are raised."""
    redact.know_environment()
    items = [
        replace(item, text=redact.text(item.text), explanation=redact.text(item.explanation)[:1000])
        for item in experiment.items
    ]
    return exporter.send_experiment(replace(experiment, items=items))


def _export(name: str, stanza: ExporterStanza) -> int:
    newest = LlmTrace.objects.aggregate(newest=Max("id"))["newest"] or 0
    _, created = LlmExport.objects.get_or_create(name=name, defaults={"last_id": newest})
    if created:
        return 0
    accepted = 0
    try:
        exporter: Exporter = EXPORTERS.open(stanza.adapter, stanza=stanza)
        for _ in range(stanza.batches_per_pass):
            sent = _next_batch(name, stanza, exporter)
            if sent is None:
                break
            accepted += sent
    except MaxxitError as error:
        message = redact.text(str(error))[:1000]
        LlmExport.objects.filter(pk=name).update(last_error=message)
        log.warning("traces_not_exported", exporter=name, error=message)
    return accepted


def _next_batch(name: str, stanza: ExporterStanza, exporter: Exporter) -> int | None:
    """Send one batch and move the position; None when there is none.

    No transaction is open during the request: two workers at once would send a batch twice, which exporters
    deduplicate, and only one of them moves the position.
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
    """Send a batch; return (number accepted, error). A rejected batch is skipped, so that the rest is sent."""
    try:
        return exporter.send(batch), ""
    except Rejected as error:
        if error.code in ACCOUNT_ERRORS:
            raise
        message = redact.text(str(error))[:1000]
        log.warning("traces_refused", first=batch[0].pk, last=batch[-1].pk, error=message)
        return 0, message
