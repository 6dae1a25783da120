"""The legs of brackets: what Alpaca says of them, and their cancellation.

A leg is `held` until the entry is completely filled; then one that fills or is canceled cancels its sibling. The owner
can replace a leg at Alpaca, so a leg is a chain of rows too.
"""

from collections.abc import Sequence

from maxxit.core.errors import Retryable
from trading.venues.alpaca.orders import ENDED, Row, filled_of, is_open
from trading.venues.alpaca.reader import Chain, Reader
from trading.venues.base import Leg
from trading.venues.broker import Ref

REASONS = {
    "limit": "take_profit",
    "stop": "stop_loss",
    "stop_limit": "stop_loss",
    "trailing_stop": "stop_loss",
}
"""Type of a leg -> exit reason."""
CANCELING = frozenset({"pending_cancel"})


def legs_of(reader: Reader, entry: Ref) -> tuple[Leg, ...]:
    """Return the exits that Alpaca keeps for an entry. Raises Retryable where it does not show them."""
    row, chains = _read(reader, entry)
    if not chains:
        if row["status"] in ENDED and row["status"] != "filled":
            return ()  # its legs were held to its end, so none filled
        raise Retryable(f"Alpaca shows no legs of the order {entry.client_order_id}")
    legs = {}
    for chain in chains:
        reason = REASONS.get(str(chain[0].get("type")))
        if reason is None or reason in legs:
            raise Retryable(f"Alpaca shows legs of the order {entry.client_order_id} that are not ours")
        ref = Ref(entry.account, str(chain[0]["client_order_id"]))
        legs[reason] = Leg(
            str(ref), reason, filled_of([chain[0]], "qty"), filled_of(chain), chain[-1]["status"] in ENDED
        )
    return tuple(legs.values())


def open_parts(reader: Reader, entry: Ref) -> list[str]:
    """Return the ids of the orders to cancel so that no exit of an entry is left: the entry itself, or its legs."""
    row, chains = _read(reader, entry)
    if is_open(row):
        return [] if row["status"] in CANCELING else [row["id"]]  # with it go its legs, which are held
    last = [chain[-1] for chain in chains]
    return [leg["id"] for leg in last if is_open(leg) and leg["status"] not in CANCELING]


def _read(reader: Reader, entry: Ref) -> tuple[Row, list[Chain]]:
    """Return the entry as it stands, and its legs, each with what replaced it."""
    row = reader.newest(entry.client_order_id)
    if row is None:
        raise Retryable(f"Alpaca does not find the order {entry.client_order_id}")
    rows: Sequence[Row] = row.get("legs") or reader.nested(row["id"]).get("legs") or ()
    followed = {leg["replaced_by"] for leg in rows if leg.get("replaced_by")}
    return row, [reader.whole_chain(leg) for leg in rows if leg["id"] not in followed]
