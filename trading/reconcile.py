"""The ledger compared with what the venues say, to the unit. A failed read changes nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import structlog
from django.db import connection

from maxxit.core.errors import Retryable
from maxxit.core.money import USDC, ZERO
from trading.models import Order
from trading.states import IN_FLIGHT
from trading.wiring import venue

log = structlog.get_logger(__name__)

VenueAccount = tuple[str, str]
"""(venue, account)"""
Amounts = Mapping[str, Decimal]
"""Asset -> whole units."""

BOOKED = """
SELECT a.venue, d.account, b.asset, sum(b.amount)
FROM agent_deployments d JOIN agents a ON a.id = d.agent_id JOIN ledger_balances b ON b.account = 'deployment:' || d.id
WHERE d.state <> 'draft'
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Comparison:
    """Every account that the ledger knows, compared with its venue."""

    accounts: Counter[str]
    """Venue -> how many."""
    apart: Mapping[VenueAccount, Amounts]
    """Venue minus ledger, where they differ."""
    unread: frozenset[VenueAccount]
    """Accounts that could not be read."""


def drifts() -> dict[str, Decimal]:
    """Venue minus ledger wherever they differ, keyed `account asset`; empty when all agree.

    Raises Retryable when an account cannot be read.
    """
    found = _compare(_booked())
    if found.unread:
        raise Retryable(f"cannot be read: {', '.join(account for _, account in sorted(found.unread))}")
    return {
        f"{account} {asset}": amount
        for (_, account), apart in found.apart.items()
        for asset, amount in apart.items()
    }


def compare_settled() -> Comparison:
    """The comparison while trading goes on: what may still be on its way is left out, for that account and asset only.

    What the owners moved themselves is booked first, where the venue can tell, and is no difference.
    """
    moving, before = _moving(), _booked()
    found = _compare(before)
    if not found.apart:
        return found
    moving |= _moving()
    after = _booked()  # what was booked while the venues were read cannot be compared with what they said
    apart: dict[VenueAccount, Amounts] = {}
    unread = set(found.unread)
    for key, amounts in found.apart.items():
        name, account = key
        still = {
            asset: amount
            for asset, amount in amounts.items()
            if (account, asset) not in moving and before[key].get(asset) == after[key].get(asset)
        }
        try:
            left = venue(name).unexplained(account, still) if still else {}
        except Exception as error:  # one account that fails hides no other's difference
            log.warning("account_not_read", account=account, error=str(error))
            unread.add(key)
        else:
            apart |= {key: left} if left else {}
    return Comparison(found.accounts, apart, frozenset(unread))


def _booked() -> defaultdict[VenueAccount, dict[str, Decimal]]:
    """What the ledger says that each account holds."""
    found: defaultdict[VenueAccount, dict[str, Decimal]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(BOOKED)
        for name, account, asset, amount in cursor.fetchall():
            found[name, account][asset] = amount
    return found


def _compare(booked: Mapping[VenueAccount, Amounts]) -> Comparison:
    accounts: defaultdict[str, list[str]] = defaultdict(list)
    for name, account in booked:
        accounts[name].append(account)
    apart: dict[VenueAccount, Amounts] = {}
    unread: set[VenueAccount] = set()
    for name, mine in accounts.items():
        held = _held(name, mine)
        unread |= {(name, account) for account in mine if account not in held}
        for account, theirs in held.items():
            if differences := _differences(theirs, booked[name, account]):
                apart[name, account] = differences
    return Comparison(Counter({name: len(mine) for name, mine in accounts.items()}), apart, frozenset(unread))


def _held(name: str, accounts: Iterable[str]) -> dict[str, dict[str, Decimal]]:
    """What a venue says that its accounts hold; empty when it cannot be read."""
    try:
        return venue(name).balances_of(list(accounts))
    except Exception as error:  # nor does a venue
        log.warning("venue_not_read", venue=name, error=str(error))
        return {}


def _differences(theirs: Amounts, ours: Amounts) -> dict[str, Decimal]:
    apart = {asset: theirs.get(asset, ZERO) - ours.get(asset, ZERO) for asset in {*theirs, *ours}}
    return {asset: amount for asset, amount in sorted(apart.items()) if amount}


def _moving() -> set[tuple[str, str]]:
    """(account, asset) of everything that orders in flight may change."""
    flying = Order.objects.filter(state__in=IN_FLIGHT).order_by().values_list("account", "symbol").distinct()
    return {(account, asset) for account, symbol in flying for asset in (symbol, USDC)}
