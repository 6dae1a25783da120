"""Set the limits that an owner gives their own deployment. They only ever tighten: the platform's stand beside them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import transaction

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import InvalidInput
from maxxit.core.money import plain
from maxxit.events.record import record
from trading.deployments.activation import capital_of, plan_of
from trading.risk.limits_in_force import protective_limits
from trading.risk.policy import RiskPolicy

NAMES = ("max_daily_usd", "max_position_usd", "max_open_positions")
MOST_POSITIONS = 1_000
CENT = Decimal("0.01")


def problems_of(given: Mapping[str, Any], platform: RiskPolicy) -> dict[str, str]:
    """Return name -> what is wrong with each limit. None lifts a limit. Pure.

    Args:
        given: name (of `NAMES`) -> USD, a number of tokens, or None.
    """
    problems = {name: f"no such limit; known: {', '.join(NAMES)}" for name in given if name not in NAMES}
    for name in ("max_daily_usd", "max_position_usd"):
        value = given.get(name)
        if value is not None and not (value.is_finite() and CENT <= value < 10**15):
            problems[name] = f"enter an amount from 0.01 USD, or none to lift the limit, not {value}"
    largest = platform.account.max_symbol_exposure_usd
    position = given.get("max_position_usd")
    if "max_position_usd" not in problems and position is not None and position > largest:
        problems["max_position_usd"] = (
            f"{plain(position)} USD is above the platform's {plain(largest)} USD of one token: enter less, or none"
        )
    count = given.get("max_open_positions")
    if count is not None and not 1 <= count <= MOST_POSITIONS:
        problems["max_open_positions"] = (
            f"enter 1 to {MOST_POSITIONS} tokens, or none, not {count}; to stop, pause"
        )
    return problems


def set_limits(deployment: Deployment, given: Mapping[str, Any], *, by: str) -> list[str]:
    """Set the limits that are given, from the next order on; return what they leave of the plan.

    Raises InvalidInput naming each wrong limit.
    """
    if problems := problems_of(given, protective_limits()):
        raise InvalidInput(problems)
    with transaction.atomic():
        locked = (
            Deployment.objects.select_for_update(no_key=True).select_related("agent").get(pk=deployment.pk)
        )
        changed = {
            name: [_shown(getattr(locked, name)), _shown(value)]
            for name, value in given.items()
            if getattr(locked, name) != value
        }
        if changed:
            values = dict(given) | {"limits_changed_at": clock.now(), "limits_changed_by": by[:150]}
            for name, value in values.items():
                setattr(locked, name, value)
                setattr(deployment, name, value)
            locked.save(update_fields=list(values))
            record("deployment.limited", locked, by=by, changes=changed)
    if capital_of(deployment) <= 0:
        return []
    plan = plan_of(deployment)
    return [text for text in (*plan.problems, *plan.notes) if text.startswith("your limit")]


def _shown(value: Any) -> Any:
    return plain(value) if isinstance(value, Decimal) else value
