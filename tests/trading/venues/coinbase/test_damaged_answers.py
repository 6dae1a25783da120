"""Answers of Coinbase with one part damaged: no other error than those that the venue interface names."""

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from maxxit.core.errors import Rejected, Retryable, Unknown
from tests.trading.venues.coinbase.server import Server
from tests.trading.venues.coinbase.test_orders import ACCOUNT, BUY
from tests.trading.venues.coinbase.world import KnownKeys
from trading.venues.base import Report

D = Decimal
DAMAGED: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    "",
    "?",
    "0",
    "NaN",
    "Infinity",
    "-0.5",
    "1e9999",
    [],
    {},
    ["?"],
    {"value": "?"},
)


def damage(answer: Any, chance: Random) -> Any:
    """Return the answer with one part of it replaced or left out; sometimes the whole."""
    if isinstance(answer, dict) and answer and chance.random() < 0.95:
        name = chance.choice(list(answer))
        if chance.random() < 0.1:
            return {key: value for key, value in answer.items() if key != name}
        return {**answer, name: damage(answer[name], chance)}
    if isinstance(answer, list) and answer and chance.random() < 0.9:
        place = chance.randrange(len(answer))
        return [*answer[:place], damage(answer[place], chance), *answer[place + 1 :]]
    return chance.choice(DAMAGED)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_answer_is_no_answer_and_no_other_error(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A read is a report, nothing or a refusal; a write that was taken is Unknown or taken, never refused."""
    chance = Random(seed)
    whole = venue.client._request
    fake.exchange.depth = D("0.05")
    fake.exchange.portfolio(ACCOUNT).held["USD"] = D(10**9)
    for number in range(12):
        request = replace(BUY, client_order_id=f"mx-{seed}-{number}")
        prepared, keys = venue.prepare(request), venue._keys(ACCOUNT)

        def damaged(*arguments: Any, **options: Any) -> Any:
            return damage(whole(*arguments, **options), chance)

        with monkeypatch.context() as patch:
            patch.setattr(venue.client, "_request", damaged)
            with suppress(Unknown):
                venue.send(prepared)
            reads = (
                lambda: venue.find(prepared.ref),  # noqa: B023
                lambda: KnownKeys(fake).find(prepared.ref),  # noqa: B023
                lambda: venue.cancel(prepared.ref),  # noqa: B023
                lambda: venue.balances(ACCOUNT),
                lambda: KnownKeys(fake).problem(1, ACCOUNT, "BTC", "open"),
                lambda: venue._preview(keys, "BTC", "buy", D(100), D(50_000)),  # noqa: B023
                lambda: venue.access.key_access(keys),  # noqa: B023
            )
            for read in reads:
                with suppress(Retryable, Rejected):
                    read()
    assert isinstance(KnownKeys(fake).find(prepared.ref), Report)
