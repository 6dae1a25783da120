"""Act by numpy: the position that an agent takes at each row, and why it holds where it takes none of its own.

To hold is to name no side: nothing is opened for it, and what is open is left to the exits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import structlog

from maxxit.core.errors import InvalidInput
from maxxit.learning.features import DAY
from maxxit.learning.forecasters import Rows
from maxxit.learning.hours import Floats
from maxxit.learning.rl import network
from maxxit.learning.rl.parameters import Parameters, checked
from maxxit.learning.rl.tape import ACTIONS, standard, states
from maxxit.pipeline.interrupts import ends_the_pass

log = structlog.get_logger(__name__)


class Hold(StrEnum):
    """Why no action of the network was taken."""

    DAMAGED = "damaged_parameters"
    UNKNOWN_STATE = "unknown_state"
    """A feature of the newest hour is not known (NaN)."""
    NOT_FINITE = "not_finite"
    """The network's values are not finite numbers."""
    FAILED = "failed"
    """An exception, which is logged."""


@dataclass(frozen=True)
class Acted:
    """What an agent did at each row."""

    sides: Floats
    """−1 short, 0 none, +1 long."""
    held: tuple[Hold | None, ...]
    """Why it held; None where the side is the network's."""


def act(parameters: Mapping[str, Any], rows: Rows) -> Acted:
    """Return the side at each row. It never fails: on any error it holds, except where the error ends the pass.

    The position in the state is the one that the agent itself would have after its decisions of the last 24 hours,
    begun without one; so a live decision and one of the evaluation see the same.
    """
    try:
        return _act(checked(parameters), rows)
    except InvalidInput as error:
        log.warning("agent_holds", reason=Hold.DAMAGED, problems=error.problems)
        return _all_hold(rows, Hold.DAMAGED)
    except Exception as error:
        if ends_the_pass(error):
            raise
        log.exception("agent_holds", reason=Hold.FAILED)
        return _all_hold(rows, Hold.FAILED)


def _all_hold(rows: Rows, why: Hold) -> Acted:
    return Acted(np.zeros(len(rows)), (why,) * len(rows))


def decisions(known: Parameters, rows: Rows) -> Floats:
    """Return what the decisions of the last 24 hours saw, oldest first, shape (n, decisions, inputs), standardised."""
    windows = np.stack([rows.window(name, DAY + 1) for name, *_ in known.inputs], axis=-1)
    return standard(windows[:, ::-1][:, :: rows.horizon][:, ::-1], known.inputs)


def _act(known: Parameters, rows: Rows) -> Acted:
    layers, sides = known.layers(), np.zeros(len(rows))
    complete: Any = ()
    finite: Any = ()
    for seen in np.moveaxis(decisions(known, rows), 1, 0):
        complete = np.isfinite(seen).all(axis=1)
        values = network.forward(layers, known.activation, states(np.nan_to_num(seen), sides))
        finite = np.isfinite(values).all(axis=1)
        sides = np.where(complete & finite, np.array(ACTIONS, dtype=float)[np.argmax(values, axis=1)], 0.0)
    return Acted(sides, tuple(map(_reason, complete, finite)))


def _reason(complete: bool, finite: bool) -> Hold | None:
    if not complete:
        return Hold.UNKNOWN_STATE
    return None if finite else Hold.NOT_FINITE
