"""Kinds of changes that raise risk: what each asks for, what it starts from, whether it raises risk, how it applies.

Contents and bases are JSON, written in one way only, so that their hash says whether anything differs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from django.db.models import Q

from agents.models import Deployment
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.core.money import plain
from maxxit.market.venues import venue_policy, venues
from trading import gate
from trading.deployments import owner_limits
from trading.models import Approval, Gate, LimitsInForce
from trading.operations import limit_overrides
from trading.risk.limits_in_force import locked_row, protective_limits, value_text, values_in_force
from trading.second_person import Kind, real_money_venues, trades_real_money

Json = Mapping[str, Any]
ALL = "*"
WORDS = {"null": "none", "true": "on", "false": "off"}
"""Values of limits as events write them -> as people read them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One value that a change replaces, as texts."""

    what: str
    old: str
    new: str


class Change(Protocol):
    """A kind of change. `lock` is called first in the transaction that asks for or applies one."""

    permission: ClassVar[str]
    """Needed to ask for it on a page."""

    def lock(self, content: Json) -> None:
        """Lock what the change reads and writes, until the transaction ends."""

    def check(self, content: Json) -> None:
        """Raise Rejected where the change is impossible or would change nothing."""

    def raises_risk(self, content: Json) -> bool:
        """Return whether real money may be lost that could not be lost before."""

    def base(self, content: Json) -> dict[str, Any]:
        """Return what the change starts from now."""

    def lines(self, content: Json, base: Json) -> list[Line]:
        """Return what changes, from and to."""

    def ends_at(self, content: Json) -> datetime | None:
        """Return when the change loses its meaning; None for never."""

    def apply(self, content: Json, *, by: str, reason: str) -> Any:
        """Make the change and record it; return what the function that makes it returns. Raises Rejected."""


class OpenGate:
    """End the dry run of a venue. Content: `venue`."""

    permission: ClassVar[str] = "trading.change_gate"

    def lock(self, content: Json) -> None:
        """Take the lock of gates."""
        gate.lock()

    def check(self, content: Json) -> None:
        """Raise Rejected where dry run is off already, `Misconfigured` for an unknown venue."""
        venue_policy(content["venue"])
        if not gate.read(content["venue"]).dry_run:
            raise Rejected(f"dry run of {content['venue']} is off already", code="no_change")

    def raises_risk(self, content: Json) -> bool:
        """Return whether the venue trades real money."""
        return trades_real_money(venue_policy(content["venue"]))

    def base(self, content: Json) -> dict[str, Any]:
        """Return the dry run and when it was last set: closing the gate again makes a request stale."""
        row = Gate.objects.filter(venue=content["venue"]).first()
        return {
            "dry_run": row is None or row.dry_run,
            "set_at": row.changed_at.isoformat() if row else None,
        }

    def lines(self, content: Json, base: Json) -> list[Line]:
        """Return the dry run."""
        return [Line(f"dry run of {content['venue']}", "on" if base["dry_run"] else "off", "off")]

    def ends_at(self, content: Json) -> datetime | None:
        """Return None."""
        return None

    def apply(self, content: Json, *, by: str, reason: str) -> Gate:
        """End the dry run."""
        return gate.set_dry_run(content["venue"], False, by=by[:80], reason=reason)


class ApproveOrders:
    """Approve that orders are sent. Content: `scope` (a venue, or *), `until` (ISO time)."""

    permission: ClassVar[str] = "trading.change_approval"

    def lock(self, content: Json) -> None:
        """Take the lock of gates."""
        gate.lock()

    def check(self, content: Json) -> None:
        """Raise Rejected where `until` has passed, `Misconfigured` for an unknown venue."""
        if content["scope"] != ALL:
            venue_policy(content["scope"])
        gate.check_end(datetime.fromisoformat(content["until"]))

    def raises_risk(self, content: Json) -> bool:
        """Return whether one of the venues trades real money."""
        real = real_money_venues()
        return bool(real) if content["scope"] == ALL else content["scope"] in real

    def base(self, content: Json) -> dict[str, Any]:
        """Return until when the scope is or was approved, and when an approval of it was last revoked."""
        scope = content["scope"]
        covering = Approval.objects.filter(Q() if scope == ALL else Q(scope__in=(scope, ALL)))
        revoked = covering.exclude(revoked_at=None).order_by("-revoked_at").first()
        last = covering.filter(scope__in=(scope, ALL), revoked_at=None).order_by("-expires_at").first()
        return {
            "approved_until": last.expires_at.isoformat() if last else None,
            "revoked_at": revoked.revoked_at.isoformat() if revoked and revoked.revoked_at else None,
        }

    def lines(self, content: Json, base: Json) -> list[Line]:
        """Return the end of the approval."""
        scope = content["scope"]
        what = f"orders of {'all venues: ' + ', '.join(venues()) if scope == ALL else scope} are sent"
        before = base["approved_until"]
        old = f"until {_minute(before)}" if before else "not approved"
        return [Line(what, old, f"until {_minute(content['until'])}")]

    def ends_at(self, content: Json) -> datetime | None:
        """Return the end of the approval."""
        return datetime.fromisoformat(content["until"])

    def apply(self, content: Json, *, by: str, reason: str) -> Approval:
        """Approve."""
        until = datetime.fromisoformat(content["until"])
        return gate.approve(content["scope"], by=by[:80], until=until, reason=reason)


class RaiseLimit:
    """Override a limit of config/risk.yaml, or remove the override. Content: `limit`, `value` (text; None removes)."""

    permission: ClassVar[str] = "trading.change_limitsinforce"

    def lock(self, content: Json) -> None:
        """Lock the row of limits in force."""
        locked_row()

    def check(self, content: Json) -> None:
        """Raise Rejected for an unknown limit, a wrong value, one that is configured already, or no override."""
        effect = self._effect(content)
        if content["value"] is not None and effect.old == effect.new:
            raise Rejected(f"{effect.key} is {value_text(effect.new)} already", code="no_change")

    def raises_risk(self, content: Json) -> bool:
        """Return whether the new value is looser than the one in force."""
        return self._effect(content).looser

    def base(self, content: Json) -> dict[str, Any]:
        """Return the value in force, the configured one, and the one that results."""
        effect = self._effect(content)
        row = LimitsInForce.objects.get()
        return {
            "in_force": value_text(values_in_force(row).get(effect.key)),
            "configured": value_text(effect.old),
            "new": value_text(effect.new),
        }

    def lines(self, content: Json, base: Json) -> list[Line]:
        """Return the limit."""
        old, new = str(base["in_force"]), str(base["new"])
        return [Line(content["limit"], WORDS.get(old, old), WORDS.get(new, new))]

    def ends_at(self, content: Json) -> datetime | None:
        """Return None."""
        return None

    def apply(self, content: Json, *, by: str, reason: str) -> limit_overrides.Effect:
        """Set or remove the override; a looser value still waits for its delay."""
        key, value = content["limit"], content["value"]
        if value is None:
            return limit_overrides.remove_override(key, by=by, reason=reason)
        return limit_overrides.set_override(key, value, by=by, reason=reason)

    @staticmethod
    def _effect(content: Json) -> limit_overrides.Effect:
        if content["value"] is None:
            return limit_overrides.preview_removal(content["limit"])
        return limit_overrides.preview(content["limit"], content["value"])


class RaiseOwnerLimit:
    """Set limits of a deployment for its owner. Content: `deployment` (id), `limits` (name -> text or None)."""

    permission: ClassVar[str] = "agents.change_deployment"

    def lock(self, content: Json) -> None:
        """Lock the deployment."""
        self._deployment(content, lock=True)

    def check(self, content: Json) -> None:
        """Raise InvalidInput naming each wrong limit."""
        if problems := owner_limits.problems_of(self._values(content), protective_limits()):
            raise InvalidInput(problems)

    def raises_risk(self, content: Json) -> bool:
        """Return whether a limit of a deployment of real money is lifted or raised."""
        deployment = self._deployment(content)
        venue = venues().get(deployment.agent.venue)
        if venue is not None and not trades_real_money(venue):
            return False
        now = {name: getattr(deployment, name) for name in content["limits"]}
        return any(
            now[name] is not None and (new is None or new > now[name])
            for name, new in self._values(content).items()
        )

    def base(self, content: Json) -> dict[str, Any]:
        """Return the limits now, and the owner."""
        deployment = self._deployment(content)
        now = {name: _text(getattr(deployment, name)) for name in content["limits"]}
        return {"limits": now, "owner": deployment.owner_id}

    def lines(self, content: Json, base: Json) -> list[Line]:
        """Return each limit that changes."""
        return [
            Line(
                f"{name} of deployment {content['deployment']}",
                old or "none",
                content["limits"][name] or "none",
            )
            for name, old in base["limits"].items()
            if old != content["limits"][name]
        ]

    def ends_at(self, content: Json) -> datetime | None:
        """Return None."""
        return None

    def apply(self, content: Json, *, by: str, reason: str) -> list[str]:
        """Set the limits, from the next order on."""
        return owner_limits.set_limits(self._deployment(content), self._values(content), by=by)

    @staticmethod
    def _deployment(content: Json, *, lock: bool = False) -> Deployment:
        rows = Deployment.objects.select_related("agent")
        if lock:
            rows = rows.select_for_update(no_key=True, of=("self",))
        found = rows.filter(pk=content["deployment"]).first()
        if found is None:
            raise Rejected(f"no deployment {content['deployment']}", code="not_found")
        return found

    @staticmethod
    def _values(content: Json) -> dict[str, Any]:
        return {
            name: None if text is None else int(text) if name == "max_open_positions" else Decimal(text)
            for name, text in content["limits"].items()
        }


CHANGES: Mapping[Kind, Change] = {
    Kind.OPEN_GATE: OpenGate(),
    Kind.APPROVE_ORDERS: ApproveOrders(),
    Kind.RAISE_LIMIT: RaiseLimit(),
    Kind.RAISE_OWNER_LIMIT: RaiseOwnerLimit(),
}


def open_gate(venue: str) -> dict[str, Any]:
    """Return the content of a request to end the dry run of a venue."""
    return {"venue": venue}


def approve_orders(scope: str, until: datetime) -> dict[str, Any]:
    """Return the content of a request to approve orders of a venue, or of * for all."""
    return {"scope": scope, "until": until.isoformat()}


def set_limit(key: str, text: str) -> dict[str, Any]:
    """Return the content of a request to override a limit. Raises Rejected for what is no value of it."""
    value = limit_overrides.parse(key, text)
    if value is None:
        written = limit_overrides.NONE
    elif isinstance(value, bool):
        written = limit_overrides.ON if value else limit_overrides.OFF
    else:
        written = plain(value) if isinstance(value, Decimal) else value
    return {"limit": key, "value": written}


def unset_limit(key: str) -> dict[str, Any]:
    """Return the content of a request to remove the override of a limit."""
    return {"limit": key, "value": None}


def owner_limits_of(deployment: Deployment, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a request to set limits of somebody's deployment. Raises InvalidInput."""
    if problems := owner_limits.problems_of(given, protective_limits()):
        raise InvalidInput(problems)
    return {"deployment": deployment.pk, "limits": {name: _text(value) for name, value in given.items()}}


def in_words(lines: Iterable[Line]) -> str:
    """Return changes in one line of text."""
    return "; ".join(f"{line.what}: {line.old} → {line.new}" for line in lines)


def _text(value: Decimal | int | None) -> str | None:
    return None if value is None else plain(Decimal(value))


def _minute(stored: str) -> str:
    return f"{datetime.fromisoformat(stored):%Y-%m-%d %H:%M} UTC"
