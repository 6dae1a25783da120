"""A state machine is a table: state -> the states it may move to. The tables stand in each app's `states.py`."""

from collections.abc import Mapping

from maxxit.core.errors import IllegalMove

Moves = Mapping[str, frozenset[str]]


def check_move(moves: Moves, old: str, new: str) -> None:
    """Raise `IllegalMove` unless the table allows old -> new."""
    if new not in moves.get(old, frozenset()):
        raise IllegalMove(f"{old} -> {new} is not a move; from {old}: {sorted(moves.get(old, ()))}")
