"""The choice of money in the wizard `Start`: play money on paper, or the customer's wallet at a venue of Safes."""

from typing import Any

from django import forms
from django.conf import settings

from maxxit.market.venues import venues
from trading.deployments.wallet_setup import SafeVenueChoice, venue_choices

PAPER = "paper"


def safe_choices() -> list[SafeVenueChoice]:
    """Return the venues that trade from customers' Safes, each with why it cannot be used now."""
    return venue_choices(local=not settings.PRODUCTION)


def money_field(choices: list[SafeVenueChoice]) -> forms.ChoiceField:
    """Return the field: paper, and each venue whose chain answers."""
    usable = [(one.name, f"With my wallet, on {one.chain}") for one in choices if not one.problem]
    return forms.ChoiceField(
        label="Money",
        required=False,
        initial=PAPER,
        choices=[(PAPER, "On paper: play money at real prices"), *usable],
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": "This way cannot be chosen now: its chain does not answer."},
    )


def is_paper(name: str) -> bool:
    """Return whether the venue trades play money."""
    return venues()[name].paper


def problems(choices: list[SafeVenueChoice]) -> list[dict[str, Any]]:
    """Return the venues that cannot be chosen now, for a note."""
    return [{"chain": one.chain, "problem": one.problem} for one in choices if one.problem]
