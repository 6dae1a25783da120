"""Each account belongs to one shard, in placing, settling and booking alike."""

import pytest

from positions import book
from positions.models import Position
from tests import builders as make
from tests.trading.conftest import Trader
from trading import tasks
from trading.models import Order
from trading.shards import Shard
from trading.venues.paper import PaperVenue

COUNT = 4


@pytest.mark.parametrize("venue", ["paper", "safe"])
def test_each_account_is_in_one_shard_and_accounts_that_are_signed_for_in_the_first(
    trader: Trader, venue: str
) -> None:
    agent = make.agent(venue=venue)
    made = {make.order(make.booked_deployment(agent), by=make.signal(agent)).pk for _ in range(40)}
    parts = [
        set(Shard(index, COUNT).of(Order.objects.all()).values_list("pk", flat=True))
        for index in range(COUNT)
    ]

    assert set.union(*parts) == made
    assert sum(map(len, parts)) == len(made)
    filled = [bool(part) for part in parts]
    assert filled == ([True] * COUNT if venue == "paper" else [True, False, False, False])


def test_the_shards_together_do_the_work_of_one(trader: Trader, use_venue: object) -> None:
    use_venue(PaperVenue(slippage_bps=0, fee_bps=0, depth_usd=10_000))  # type: ignore[operator]
    for _ in range(20):
        make.booked_deployment(trader.agent)
    trader.signal()
    sent = [tasks.entry_pass(Shard(index, COUNT)).detail["sent"] for index in range(COUNT)]
    booked = [book.book(Shard(index, COUNT))[0] for index in range(COUNT)]

    assert sent == booked
    assert sum(sent) == Position.objects.count() == Order.objects.filter(state="filled").count() == 21
    assert min(sent) > 0
