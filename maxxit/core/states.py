"""State machines as tables: state -> allowed next states. The tables are in each app's `states.py`."""

from collections.abc import Mapping

from maxxit.core.errors import IllegalMove

Moves = Mapping[str, frozenset[str]]


def check_move(moves: Moves, old: str, new: str) -> None:
    """Raise `IllegalMove` unless the table allows old -> new."""
    if new not in moves.get(old, frozenset()):
        allowed = ", ".join(sorted(moves.get(old, ()))) or "none"
        raise IllegalMove(f"{old} -> {new} is not an allowed transition; from {old}: {allowed}")
