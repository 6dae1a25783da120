"""`/metrics`: trading and platform metrics for Prometheus, computed at each scrape."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from ninja.errors import HttpError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from maxxit.access.auth import address, caller_of, has_key
from maxxit.core.money import IS_TOKEN
from maxxit.core.terms import KILL_LEVELS
from maxxit.pipeline.models import CanaryMark
from maxxit.pipeline.stages import SWEEPS
from maxxit.reports import checks, status
from positions.exits import pauses
from positions.models import BooksCheck, Position
from positions.performance import equity, figures
from trading import gate
from trading.billing import debts, subscriptions
from trading.models import Order
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)
LOOPBACK = {"127.0.0.1", "::1"}
HELD = f"""
FROM ledger_balances b JOIN quotes q ON q.symbol = b.asset
WHERE b.asset {IS_TOKEN} GROUP BY b.asset
"""
GROSS = f"SELECT b.asset, sum(abs(b.amount) * q.price) {HELD}"
NET = f"SELECT b.asset, sum(b.amount * q.price) {HELD}"


def _gauge(name: str, what: str, values: dict[str, float], label: str = "") -> GaugeMetricFamily:
    """Make a gauge with one sample, or with one for each value of `label`."""
    gauge = GaugeMetricFamily(f"maxxit_{name}", what, labels=[label] if label else None)
    for key, value in values.items():
        gauge.add_metric([key] if label else [], value)
    return gauge


def _exposure(sql: str) -> dict[str, float]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows: list[tuple[str, Decimal]] = cursor.fetchall()
    return {symbol: float(amount) for symbol, amount in rows}


class MaxxitCollector(Collector):
    """Reads the database and Redis once per scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        in_flight = Order.objects.filter(state__in=IN_FLIGHT).count()
        yield _gauge("open_orders", "orders in flight", {"": in_flight})
        yield _gauge(
            "open_positions", "positions not closed", {"": Position.objects.exclude(state="closed").count()}
        )
        yield _gauge("exposure_usd", "gross exposure at the newest quotes, USD", _exposure(GROSS), "symbol")
        yield _gauge(
            "net_exposure_usd", "signed exposure at the newest quotes, USD", _exposure(NET), "symbol"
        )
        yield _gauge(
            "exits_paused", "1 while exits are paused", {"": float(pauses.current_pause() is not None)}
        )
        level = gate.kill_level()
        latched = {str(known): float(known == level) for known in KILL_LEVELS}
        yield _gauge("kill_switch", "1 for the strictest latched level", latched, "level")
        stopped = gate.latched().exclude(account="").order_by().values("account").distinct().count()
        yield _gauge("stopped_accounts", "accounts whose own kill switch is latched", {"": stopped})
        today = figures.figures(figures.midnight(timezone.now()))
        yield _gauge(
            "daily_pnl_usd", "realised PnL since midnight UTC, after fees", {"": float(today.realised)}
        )
        yield _gauge(
            "unrealised_pnl_usd",
            "unrealised PnL of open positions at the newest quotes",
            {"": float(equity.total_unrealised())},
        )
        yield _gauge("portfolio_value_usd", "equity of all deployments", {"": float(figures.equity())})
        if (books := BooksCheck.objects.first()) is not None:
            what = "deployments whose positions and ledger disagree"
            yield _gauge("books_differ", what, {"": float(len(books.wrong))})
            age = (timezone.now() - books.checked_at).total_seconds()
            yield _gauge("books_check_age_seconds", "seconds since they were compared", {"": age})
        ever = figures.figures()
        yield _gauge("drawdown_usdc", "max drawdown of the realised PnL", {"": float(ever.drawdown)})
        if ever.cvar_95_pct is not None:
            what = "mean loss of the worst 5 % of the closed positions, percent of their entry"
            yield _gauge("cvar_95_pct", what, {"": float(ever.cvar_95_pct)})
        blocked = {reason: float(count) for reason, count in figures.blocked().items()}
        yield _gauge("blocked_orders_24h", "orders blocked in the last 24 hours", blocked, "reason")
        yield from self._billing()
        yield from self._platform()

    def _billing(self) -> Iterator[Metric]:
        owed = debts.totals()
        yield _gauge("owed_usdc", "what deployments owe the platform", {"": float(owed.owed)})
        yield _gauge(
            "owing_deployments",
            "deployments that owe more than the limit of fees.yaml",
            {"": owed.above_limit},
        )
        yield _gauge(
            "failed_charges", "billing events whose charge failed", {"": subscriptions.failed().count()}
        )

    def _platform(self) -> Iterator[Metric]:
        jobs = status.jobs()
        yield _gauge(
            "job_lag_seconds", "delay of each job", {job.name: job.lag_seconds for job in jobs}, "job"
        )
        now, last = timezone.now(), {job.task: job.last_run for job in jobs}
        ages = {stage.name: (now - at).total_seconds() for stage in SWEEPS if (at := last.get(stage.task))}
        yield _gauge("stage_age_seconds", "seconds since the last pass of each stage", ages, "stage")
        signed = {mark.queue: (now - mark.signed_at).total_seconds() for mark in CanaryMark.objects.all()}
        yield _gauge("canary_age_seconds", "seconds since a worker of each queue answered", signed, "queue")
        try:
            waiting = {queue: float(length) for queue, length in checks.queue_lengths().items()}
        except RedisError as error:
            log.warning("queues_not_read", error=str(error))
            return
        yield _gauge("queue_length", "messages waiting in each queue", waiting, "queue")


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer staff, an API key of staff, or a request from this machine that came through no proxy."""
    if not _allowed(request):
        message = "metrics need a staff session, a key of staff (Authorization: Bearer), or this machine"
        return JsonResponse({"code": "unauthenticated", "message": message}, status=401)
    registry = CollectorRegistry()
    registry.register(MaxxitCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _allowed(request: HttpRequest) -> bool:
    from django.conf import settings

    if has_key(request):  # a key decides alone, as in the API
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        try:
            who = caller_of(request.headers.get("X-API-Key", bearer), address(request))
        except HttpError:  # too many refused keys from this address
            return False
        return who is not None and _operates(who.person)
    if not settings.ENV.behind_proxy and address(request) in LOOPBACK:
        return True
    return _operates(request.user)


def _operates(person: Any) -> bool:
    return bool(person.is_authenticated and person.is_staff and person.has_perm("pipeline.view_pipelinerun"))
