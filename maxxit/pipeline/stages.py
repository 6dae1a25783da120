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
SWEEPS = (*STAGES, EXITS)

QUEUES = (
    "exits", "ingest", "llm", "generate", "execute", "monitor", "guard", "market", "notify", "default",
)  # fmt: skip

ALERTS = (
    "kill_switch.pulled", "kill_switch.released", "gate.opened", "gate.closed", "gate.approved", "gate.revoked",
    "exits.paused", "exits.resumed", "order.quarantined", "ctpost.quarantined", "reconcile.unexplained",
    "login.blocked", "safe.entries_stopped", "flatten.unclosed", "approval.expiring", "approval.expired",
    "transaction.refused", "transaction.stuck", "transaction.fees_at_limit", "transaction.nonce_ahead",
    "transaction.replaced", "schedule.disabled", "executor.balance_low", "limits.changed",
    "books.differ",
    "billing.failed", "billing.uncollected",
)  # fmt: skip
"""Events that notify staff at once."""

OWNER_ALERTS = ("order.awaiting_confirmation", "notification.tested", "rule.tested")
"""Events that notify one user at once, and no staff."""

MATCH = "maxxit.notify.tasks.match"
PREVIEWS = "maxxit.replay.tasks.start_previews"
DELIVER, ALERT = "maxxit.notify.tasks.deliver", "maxxit.notify.tasks.alert"
_WAITING = (
    *((event, sweep.task) for sweep in SWEEPS for event in sweep.wakes_on),
    ("quotes.accepted", MATCH),
    ("rule.matched", DELIVER),
    ("preview.queued", PREVIEWS),
    *((event, ALERT) for event in (*ALERTS, *OWNER_ALERTS)),
)
WAKES = {event: tuple(task for name, task in _WAITING if name == event) for event, _ in _WAITING}
"""Event name -> tasks to wake."""

ROUTES = {sweep.task: {"queue": sweep.queue} for sweep in SWEEPS} | {
    "maxxit.knowledge.*": {"queue": "default"},
    "maxxit.market.*": {"queue": "market"},
    # Not on the queue of deliveries, which wait for slow receivers.
    MATCH: {"queue": "market"},
    "maxxit.notify.*": {"queue": "notify"},
    "maxxit.pipeline.*": {"queue": "default"},
    # Only starts processes, which compute.
    "maxxit.replay.*": {"queue": "default"},
    # Long reads that sign nothing: orders and bookings must not wait for them.
    "positions.tasks.watch_risk": {"queue": "guard"},
    "positions.tasks.take_points": {"queue": "guard"},
    "trading.tasks.reconcile": {"queue": "guard"},
    "trading.tasks.book_deposits": {"queue": "guard"},
    "trading.tasks.watch_approvals": {"queue": "guard"},
    # Reads of whole tables: neither the guard's triggers nor bookings wait for them.
    "positions.tasks.thin_points": {"queue": "default"},
    "positions.tasks.check_books": {"queue": "default"},
    "positions.tasks.roll_up_pnl": {"queue": "default"},
    "trading.tasks.bill": {"queue": "default"},
    "positions.*": {"queue": "monitor"},
    "trading.*": {"queue": "execute"},
}


def stage(name: str) -> Stage:
    """Return the stage of that name. Raises KeyError with the known names."""
    for sweep in SWEEPS:
        if sweep.name == name:
            return sweep
    raise KeyError(f"no stage {name!r}; known: {', '.join(s.name for s in SWEEPS)}")
