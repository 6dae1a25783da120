"""Orders of many Safes are placed together: read in one request, sent side by side, each under a nonce of its own."""

from decimal import Decimal
from typing import Any

import pytest

from agents.models import Agent, Deployment
from maxxit.core import clock
from tests import builders as make
from tests.chain.sending.safe_trader import SafeTrader
from tests.passes import execute_pass, monitor_pass
from trading import ledger
from trading.chain.models import ChainTransaction, SafePlan
from trading.models import Order
from trading.venues.base import Question
from trading.venues.safe import verify

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]

D = Decimal
NO_SAFE = "0x" + "5A" * 20


def follow(agent: Agent, trader: SafeTrader, safe: str) -> Deployment:
    """A deployment whose plan the chain shows, with what the Safe holds booked."""
    world = trader.world
    SafePlan.objects.create(
        chain_id=world.chain_id, safe=safe, module=world.module, created_at=clock.now(), verified_at=clock.now(),
        **verify.as_plan(world.policy(), world.rules()),
    )  # fmt: skip
    deployment = make.booked_deployment(agent, account=safe)
    deployment.safe_wallet, deployment.module_address = safe, world.module
    deployment.chain_id, deployment.module_enabled, deployment.verified_at = world.chain_id, True, clock.now()
    deployment.save()
    return deployment


@pytest.fixture
def agent(trader: SafeTrader) -> Agent:
    """Its token has a price, and calm hours behind it."""
    price = trader.world.price("WETH")
    make.price("ETH", str(price))
    make.hourly_bars("ETH", make.calm(float(price)), until=clock.now())
    return make.agent(venue="safe")


def test_many_safes_enter_and_leave_together(trader: SafeTrader, agent: Agent) -> None:
    safes = [trader.world.safe, trader.lab.another_safe(), trader.lab.another_safe()]
    followers = [follow(agent, trader, safe) for safe in safes]
    make.signal(agent, usd=str(trader.world.price("WETH")), bucket=clock.now())

    execute_pass()
    entries = Order.objects.filter(purpose="open").order_by("pk")
    assert [(order.account, order.state, order.reason) for order in entries] == [
        (one.account, "filled", "") for one in followers
    ]
    monitor_pass()
    make.price("ETH", str(trader.world.price("WETH") / 2))
    monitor_pass()
    execute_pass()

    exits = Order.objects.filter(purpose="close")
    assert sorted(order.account for order in exits if order.state == "filled") == sorted(safes)
    sent = ChainTransaction.objects.order_by("nonce")
    first = sent[0].nonce
    assert first is not None
    assert [tx.nonce for tx in sent] == list(range(first, first + 6))
    assert not ledger.drift()


def test_the_safes_of_a_batch_are_read_in_one_request(trader: SafeTrader, agent: Agent) -> None:
    safes = [trader.world.safe, *(trader.lab.another_safe() for _ in range(4))]
    followers = [follow(agent, trader, safe) for safe in safes]
    questions = [Question(one.pk, one.account, "ETH", "buy", "open", D(100)) for one in followers]
    chain, calls = trader.venue.chain, list[str]()
    read = chain.call

    def counted(to: str, *rest: Any, **more: Any) -> bytes:
        calls.append(to)
        return read(to, *rest, **more)

    chain.call = counted  # type: ignore[method-assign]

    answers = trader.venue.answers(questions)

    assert [answer.problem for answer in answers] == [""] * 5
    assert len({answer.expected_price for answer in answers}) == 1
    assert calls == [chain.multicall, trader.world.quoter], "the Safes, then the pool that all of them use"


def test_an_account_that_is_no_safe_leaves_the_others_their_answers(trader: SafeTrader, agent: Agent) -> None:
    followers = [
        follow(agent, trader, safe) for safe in (trader.world.safe, NO_SAFE, trader.lab.another_safe())
    ]
    questions = [
        *(Question(one.pk, one.account, "ETH", "buy", "open", D(100)) for one in followers),
        Question(followers[0].pk, followers[0].account, "ETH", "sell", "open", D(100)),
        Question(followers[0].pk, followers[0].account, "DOGE", "buy", "open", D(100)),
        Question(followers[0].pk, followers[0].account, "ETH", "sell", "close", D(100)),
    ]

    problems = [answer.problem for answer in trader.venue.answers(questions)]

    assert problems == ["", None, "", "shorts_not_supported", "token_not_listed", ""]
    assert trader.venue.answers(questions[:1])[0].expected_price == trader.venue.expected_price(
        trader.world.safe, "ETH", "buy", D(100)
    )
