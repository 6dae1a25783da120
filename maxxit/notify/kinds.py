"""Kinds of notifications that customers choose, and which events pass quiet hours."""

from dataclasses import dataclass

from maxxit.core.errors import Rejected

CODE = "endpoint.code_sent"
"""The event of a code that confirms an address; the code itself is only in what is sent there."""
TESTS = ("notification.tested", "rule.tested", CODE)
"""Events of test messages and codes: one delivery, to the channel that is tested."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A group of events that a customer chooses to be notified of, or not."""

    title: str
    events: tuple[str, ...]
    opt_in: bool = False
    """Whether only those get it who chose it; the others are on for everybody."""


KINDS = {
    "trades": Kind("A trade of yours is opened or closed", ("position.open", "position.closed")),
    "stop_moves": Kind("A trailing stop of yours moves", ("position.stop_moved",), opt_in=True),
    "stops": Kind(
        "An account of yours is stopped, or released",
        ("kill_switch.pulled", "kill_switch.released", "safe.entries_stopped", "safe.unverified"),
    ),
    "losses": Kind(
        "An account of yours has nearly reached its daily loss or drawdown limit",
        ("account.loss_near_limit",),
    ),
    "authors": Kind("An author whom your agent follows cannot be read", ("author.unread",)),
    "accounts": Kind(
        "Money leaves an account of yours, or a foreign agent key is approved for it",
        ("account.money_left", "account.unknown_agent"),
    ),
    "liquidations": Kind(
        "A position with leverage comes near its liquidation, or is liquidated",
        ("liquidation.near", "position.liquidated"),
    ),
    "twins": Kind(
        "Fills of an account of yours drift from those of its paper twin", ("twin.drifted", "twin.recovered")
    ),
    "addresses": Kind(
        "Money moves at an address that is watched for you", ("address.transfer", "address.own_transfer")
    ),
    "confirmations": Kind("An entry waits for your confirmation", ("order.awaiting_confirmation",)),
    "digest_pnl": Kind("Digest each morning: your trades of the day before", ("digest.pnl",), opt_in=True),
    "digest_blocked": Kind(
        "Digest each morning: entries that were blocked, and why", ("digest.blocked",), opt_in=True
    ),
    "digest_authors": Kind(
        "Digest on Mondays: your trades of the week by author", ("digest.authors",), opt_in=True
    ),
    "digest_sentiment": Kind(
        "Digest each four hours: which tokens your authors call", ("digest.sentiment",), opt_in=True
    ),
    "limits": Kind("A risk limit or fee of the platform changes", ("limits.changed",)),
}
"""Name -> kind. All but those that are `opt_in` are sent unless the user chose fewer; the inbox holds every one."""
OPT_IN = tuple(event for kind in KINDS.values() if kind.opt_in for event in kind.events)
DEFAULT = sorted(name for name, kind in KINDS.items() if not kind.opt_in)
"""Kinds of a user who chose none."""
FOR_OWNERS = (
    *KINDS["confirmations"].events,
    *KINDS["trades"].events,
    *OPT_IN,
    "endpoint.gone",
    "address.own_transfer",
)
"""Events that only the user whom they name as `owner_id` hears of: staff need not act on them."""
CRITICAL = frozenset(
    {
        "kill_switch.pulled",
        "safe.entries_stopped",
        "flatten.unclosed",
        "reconcile.unexplained",
        "books.differ",
        *KINDS["accounts"].events,
        *KINDS["liquidations"].events,
        "liquidation.not_adopted",
        *TESTS,
    }
)
"""Events that are sent in quiet hours too."""


SEVERITIES = ("info", "warning", "critical")


def check(names: list[str]) -> list[str]:
    """Return the names sorted, each once. Raises Rejected for an unknown kind."""
    if unknown := sorted(set(names) - set(KINDS)):
        raise Rejected(
            f"no kind of notification {', '.join(unknown)!r}; known: {', '.join(KINDS)}", code="unknown_kind"
        )
    return sorted(set(names))


CALM = frozenset(
    {
        "kill_switch.released",
        "gate.opened",
        "gate.approved",
        "exits.resumed",
        "limits.changed",
        "endpoint.gone",
        "check.recovered",
        "twin.recovered",
        *(f"change_request.{state}" for state in ("applied", "refused", "withdrawn", "expired", "stale")),
        *KINDS["trades"].events,
        *OPT_IN,
    }
)
"""Events that ask nothing of anybody."""


def severity(event: str) -> str:
    """Return info, warning or critical."""
    return "critical" if event in CRITICAL else "info" if event in CALM else "warning"


TITLES = {
    "digest.pnl": "Your day",
    "digest.blocked": "Blocked entries",
    "digest.authors": "Your week by author",
    "digest.sentiment": "What your authors call",
    "position.open": "Trade opened",
    "position.closed": "Trade closed",
    "position.stop_moved": "Trailing stop moved",
    "safe.unverified": "Safe not verified",
    "safe.check_failed": "Safe or executor not checked",
    "account.loss_near_limit": "Loss limit nearly reached",
    "author.unread": "Author cannot be read",
    "llm.budget_nearly_spent": "Model budget nearly spent",
    "check.failing": "A part of the platform fails",
    "check.recovered": "A part of the platform works again",
    "endpoint.gone": "An address was removed",
    "twin.drifted": "Fills differ from the paper twin's",
    "twin.recovered": "Fills no longer differ from the paper twin's",
}
"""Of events whose name and kind say too little."""


def title(event: str) -> str:
    """Return the title of an event, else of its kind; the event's name in words where it belongs to none."""
    named = (kind.title for kind in KINDS.values() if event in kind.events)
    return TITLES.get(event) or next(named, event.replace("_", " ").replace(".", " "))
