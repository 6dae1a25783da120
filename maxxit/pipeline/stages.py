"""The stages of the pipeline: task, queue and waking events of each; which queue each task uses; which events alert.

The schedule is in `config/schedule.yaml`. Every stage is a sweep: it looks for rows that are due, so a lost message
costs at most one interval. Events only start it earlier.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline."""

    name: str
    task: str
    queue: str
    what: str
    wakes_on: tuple[str, ...] = ()


STAGES = (
    Stage(
        "ingest",
        "signals_app.tasks.ingest",
        "ingest",
        "fetch new posts of the followed accounts",
        wakes_on=("accounts.waiting",),
    ),
    Stage(
        "classify",
        "signals_app.tasks.classify",
        "llm",
        "read new posts: candidate or not, which tokens, which side",
        wakes_on=("stage.ingest", "posts.waiting"),
    ),
    Stage(
        "generate",
        "signals_app.tasks.generate",
        "generate",
        "turn candidates and indicators into at most one signal per agent, token and 6 hours",
        wakes_on=("stage.classify",),
    ),
    Stage(
        "execute",
        "trading.tasks.execute",
        "execute",
        "fan signals out to deployments, check every gate and limit, send, settle entries",
        wakes_on=("stage.generate", "orders.waiting"),
    ),
    Stage(
        "monitor",
        "positions.tasks.monitor",
        "monitor",
        "book fills, open and close positions, book PnL, fees and profit share",
        wakes_on=(
            "execution.completed",
            "order.partially_filled",
            "order.rejected",
            "order.canceled",
            "order.expired",
            "execution.blocked",
        ),
    ),
)
"""In pipeline order: a run is one Celery workflow over these."""

EXITS = Stage(
    "exits",
    "positions.tasks.sweep_exits",
    "exits",
    "claim every exit that is due, place its closing order at once, settle closing orders",
    wakes_on=(
        "quotes.moved",
        "position.closing",
        "position.open",
        "exits.waiting",
        "kill_switch.pulled",
        "gate.opened",
        "gate.approved",
    ),
)
"""Outside the pipeline, on a dedicated worker: exits never wait for entries, bookings, models or deliveries."""
DAY_END = Stage(
    "day_end",
    "positions.tasks.end_days",
    "guard",
    "settle, book, reconcile, compute and save each market's day that is over",
)
"""On the worker that has the keys of customers: it asks every venue."""
SWEEPS = (*STAGES, EXITS, DAY_END)

QUEUES = (
    "exits", "ingest", "llm", "generate", "execute", "monitor", "guard", "market", "notify", "default",
)  # fmt: skip

ALERTS = (
    "kill_switch.pulled", "kill_switch.released", "gate.opened", "gate.closed", "gate.approved", "gate.revoked",
    "exits.paused", "exits.resumed", "order.quarantined", "ctpost.quarantined", "reconcile.unexplained",
    "login.blocked", "safe.entries_stopped", "flatten.unclosed", "approval.expiring", "approval.expired",
    "transaction.refused", "transaction.stuck", "transaction.fees_at_limit", "transaction.nonce_ahead",
    "transaction.replaced", "schedule.disabled", "executor.balance_low", "limits.changed",
    "books.differ", "position.exit_after_close",
    "billing.failed", "billing.uncollected", "account.money_left", "account.unknown_agent",
    "liquidation.not_adopted", "liquidation.near", "position.liquidated", "gmx.not_decoded",
    "check.failing", "check.recovered",
    "account.loss_near_limit", "author.unread", "safe.unverified", "safe.check_failed", "llm.budget_nearly_spent",
    "address.transfer", "twin.drifted", "twin.recovered",
    "change_request.requested", "change_request.confirmed", "change_request.applied", "change_request.refused",
    "change_request.withdrawn", "change_request.expired", "change_request.stale",
)  # fmt: skip
"""Events that notify staff at once."""

OWNER_ALERTS = (
    "position.open", "position.closed", "position.stop_moved",
    "digest.pnl", "digest.blocked", "digest.authors", "digest.sentiment",
    "order.awaiting_confirmation", "notification.tested", "rule.tested", "endpoint.code_sent", "endpoint.gone",
    "address.own_transfer",
)  # fmt: skip
"""Events that notify one user at once, and no staff."""

MATCH = "maxxit.notify.tasks.match"
CREDENTIALS = "trading.tasks.answer_credentials"
INGEST_UNMETERED = "signals_app.tasks.ingest_unmetered"
INGEST_ARRIVED = "signals_app.tasks.ingest_arrived"
PREVIEWS = "maxxit.replay.tasks.start_previews"
DELIVER, ALERT = "maxxit.notify.tasks.deliver", "maxxit.notify.tasks.alert"
_WAITING = (
    *((event, sweep.task) for sweep in SWEEPS for event in sweep.wakes_on),
    ("entry.heard", "trading.tasks.settle"),
    ("exit.heard", EXITS.task),
    ("leg.heard", "positions.tasks.watch_venue_exits"),
    ("quotes.accepted", MATCH),
    ("rule.matched", DELIVER),
    ("posts.arrived", INGEST_ARRIVED),
    ("feeds.waiting", INGEST_UNMETERED),
    ("preview.queued", PREVIEWS),
    ("credentials.asked", CREDENTIALS),
    *((event, ALERT) for event in (*ALERTS, *OWNER_ALERTS)),
)
WAKES = {event: tuple(task for name, task in _WAITING if name == event) for event, _ in _WAITING}
"""Event name -> tasks to wake."""

ROUTES = {sweep.task: {"queue": sweep.queue} for sweep in SWEEPS} | {
    INGEST_UNMETERED: {"queue": "ingest"},
    INGEST_ARRIVED: {"queue": "ingest"},
    "maxxit.knowledge.*": {"queue": "default"},
    "maxxit.chat.*": {"queue": "default"},
    "maxxit.learning.*": {"queue": "default"},
    # Only price rules read them: prices do not wait for a slow source.
    "maxxit.market.tasks.refresh_funding": {"queue": "default"},
    "maxxit.market.*": {"queue": "market"},
    # Not on the queue of deliveries, which wait for slow receivers.
    MATCH: {"queue": "market"},
    "maxxit.notify.*": {"queue": "notify"},
    # Beside the deliveries that it leads to: it tells of every other worker that is away.
    "maxxit.ops.tasks.watch": {"queue": "notify"},
    "maxxit.pipeline.*": {"queue": "default"},
    # Only starts processes, which compute.
    "maxxit.replay.*": {"queue": "default"},
    # Long reads that sign nothing: orders and bookings must not wait for them.
    "positions.tasks.watch_risk": {"queue": "guard"},
    "positions.tasks.watch_venue_exits": {"queue": "guard"},
    "positions.tasks.take_points": {"queue": "guard"},
    "trading.tasks.reconcile": {"queue": "guard"},
    "trading.tasks.reconcile_accounts": {"queue": "guard"},
    "trading.tasks.book_deposits": {"queue": "guard"},
    "trading.tasks.answer_credentials": {"queue": "guard"},
    "trading.tasks.refresh_calendar": {"queue": "guard"},
    "trading.tasks.watch_approvals": {"queue": "guard"},
    # Reads of whole tables: neither the guard's triggers nor bookings wait for them.
    "positions.tasks.thin_points": {"queue": "default"},
    "positions.tasks.check_books": {"queue": "default"},
    "positions.tasks.roll_up_pnl": {"queue": "default"},
    "positions.tasks.compare_twins": {"queue": "default"},
    "positions.tasks.tidy_twins": {"queue": "default"},
    "positions.tasks.tell_stop_moves": {"queue": "default"},
    "trading.tasks.bill": {"queue": "default"},
    "trading.tasks.watch_transfers": {"queue": "default"},
    "positions.*": {"queue": "monitor"},
    "trading.*": {"queue": "execute"},
}


def stage(name: str) -> Stage:
    """Return the stage of that name. Raises KeyError with the known names."""
    for sweep in SWEEPS:
        if sweep.name == name:
            return sweep
    raise KeyError(f"no stage {name!r}; known: {', '.join(s.name for s in SWEEPS)}")
