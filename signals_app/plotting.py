"""Matplotlib figures for reports. Matplotlib is a development requirement: nothing at run time needs it."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from maxxit.core.errors import Misconfigured

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require_matplotlib() -> None:
    """Raise Misconfigured with the fix where plots cannot be drawn: call it before long work."""
    if find_spec("matplotlib") is None:
        raise Misconfigured("--plot needs matplotlib, which `make install` brings; or leave --plot out")


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
