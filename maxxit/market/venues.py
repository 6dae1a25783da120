"""Typed settings of `config/venues.yaml`: venues and their capabilities. The adapters are in `trading.venues`."""

from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from maxxit.core.config import Policy, load
from maxxit.core.errors import Misconfigured

SAFE_ADAPTERS = frozenset({"gmx", "safe"})
"""Adapters that trade from users' own Safes: perpetual futures at GMX, and spot. Their modules collect the fees."""


class VenuePolicy(Policy):
    """One venue."""

    adapter: str
    shorts: bool
    max_leverage: Annotated[Decimal, Field(ge=1, le=50)]
    paper: bool
    cash: Literal["USDC", "USD"] = "USDC"
    """The asset that its accounts trade tokens for."""
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_spot(self) -> bool:
        """Return whether the venue has no leverage; stops and targets then follow the spot rules."""
        return self.max_leverage == 1

    @property
    def uses_safes(self) -> bool:
        """Return whether its accounts are users' own Safes."""
        return self.adapter in SAFE_ADAPTERS


class _Venues(RootModel[dict[str, VenuePolicy]]):
    pass


@cache
def venues() -> dict[str, VenuePolicy]:
    """Return every configured venue by name."""
    return load("venues", _Venues).root


def venue_policy(name: str) -> VenuePolicy:
    """Return the venue's settings. Raises `Misconfigured` with the known names."""
    try:
        return venues()[name]
    except KeyError:
        known = ", ".join(sorted(venues()))
        raise Misconfigured(f"{name!r} is not in config/venues.yaml; known: {known}") from None
