"""Mirror what venues hold for each account, beside the ledger: what is booked, discovered, or no longer there."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models import Count

from maxxit.core import clock
from maxxit.core.money import CASH, ZERO, plain
from maxxit.events.record import record
from trading import reconcile
from trading.passes import ends_the_pass
from trading.reconcile import Amounts, Comparison, VenueAccount
from trading.reconciliation.models import VenueHolding

log = structlog.get_logger(__name__)
Origin = VenueHolding.Origin
EVENTS = {Origin.AUTO_DISCOVERED: "position.discovered", Origin.ORPHANED: "position.orphaned"}


class Meaning(NamedTuple):
    """How the ledger explains a holding, in words; no fix where there is nothing to do."""

    text: str
    fix: str = ""
    """For operators."""
    owners_fix: str = ""
    """For the account's owner, who can neither adopt nor book."""


MEANINGS: Mapping[str, Meaning] = {
    Origin.BOOKED: Meaning("as booked"),
    Origin.AUTO_DISCOVERED: Meaning(
        "opened or moved in elsewhere: the owner's own, and not traded",
        "adopt it, so that it is closed by stop and target; or book it as a transfer of the owner",
        "none needed if you bought it or moved it in; ask us if it shall be closed by stop and target",
    ),
    Origin.ORPHANED: Meaning(
        "less than booked: sold, withdrawn or closed elsewhere",
        "book it as a transfer to outside: what positions held of it closes as reconciled",
        "tell us that you sold or withdrew it; if you did not, stop the agent on the page My agents",
    ),
    Origin.CASH: Meaning(
        "other cash than booked: a transfer, or a trade that is not ours",
        "book it as a transfer of the owner; if nobody moved it, stop the account and replace its keys",
        "tell us that you moved it; if you did not, stop the agent on the page My agents and replace its keys",
    ),
}


class Seen(NamedTuple):
    """What one look at an asset of an account says."""

    quantity: Decimal
    """At the venue."""
    booked: Decimal
    unexplained: Decimal


def origin_of(asset: str, seen: Seen) -> Origin:
    """Return how the ledger explains a holding. Pure function.

    A difference away from zero is more than we know of; one towards zero is less. Shorts are negative.
    """
    if not seen.unexplained:
        return Origin.BOOKED
    if asset in CASH:
        return Origin.CASH
    more = not seen.booked or (seen.unexplained > 0) == (seen.booked > 0)
    return Origin.AUTO_DISCOVERED if more else Origin.ORPHANED


def look(accounts: Collection[VenueAccount]) -> Comparison:
    """Compare these accounts with their venues and store what they hold; accounts that cannot be read stay as they are.

    Transfers by the owners that the venue identifies are booked first.
    """
    compared = reconcile.compare_settled(accounts)
    now, failed = clock.now(), set(compared.unread)
    for key, held in compared.held.items():
        if key in failed:
            continue
        try:
            _store(key, held, compared.booked.get(key, {}), compared.differences.get(key, {}), now)
        except Exception as error:  # one account's amounts must not stop the others
            if ends_the_pass(error):
                raise
            log.exception("holdings_not_stored", account=key[1], error=str(error))
            failed.add(key)
    return replace(compared, unread=frozenset(failed))


def unexplained() -> dict[str, int]:
    """Return origin -> holdings that the ledger does not explain."""
    rows = VenueHolding.objects.exclude(origin=Origin.BOOKED).order_by("origin").values_list("origin")
    return dict(rows.annotate(count=Count("pk")))


@transaction.atomic
def _store(key: VenueAccount, held: Amounts, booked: Amounts, differences: Amounts, now: datetime) -> None:
    """Store one account: insert and update what it holds, zero out what is gone; tell what is new."""
    venue, account = key
    rows = (
        VenueHolding.objects.select_for_update(no_key=True)
        .filter(venue=venue, account=account)
        .order_by("pk")
    )
    known = {row.asset: row for row in rows}
    values = {
        asset: Seen(held.get(asset, ZERO), booked.get(asset, ZERO), differences.get(asset, ZERO))
        for asset in {*held, *booked, *known}
    }
    for asset, seen in sorted(values.items()):
        row = known.get(asset)
        if row is None and not any(seen):
            continue
        origin = origin_of(asset, seen)
        if row is None:
            row = VenueHolding(venue=venue, account=account, asset=asset, since=now)
        changed = row.pk is None or row.origin != origin
        gone = row.origin == Origin.AUTO_DISCOVERED and row.quantity and not seen.quantity
        if changed:
            row.origin, row.since = origin, now
        row.quantity, row.booked, row.unexplained, row.seen_at = *seen, now
        row.save()
        if changed and origin in EVENTS:
            record(EVENTS[origin], row, **_facts(row))
        elif gone:
            record("position.gone", row, **_facts(row))


def _facts(row: VenueHolding) -> Mapping[str, Any]:
    return {
        "venue": row.venue, "account": row.account, "asset": row.asset, "quantity": plain(row.quantity),
        "booked": plain(row.booked), "unexplained": plain(row.unexplained),
    }  # fmt: skip
