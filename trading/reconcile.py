"""Reconcile the ledger with the balances at the venues, to the unit. A failed read changes nothing."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

import structlog
from django.db import connection

from maxxit.core.errors import Retryable
from maxxit.core.money import CASH, ZERO
from trading.entries import resting_exits
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
WHERE d.state <> 'draft' AND (%(accounts)s::text[] IS NULL OR d.account = ANY(%(accounts)s::text[]))
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Comparison:
    """The result of comparing every account in the ledger with its venue."""

    accounts: Counter[str]
    """Venue -> number of accounts compared."""
    differences: Mapping[VenueAccount, Amounts]
    """Venue minus ledger, where they differ."""
    unread: frozenset[VenueAccount]
    """Accounts that could not be read."""
    held: Mapping[VenueAccount, Amounts] = field(default_factory=dict)
    """What each account that was read holds at its venue."""
    booked: Mapping[VenueAccount, Amounts] = field(default_factory=dict)
    """What the ledger had for each account after the venues were read."""


def drifts() -> dict[str, Decimal]:
    """Return venue balance minus ledger balance where they differ, keyed `account asset`, in whole units.

    Raises Retryable when an account cannot be read.
    """
    comparison = _compare(_booked())
    if comparison.unread:
        names = ", ".join(account for _, account in sorted(comparison.unread))
        raise Retryable(f"these accounts cannot be read at their venue: {names}")
    return {
        f"{account} {asset}": amount
        for (_, account), amounts in comparison.differences.items()
        for asset, amount in amounts.items()
    }


def compare_settled(only: Collection[VenueAccount] | None = None) -> Comparison:
    """Compare while trading goes on: an account's asset that an order in flight may change is left out.

    So is one that an exit kept by the venue changed a moment ago.

    Transfers by the owners are booked first, where the venue can identify them, and are not a difference.

    Args:
        only: the accounts to compare; None: all.
    """
    in_flight, before = _assets_in_flight(only), _booked(only)
    comparison = _compare(before)
    if not comparison.differences:
        return comparison
    in_flight |= resting_exits.not_adopted({account for _, account in comparison.differences})
    in_flight |= _assets_in_flight(only)
    after = _booked(only)  # an asset booked while the venues were read cannot be compared
    differences: dict[VenueAccount, Amounts] = {}
    unread = set(comparison.unread)
    for key, amounts in comparison.differences.items():
        name, account = key
        comparable = {
            asset: amount
            for asset, amount in amounts.items()
            if (account, asset) not in in_flight and before[key].get(asset) == after[key].get(asset)
        }
        try:
            unexplained = venue(name).unexplained(account, comparable) if comparable else {}
        except Exception as error:  # a failing account must not hide another account's difference
            log.warning("account_not_read", account=account, error=str(error))
            unread.add(key)
        else:
            differences |= {key: unexplained} if unexplained else {}
    return replace(comparison, differences=differences, unread=frozenset(unread), booked=after)


def _booked(only: Collection[VenueAccount] | None = None) -> defaultdict[VenueAccount, dict[str, Decimal]]:
    """Return what each account holds according to the ledger."""
    booked: defaultdict[VenueAccount, dict[str, Decimal]] = defaultdict(dict)
    accounts = None if only is None else sorted({account for _, account in only})
    with connection.cursor() as cursor:
        cursor.execute(BOOKED, {"accounts": accounts})
        for name, account, asset, amount in cursor.fetchall():
            if only is None or (name, account) in only:
                booked[name, account][asset] = amount
    return booked


def _compare(booked: Mapping[VenueAccount, Amounts]) -> Comparison:
    accounts: defaultdict[str, list[str]] = defaultdict(list)
    for name, account in booked:
        accounts[name].append(account)
    differences: dict[VenueAccount, Amounts] = {}
    held: dict[VenueAccount, Amounts] = {}
    unread: set[VenueAccount] = set()
    for name, names in accounts.items():
        answers = _held(name, names)
        unread |= {(name, account) for account in names if account not in answers}
        for account, at_venue in answers.items():
            held[name, account] = at_venue
            if amounts := _differences(at_venue, booked[name, account]):
                differences[name, account] = amounts
    counts = Counter({name: len(names) for name, names in accounts.items()})
    return Comparison(counts, differences, frozenset(unread), held, booked)


def _held(name: str, accounts: Iterable[str]) -> dict[str, dict[str, Decimal]]:
    """Return what the accounts hold according to the venue; empty when it cannot be read."""
    try:
        return venue(name).balances_of(list(accounts))
    except Exception as error:  # nor must a failing venue
        log.warning("venue_not_read", venue=name, error=str(error))
        return {}


def _differences(at_venue: Amounts, booked: Amounts) -> dict[str, Decimal]:
    differences = {
        asset: at_venue.get(asset, ZERO) - booked.get(asset, ZERO) for asset in {*at_venue, *booked}
    }
    return {asset: amount for asset, amount in sorted(differences.items()) if amount}


def _assets_in_flight(only: Collection[VenueAccount] | None = None) -> set[tuple[str, str]]:
    """Return every (account, asset) that an order in flight may change."""
    in_flight = Order.objects.filter(state__in=IN_FLIGHT).order_by().distinct()
    if only is not None:
        in_flight = in_flight.filter(account__in={account for _, account in only})
    return {
        (account, asset)
        for account, symbol in in_flight.values_list("account", "symbol")
        for asset in (symbol, *CASH)
    }
