"""The machine on one page: which stage is which task, on which queue, woken by which event.

When a stage runs by the clock stands in `config/schedule.yaml`. Every stage is a sweep: it looks for rows that
are due, so a lost message costs at most one interval. The events only make it quick.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stretch of the river."""

    name: str
    task: str
    queue: str
    what: str
    wakes_on: tuple[str, ...] = ()


STAGES = (
    Stage("ingest", "signals_app.tasks.ingest", "ingest", "fetch new posts of the followed accounts"),
    Stage(
        "classify",
        "signals_app.tasks.classify",
        "llm",
        "read new posts: candidate or not, which tokens, which side",
        wakes_on=("stage.ingest",),
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
        "fan signals out to deployments, check every gate and limit, send, settle",
        wakes_on=("stage.generate", "position.closing", "orders.waiting"),
    ),
    Stage(
        "monitor",
        "positions.tasks.monitor",
        "monitor",
        "book fills, let positions leave by their exits, book PnL, fees and profit share",
        wakes_on=(
            "execution.completed",
            "order.partially_filled",
            "order.rejected",
            "order.canceled",
            "order.expired",
            "quotes.moved",
        ),
    ),
)
"""In the order of the pipeline: a run is one Celery chain over these."""

QUEUES = ("ingest", "llm", "generate", "execute", "monitor", "market", "notify", "default")

ALERTS = (
    "kill_switch.pulled", "kill_switch.released", "gate.opened", "gate.closed", "gate.approved", "gate.revoked",
    "exits.paused", "exits.resumed", "order.quarantined", "ctpost.quarantined", "reconcile.unexplained",
    "login.blocked", "safe.entries_stopped",
)  # fmt: skip
"""Events that staff is told of at once."""

WAKES = (
    {event: tuple(s.task for s in STAGES if event in s.wakes_on) for s in STAGES for event in s.wakes_on}
    | {"rule.matched": ("maxxit.notify.tasks.deliver",)}
    | dict.fromkeys(ALERTS, ("maxxit.notify.tasks.alert",))
)
"""Event name -> tasks to wake."""

ROUTES = {stage.task: {"queue": stage.queue} for stage in STAGES} | {
    "maxxit.knowledge.*": {"queue": "default"},
    "maxxit.market.*": {"queue": "market"},
    "maxxit.notify.*": {"queue": "notify"},
    "maxxit.pipeline.*": {"queue": "default"},
    "positions.*": {"queue": "monitor"},
    "trading.*": {"queue": "execute"},
    "trading.tasks.reconcile": {"queue": "default"},  # it reads much and signs nothing: no order waits for it
}


def stage(name: str) -> Stage:
    """The stage of that name. Raises KeyError with the known names."""
    for one in STAGES:
        if one.name == name:
            return one
    raise KeyError(f"no stage {name!r}; known: {', '.join(s.name for s in STAGES)}")
