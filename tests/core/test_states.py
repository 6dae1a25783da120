"""Every state machine of the project, as tables."""

from enum import StrEnum
from typing import Any

import pytest
from django.apps import apps
from hypothesis import given
from hypothesis import strategies as st

from agents.states import AGENT, DEPLOYMENT, AgentState, DeploymentState
from maxxit.core.errors import IllegalMove
from maxxit.core.states import Moves, check_move
from maxxit.learning.states import TRAINED_MODEL, ModelState
from maxxit.notify.states import DELIVERY, DeliveryState
from maxxit.replay.states import PREVIEW, PreviewState
from positions.states import POSITION, PositionState
from signals_app.states import POST, SIGNAL, PostState, SignalState
from trading.billing.states import BILLING, BillingState
from trading.chain.states import TRANSACTION, TxState
from trading.credentials.states import REQUEST, RequestState
from trading.states import CHANGE_REQUEST, IN_FLIGHT, ORDER, OrderState
from trading.states import RequestState as ChangeState

MACHINES: dict[str, tuple[Any, type[StrEnum], str, set[str]]] = {
    "agent": (AGENT, AgentState, AgentState.DRAFT, set[str]()),
    "deployment": (DEPLOYMENT, DeploymentState, DeploymentState.DRAFT, {"revoked"}),
    "post": (POST, PostState, PostState.NEW, {"prefiltered", "classified"}),
    "signal": (SIGNAL, SignalState, SignalState.PENDING, {"executed", "skipped", "expired"}),
    "order": (
        ORDER,
        OrderState,
        OrderState.PLANNED,
        {"blocked", "filled", "canceled", "rejected", "expired", "replaced"},
    ),
    "position": (POSITION, PositionState, PositionState.OPEN, {"closed"}),
    "delivery": (DELIVERY, DeliveryState, DeliveryState.PENDING, {"sent"}),
    "billing event": (BILLING, BillingState, BillingState.DUE, {"charged", "waived"}),
    "request of keys": (REQUEST, RequestState, RequestState.WAITING, {"accepted", "refused", "replaced"}),
    "change request": (
        CHANGE_REQUEST,
        ChangeState,
        ChangeState.REQUESTED,
        {"applied", "refused", "withdrawn", "expired", "stale"},
    ),
    "preview": (PREVIEW, PreviewState, PreviewState.QUEUED, {"done", "failed", "canceled"}),
    "trained model": (TRAINED_MODEL, ModelState, ModelState.CANDIDATE, set[str]()),
    "transaction": (
        TRANSACTION,
        TxState,
        TxState.PLANNED,
        {"final", "reverted", "replaced", "dropped", "canceled"},
    ),
}
every = pytest.mark.parametrize(("moves", "states", "first", "ends"), MACHINES.values(), ids=MACHINES.keys())


def test_every_machine_of_the_project_is_here() -> None:
    tables = [model.MOVES for model in apps.get_models() if hasattr(model, "MOVES")]

    assert len(tables) >= len(MACHINES)
    assert all(any(table is known for known, *_ in MACHINES.values()) for table in tables)


@every
def test_the_table_knows_every_state_and_no_other(
    moves: Moves, states: type[StrEnum], first: str, ends: set[str]
) -> None:
    assert set(moves) == set(states)
    assert set().union(*moves.values()) <= set(states)


@every
def test_every_state_can_be_reached(moves: Moves, states: type[StrEnum], first: str, ends: set[str]) -> None:
    reached, edge = {first}, {first}
    while edge:
        edge = set().union(*(moves[state] for state in edge)) - reached
        reached |= edge

    assert reached == set(states)


@every
def test_only_the_ends_are_terminal(moves: Moves, states: type[StrEnum], first: str, ends: set[str]) -> None:
    assert {state for state in states if not moves[state]} == ends


@every
def test_no_state_moves_to_itself(moves: Moves, states: type[StrEnum], first: str, ends: set[str]) -> None:
    assert [state for state in moves if state in moves[state]] == []


@given(st.sampled_from(sorted(MACHINES)), st.text(max_size=12), st.text(max_size=12))
def test_a_move_that_is_not_in_the_table_is_refused(machine: str, old: str, new: str) -> None:
    moves = MACHINES[machine][0]
    if new in moves.get(old, ()):
        check_move(moves, old, new)
    else:
        with pytest.raises(IllegalMove):
            check_move(moves, old, new)


def test_what_is_in_flight_can_still_end_in_every_way_a_venue_knows() -> None:
    for state in IN_FLIGHT:
        assert ORDER[state] >= {"filled", "canceled", "rejected", "expired", "replaced"}


def test_an_order_that_left_never_becomes_planned_or_blocked_again() -> None:
    for state in set(OrderState) - {OrderState.PLANNED}:
        assert not ORDER[state] & {"planned", "blocked", "sending"}
