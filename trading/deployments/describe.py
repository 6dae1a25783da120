"""Deployments as plain data, the same for the API and the commands' `--json`."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from agents.models import Deployment
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from trading.deployments.stops import OWNER
from trading.models import KillSwitch


def deployments_data(deployments: Iterable[Deployment]) -> list[dict[str, Any]]:
    """Return deployments with what stops them. Select `agent` and `owner` with them; it takes one more statement."""
    rows = list(deployments)
    stops: dict[str, list[KillSwitch]] = defaultdict(list)
    accounts = ["", *(row.account for row in rows)]
    for switch in KillSwitch.objects.filter(released_at=None, account__in=accounts).order_by("-pk"):
        stops[switch.account].append(switch)
    return [_data(row, [*stops[""], *stops[row.account]]) for row in rows]


def deployment_data(deployment: Deployment) -> dict[str, Any]:
    """Return one deployment with what stops it."""
    return deployments_data([deployment])[0]


def _data(row: Deployment, stops: Iterable[KillSwitch]) -> dict[str, Any]:
    return {
        "id": row.pk,
        "agent_id": row.agent_id,
        "agent": row.agent.name,
        "owner": str(row.owner) if row.owner_id else None,
        "status": row.state.upper(),
        "venue": row.agent.venue,
        "account": row.account,
        "starting_balance": plain(row.starting_balance),
        "limits": {
            "max_daily_usd": _plain(row.max_daily_usd),
            "max_position_usd": _plain(row.max_position_usd),
            "max_open_positions": row.max_open_positions,
            "changed_at": iso_utc(row.limits_changed_at) if row.limits_changed_at else None,
            "changed_by": row.limits_changed_by,
        },
        "confirm_entries": row.confirm_entries,
        "safe_capital": _plain(row.safe_capital),
        "safe_wallet": row.safe_wallet,
        "module_enabled": row.module_enabled,
        "verified_at": iso_utc(row.verified_at) if row.verified_at else None,
        "stops": [
            {
                "level": switch.level,
                "by_owner": switch.cause == OWNER,
                "whole_platform": not switch.account,
                "reason": switch.reason,
                "pulled_at": iso_utc(switch.pulled_at),
            }
            for switch in stops
        ],
        "created_at": iso_utc(row.created_at),
    }


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def deployment_numbered(number: int) -> Deployment:
    """Return the deployment with this id. Raises Rejected where there is none."""
    row = Deployment.objects.select_related("agent", "owner").filter(pk=number).first()
    if row is None:
        raise Rejected(f"no deployment {number}: `manage.py deployments list` shows them", code="not_found")
    return row
