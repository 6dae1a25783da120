"""One cycle over 1,000 open orders at the fake of Alpaca: requests of each account, and seconds.

    python -m tests.bench.reconcile [--orders 1000] [--accounts 50]

In a scratch database: the orders spread over `--accounts` accounts, then all of them in one account. The fake refuses
more than 200 requests a minute of one account, as Alpaca does. Asserts that every order was found and none was refused,
never how long it took.
"""

import argparse
import json
import logging
import os
from datetime import timedelta
from decimal import Decimal
from time import perf_counter
from typing import Any

import django
import structlog

ALPACA_A_MINUTE = 200


def main() -> None:
    """Print a line for each spread."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--accounts", type=int, default=50)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    django.setup()
    from maxxit.embedded.scratch import scratch_database
    from maxxit.events import wake

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with scratch_database(durable=True), wake.collected():
        print(
            f"{'open orders':>12}{'accounts':>10}{'cycle (s)':>11}{'requests':>10}{'most of one':>13}{'found':>8}"
        )
        for accounts in dict.fromkeys((options.accounts, 1)):
            print(_cycle(options.orders, accounts))


def _cycle(orders: int, accounts: int) -> str:
    """Open the orders at the fake, reconcile them in one cycle, and return the line."""
    from django.db import connection

    from tests import builders as make
    from tests.trading.venues.alpaca.world import KnownKeys, fresh
    from trading import wiring
    from trading.models import AccountCheck, Order
    from trading.reconciliation import cycle
    from trading.reconciliation.checks import Kind

    Order.objects.all().update(venue_ref="")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE orders SET state = 'canceled' WHERE state <> 'canceled'")
    AccountCheck.objects.all().delete()
    fake = fresh()
    fake.limit = ALPACA_A_MINUTE
    fake.broker.fills = False
    venue = KnownKeys(fake)
    venue.name = "paper"
    wiring.VENUES.open = lambda adapter, **given: venue  # type: ignore[method-assign]
    wiring.venue.cache_clear()
    agents = [make.agent() for _ in range(accounts)]
    deployments = [make.booked_deployment(agent) for agent in agents]
    for number in range(orders):
        _open(fake, venue, deployments[number % accounts], make, number)
    fake.requests.clear()
    fake.used.clear()
    began = perf_counter()
    numbers = cycle.run_now(kinds=[Kind.ORDERS])
    seconds = perf_counter() - began
    by_account: dict[str, int] = {}
    for request in fake.requests:
        by_account[request.key_id] = by_account.get(request.key_id, 0) + 1
    most = max(by_account.values())
    assert (numbers["pending_found"], numbers["errors"]) == (orders, 0), numbers
    assert most <= ALPACA_A_MINUTE, most
    found = numbers["pending_found"] - numbers["errors"]
    return f"{orders:>12,}{accounts:>10,}{seconds:>11.2f}{len(fake.requests):>10,}{most:>13,}{found:>8,}"


def _open(fake: Any, venue: Any, deployment: Any, make: Any, number: int) -> None:
    """One order that is open at the fake and here."""
    from maxxit.core import clock
    from trading.venues.base import Request

    account = fake.broker.account(deployment.account, cash=Decimal(10**9))
    deadline = clock.now() + timedelta(days=1)
    request = Request(
        f"mx-{deployment.pk}-{number}", deployment.account, "BTC", "buy", "open", Decimal("0.001"), Decimal(50_000),
        deadline,
    )  # fmt: skip
    prepared = venue.prepare(request)
    fake.broker.submit(account, json.loads(prepared.payload["body"]))
    make.order(
        deployment, by=make.signal(deployment.agent), symbol="BTC", state="accepted", venue_ref=prepared.ref,
        quantity=Decimal("0.001"), deadline=deadline,
    )  # fmt: skip


if __name__ == "__main__":
    main()
