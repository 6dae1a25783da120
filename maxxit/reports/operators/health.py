"""The health of the whole machine for its operators: one verdict, and the checks behind it by section."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Min, Q

from maxxit.core import clock
from maxxit.core.clock import duration_text
from maxxit.core.errors import Misconfigured
from maxxit.llm.models import LlmCircuit, LlmTrace
from maxxit.notify import delivery_queue
from maxxit.notify.models import Alert, Endpoint, RuleDelivery
from maxxit.notify.states import DeliveryState
from maxxit.reports import audit, backups, checks, dead_letters, status
from maxxit.reports.checks import Check
from positions.models import BooksCheck
from trading.chain import disagreements
from trading.chain.chains import all_chains
from trading.chain.models import ChainTransaction
from trading.chain.states import TxState

LATE = timedelta(seconds=60)
"""A job that is later than this is red, as on the admin's first page."""
QUEUE_LIMIT = 1_000
"""Messages waiting in one queue."""
DELIVERY_LIMIT = timedelta(minutes=10)
"""How long a message that is due may wait."""
OUTBOX_LIMIT = timedelta(minutes=15)
"""How long a chain transaction may be under way."""
ERROR_PCT = 50
"""Failed model calls of the last hour, in percent, from which on the models are red."""
FEWEST_CALLS = 5
SHOWN = 5


@dataclass(frozen=True)
class Section:
    """Checks of one part of the machine."""

    name: str
    checks: list[Check]

    @property
    def failed(self) -> list[Check]:
        """Return the checks that failed."""
        return [check for check in self.checks if not check.ok]

    @property
    def ok(self) -> bool:
        """Return whether all passed."""
        return not self.failed


@dataclass(frozen=True)
class Health:
    """Every section, causes before consequences."""

    sections: list[Section]

    @property
    def ok(self) -> bool:
        """Return whether every check passed."""
        return all(section.ok for section in self.sections)

    @property
    def headline(self) -> str:
        """Return the verdict in one line: how many checks passed, or the sections and checks that failed."""
        total = sum(len(section.checks) for section in self.sections)
        failed = [(section.name, check.name) for section in self.sections for check in section.failed]
        if not failed:
            return f"All {total} checks pass"
        named = ", ".join(f"{name} ({section})" for section, name in failed[:SHOWN])
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        return f"{len(failed)} of {total} checks fail: {named}{more}"

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "ok": self.ok,
            "headline": self.headline,
            "sections": [
                {"name": one.name, "ok": one.ok, "checks": [check.as_json() for check in one.checks]}
                for one in self.sections
            ],
        }


def read_health() -> Health:
    """Run the checks. A section that cannot be read is one failed check, so that a broken part hides no other."""
    return Health([Section(name, checks.readable(name.lower(), probe)) for name, probe in SECTIONS.items()])


def _machine() -> Iterator[Check]:
    yield checks.postgres()
    yield checks.broker()
    yield checks.migrations()
    yield checks.database_role()
    yield from checks.pooler()
    yield checks.releases()
    yield checks.disk()
    yield checks.clocks()
    yield from backups.check_backups()
    yield audit.check_audit_log()
    broken = [check for check in checks.config() if not check.ok]
    yield from broken or [Check("config", True, f"{len(checks.CONFIG)} files of config/ are valid")]


def _jobs() -> Iterator[Check]:
    """Check that each job runs on time and that its last pass ended without an error."""
    jobs = status.jobs()
    late = [job for job in jobs if job.enabled and job.lag_seconds > LATE.total_seconds()]
    for job in late:
        yield Check(
            f"job:{job.name}",
            False,
            f"{duration_text(job.lag_seconds)} late; last run {job.last_run:%Y-%m-%d %H:%M:%S} UTC"
            if job.last_run
            else f"{duration_text(job.lag_seconds)} late; it never ran",
            f"see beat and the worker of the queue {job.queue}",
        )
    off = [job.name for job in jobs if not job.enabled]
    text = f"{len(jobs) - len(late) - len(off)} on time" + (f"; off: {', '.join(off)}" if off else "")
    yield Check("jobs", not late, text, "start beat and the workers: `make up` runs all" if late else "")


def _queues() -> Iterator[Check]:
    lengths = checks.queue_lengths()
    full = {name: number for name, number in lengths.items() if number > QUEUE_LIMIT}
    waiting = ", ".join(f"{name} {number:,}" for name, number in lengths.items() if number) or "all are empty"
    yield Check(
        "queues",
        not full,
        waiting,
        "add a worker for it, or find what blocks the present one" if full else "",
    )
    yield from checks.canaries()
    dead = dead_letters.numbers()
    listed = ", ".join(f"{number} {kind}" for kind, number in dead.items())
    yield Check(
        "dead letters", not dead, listed or "none", "`manage.py dlq list`, then `dlq redrive`" if dead else ""
    )


def _feeds() -> Iterator[Check]:
    yield checks.feeds()
    yield checks.stream()
    yield checks.candle_gaps()


def _models() -> Iterator[Check]:
    yield from checks.models()
    yield checks.reading()
    now = clock.now()
    for circuit in LlmCircuit.objects.filter(retry_at__gt=now):
        yield Check(
            f"provider:{circuit.provider}",
            False,
            f"paused until {circuit.retry_at:%H:%M:%S} UTC after {circuit.failures} failures: "
            f"{circuit.last_error[:120]}",
            "it is tried again by itself; check its key and its status page",
        )
    recent = LlmTrace.objects.filter(ts__gt=now - timedelta(hours=1))
    counted = recent.order_by().aggregate(calls=Count("id"), errors=Count("id", filter=Q(status="error")))
    share = 100 * counted["errors"] // counted["calls"] if counted["calls"] else 0
    bad = counted["calls"] >= FEWEST_CALLS and share >= ERROR_PCT
    detail = f"{counted['calls']} in the last hour, {share} % failed"
    yield Check("model calls", not bad, detail, "`manage.py llm last --status error`" if bad else "")


def _endpoints() -> Iterator[Check]:
    """Check the addresses that notifications go to. A customer's broken address is theirs: it is shown, not red."""
    now = clock.now()
    paused = Endpoint.objects.filter(active=True, rests_until__gt=now).count()
    standing = Endpoint.objects.filter(active=True).count()
    yield Check("addresses", True, f"{standing} in use, {paused} paused after failures")
    overdue = Q(state=DeliveryState.PENDING, due_at__lt=now - DELIVERY_LIMIT)
    oldest = [
        model.objects.filter(overdue, ~delivery_queue.paused()).aggregate(at=Min("due_at"))["at"]
        for model in (Alert, RuleDelivery)
    ]
    waiting = min((at for at in oldest if at), default=None)
    if waiting is None:
        yield Check("deliveries", True, "none is overdue, those to paused addresses apart")
    else:
        age = duration_text((now - waiting).total_seconds())
        yield Check(
            "deliveries", False, f"the oldest is due for {age}", "check worker:notify and the job deliver"
        )


def _chain() -> Iterator[Check]:
    """Check that no chain transaction is under way for too long, and that no endpoint contradicts the others."""
    yield _rpc()
    pending = ChainTransaction.objects.filter(
        state__in=(TxState.PLANNED, TxState.SIGNED, TxState.BROADCAST, TxState.MINED)
    )
    found = pending.order_by().aggregate(number=Count("pk"), oldest=Min("created_at"))
    now = clock.now()
    if not found["number"]:
        yield Check("outbox", True, f"empty; chains: {', '.join(all_chains())}")
        return
    age = now - found["oldest"]
    yield Check(
        "outbox",
        age <= OUTBOX_LIMIT,
        f"{found['number']} under way, the oldest for {duration_text(age.total_seconds())}",
        "see Transactions; `manage.py doctor` checks the RPC endpoints" if age > OUTBOX_LIMIT else "",
    )


def _rpc() -> Check:
    contradicting = []
    for name, chain in all_chains().items():
        try:
            found = disagreements.recent(chain.chain_id, chain.urls)
        except Misconfigured:  # a chain without endpoints is not read
            continue
        contradicting += [f"{endpoint} of {name} {problem}" for endpoint, problem in sorted(found.items())]
    if not contradicting:
        return Check("rpc endpoints", True, "none contradicted the others within ten minutes")
    fix = "compare the node with a block explorer; remove it from config/chains.yaml if it lies"
    return Check("rpc endpoints", False, "; ".join(contradicting)[:300], fix)


def _money() -> Iterator[Check]:
    yield from checks.gates()
    yield _books()
    yield checks.billing()


def _books() -> Check:
    """Return the newest stored comparison of positions and ledger: to compare reads every deployment."""
    newest = BooksCheck.objects.first()
    if newest is None:
        return Check("books", True, "positions and ledger were not compared yet")
    detail = f"compared at {newest.checked_at:%Y-%m-%d %H:%M} UTC"
    if newest.wrong:
        ids = ", ".join(map(str, newest.wrong[:5]))
        return Check(
            "books", False, f"deployments {ids} differ; {detail}", "`manage.py doctor` compares again"
        )
    return Check("books", True, f"positions and ledger agreed; {detail}")


SECTIONS: dict[str, Callable[[], Iterable[Check]]] = {
    "Machine": _machine,
    "Jobs": _jobs,
    "Queues": _queues,
    "Feeds": _feeds,
    "Models": _models,
    "Endpoints": _endpoints,
    "Chain": _chain,
    "Trading": _money,
}
