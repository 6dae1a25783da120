"""The double of GMX v2 against the recording of GMX's own contracts: same calls, same events, same numbers.

What deviates, and why:

* `sender`, the first word of an event's data: GMX emits what happens to markets and positions from its handlers and
  their libraries, the double from its engine; a liquidation's OrderCreated and OrderExecuted come from the double's
  OrderHandler. Nothing of ours reads it.
* KeeperExecutionFee and ExecutionFeeRefund: the double needs other gas than GMX. Their sum, the order's fee, is equal.
* Transfers of WNT when an order is created: in the recording the model module wraps and sends it within the step.

Everything else is equal to the last digit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world
from tests.chain.gmx.replay import KINDS, START, Callback, Replay, TypedEvent, callbacks
from tests.trading.venues.gmx.recorded import ADDRESSES, steps
from trading.venues.gmx.events import ExecutionFeeRefund, KeeperExecutionFee, decode_logs

pytestmark = pytest.mark.chain

STEPS = [pytest.param(number, id=step["step"]) for number, step in enumerate(steps())]
FEES = {"executionFeeAmount", "refundFeeAmount"}
EXECUTED_BY_ENGINE = {
    *("FundingFeeAmountPerSizeUpdated", "ClaimableFundingAmountPerSizeUpdated", "Funding", "Borrowing"),
    "CumulativeBorrowingFactorUpdated",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One repeated step: the double's receipt and callbacks beside the recorded ones."""

    receipt: dict[str, Any]
    ours: list[TypedEvent]
    expected: list[TypedEvent]
    callbacks: list[Callback]
    expected_callbacks: list[Callback]


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with start_anvil(begins=datetime.fromtimestamp(START - 3_600, UTC)) as node:
        yield Replay(build_world(node.url))


@pytest.fixture(scope="module")
def repeated(replay: Replay) -> list[Step]:
    """All steps, in order, on one chain."""
    done = []
    for number in range(len(steps())):
        receipt = replay.run(number)
        done.append(
            Step(
                receipt,
                replay.ours(receipt),
                replay.expected(number),
                callbacks(replay.rpc, receipt),
                replay.expected_callbacks(number),
            )
        )
    return done


def test_the_whole_recording_is_repeated(repeated: list[Step]) -> None:
    assert len(repeated) == 20
    assert sum(len(step.ours) for step in repeated) == sum(len(step["events"]) for step in steps())


@pytest.mark.parametrize("number", STEPS)
def test_events_have_the_recorded_names_topics_and_items(repeated: list[Step], number: int) -> None:
    step = repeated[number]
    assert [event.name for event in step.ours] == [event.name for event in step.expected]
    for ours, expected in zip(step.ours, step.expected, strict=True):
        assert ours.topics == expected.topics
        assert [item[:2] for item in ours.items] == [item[:2] for item in expected.items], ours.name


@pytest.mark.parametrize("number", STEPS)
def test_every_value_is_the_recorded_one(repeated: list[Step], number: int) -> None:
    step = repeated[number]
    for ours, expected in zip(step.ours, step.expected, strict=True):
        for one, other in zip(ours.items, expected.items, strict=True):
            assert one[1] in FEES or one == other, ours.name


@pytest.mark.parametrize("number", STEPS)
def test_one_decoder_reads_both(replay: Replay, repeated: list[Step], number: int) -> None:
    ours = replay.decoded(repeated[number].receipt)
    recorded = decode_logs(steps()[number]["logs"], ADDRESSES["EventEmitter"])
    assert ours.problems == recorded.problems == ()
    assert [(event.name, sorted(event.fields)) for event in ours.events] == [
        (event.name, sorted(event.fields)) for event in recorded.events
    ]


@pytest.mark.parametrize("number", STEPS)
def test_execution_fees_are_divided_between_keeper_and_receiver(
    replay: Replay, repeated: list[Step], number: int
) -> None:
    ours = replay.decoded(repeated[number].receipt)
    recorded = decode_logs(steps()[number]["logs"], ADDRESSES["EventEmitter"])
    sums = [
        [
            one.execution_fee_amount + other.refund_fee_amount
            for one, other in zip(found.of(KeeperExecutionFee), found.of(ExecutionFeeRefund), strict=True)
        ]
        for found in (ours, recorded)
    ]
    assert sums[0] == sums[1]


@pytest.mark.parametrize("number", STEPS)
def test_tokens_move_as_recorded(replay: Replay, repeated: list[Step], number: int) -> None:
    wnt = replay.gmx.wrapped_native
    ours = replay.transfers(repeated[number].receipt["logs"], recorded=False)
    expected = replay.transfers(steps()[number]["logs"], recorded=True)
    usdc = [[one for one in found if one[0] != wnt] for found in (ours, expected)]
    assert usdc[0] == usdc[1]
    if not steps()[number]["step"].endswith("created") and repeated[number].callbacks:
        paths = [[one[:3] for one in found] for found in (ours, expected)]
        assert paths[0] == paths[1]


@pytest.mark.parametrize("number", STEPS)
def test_callbacks_tell_what_the_recorded_ones_told(repeated: list[Step], number: int) -> None:
    step = repeated[number]
    assert step.callbacks == step.expected_callbacks


def test_only_the_engine_and_the_order_handler_stand_in_as_senders(
    replay: Replay, repeated: list[Step]
) -> None:
    gmx = replay.gmx
    deviating = {
        (event.name, event.sender, expected.sender)
        for step in repeated
        for event, expected in zip(step.ours, step.expected, strict=True)
        if event.sender != expected.sender
    }
    handlers = {gmx.order_handler, gmx.liquidation_handler}
    assert {sender for _, sender, _ in deviating} == {gmx.engine, gmx.order_handler}
    assert {recorded for _, _, recorded in deviating} <= handlers
    assert {name for name, sender, _ in deviating if sender == gmx.engine} == EXECUTED_BY_ENGINE
    assert {name for name, sender, _ in deviating if sender == gmx.order_handler} == {
        "OrderCreated",
        "OrderExecuted",
    }
    assert set(KINDS) >= {
        kind.removesuffix("[]") for step in repeated for e in step.ours for kind, _, _ in e.items
    }
