"""What other systems receive of a batch of events."""

import json
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter

from agents.models import Deployment
from maxxit.bus import updates
from maxxit.bus.messages import Message
from maxxit.events import log
from maxxit.events.record import advance, record
from tests import builders as make
from tests.builders import T0, RecordedClock
from trading import gate

SHAPES: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(shape)
    for name, shape in {
        "order_submitted": updates.OrderSubmitted,
        "order_filled": updates.OrderFilled,
        "exposure_update": updates.ExposureUpdate,
        "pnl_update": updates.PnlUpdate,
        "ticker": updates.Ticker,
    }.items()
}


@pytest.fixture
def deployment(db: None, time: RecordedClock) -> Deployment:
    return make.deployment(make.agent())


def messages_after(before: int) -> list[Message]:
    """The messages of the events after `before`; each update must have its shape, and no more than that."""
    made = updates.messages(log.read(before, 2**62, 1_000))
    for one in made:
        if one.topic == "updates":
            assert SHAPES[one.name].validate_json(one.data, strict=True) == json.loads(one.data)
    return made


def data_of(made: list[Message], name: str) -> list[dict[str, Any]]:
    return [json.loads(one.data) for one in made if one.name == name]


def test_an_order_that_is_sent_and_filled(deployment: Deployment) -> None:
    order = make.order(deployment, quantity=Decimal("0.5"), client_order_id="mx-1")
    before = make.last_event()
    advance(order, "sending")
    advance(order, "filled", filled_quantity=Decimal("0.5"), average_price=Decimal("2000.10"))
    made = messages_after(before)

    facts = {
        "order_id": order.pk,
        "client_order_id": "mx-1",
        "deployment_id": deployment.pk,
        "product_id": "ETH-USD",
        "side": "buy",
        "size": "0.5",
    }
    assert data_of(made, "order_submitted") == [facts]
    assert data_of(made, "order_filled") == [facts | {"price": "2000.1", "status": "filled"}]
    events = [one for one in made if one.topic == "events"]
    assert [one.name for one in events] == ["order.sending", "execution.completed"]
    assert {one.symbol for one in events} == {"ETH"}
    [submitted] = [one for one in made if one.name == "order_submitted"]
    assert submitted.event_id == f"{events[0].event_id}:order_submitted"
    assert submitted.key == str(order.correlation_id)


def test_exposure_is_signed_and_stated_once_for_each_product_of_a_deployment(deployment: Deployment) -> None:
    before = make.last_event()
    make.price("ETH", "2100")
    position = make.position(deployment, quantity=Decimal(2))
    other = make.deployment(make.agent())
    short = make.position(other, side="short", quantity=Decimal(1))
    for row in (position, short):
        record("position.open", row)
        record("position.open", row)
    made = data_of(messages_after(before), "exposure_update")

    assert [(one["deployment_id"], one["exposure"]) for one in made] == [
        (deployment.pk, "4200"),
        (other.pk, "-2100"),
    ]
    assert made[0]["exposures"] == {"ETH-USD": "4200"}
    assert made[0]["open_orders"] == 0


def test_pnl_of_the_day_and_the_kill_switch(deployment: Deployment) -> None:
    closed = make.position(
        deployment, state="closed", closed_at=T0, realised_pnl=Decimal("12.5"), closed_quantity=Decimal(1)
    )
    before = make.last_event()
    record("position.closed", closed)
    gate.kill("no_entries", by="test", reason="test")
    made = data_of(messages_after(before), "pnl_update")

    assert made[0] == {"deployment_id": deployment.pk, "daily_pnl": "12.5", "kill_switch": "no_entries"}
    assert made[-1] == {"daily_pnl": "12.5", "kill_switch": "no_entries"}


def test_a_kill_switch_of_one_account_names_it(deployment: Deployment) -> None:
    before = make.last_event()
    gate.kill("reduce_only", by="test", reason="test", account=deployment.account)

    [made] = data_of(messages_after(before), "pnl_update")
    assert made == {"account": deployment.account, "daily_pnl": "0", "kill_switch": "reduce_only"}


def test_a_position_that_is_not_there_is_no_kill_switch(deployment: Deployment) -> None:
    """Its event is passed on, and states no PnL."""
    position = make.position(deployment)
    position.pk = 0
    before = make.last_event()
    record("position.closed", position)
    assert [one.name for one in messages_after(before)] == ["position.closed"]


def test_a_ticker_is_made_once_for_each_new_quote(deployment: Deployment, time: RecordedClock) -> None:
    known: dict[str, str] = {}
    make.price("ETH", "2000.50")
    [first] = updates.tickers(known)
    again = updates.tickers(known)
    time.move(seconds=1)
    make.price("ETH", "2001")
    [second] = updates.tickers(known)

    assert json.loads(first.data) == {"product_id": "ETH-USD", "price": "2000.5"}
    assert SHAPES["ticker"].validate_json(first.data, strict=True)
    assert again == []
    assert json.loads(second.data)["price"] == "2001"
    assert first.event_id != second.event_id


def test_the_envelope(deployment: Deployment) -> None:
    signal = make.signal(deployment.agent)
    before = make.last_event()
    advance(signal, "skipped", why='a "quoted" reason')
    [message] = messages_after(before)
    sent = json.loads(message.as_json())

    assert sent == {
        "event_id": message.event_id,
        "name": "signal.skipped",
        "ts": "2026-03-02T12:00:00.000000Z",
        "source": "maxxit",
        "schema_version": 1,
        "subject": f"signals_app.signal/{signal.pk}",
        "correlation_id": str(signal.correlation_id),
        "symbol": "ETH",
        "idempotency_key": "ETH:2026-03-02T12:00:00.000000Z:signal.skipped",
        "data": {"old": "pending", "why": 'a "quoted" reason'},
    }


def test_a_batch_costs_the_same_number_of_queries_whatever_its_size(
    deployment: Deployment, django_assert_max_num_queries: Any
) -> None:
    before = make.last_event()
    for _ in range(20):
        order = make.order(deployment)
        advance(order, "sending")
        record("position.open", make.position(deployment))
    events = log.read(before, 2**62, 1_000)
    with django_assert_max_num_queries(6):
        updates.messages(events)
