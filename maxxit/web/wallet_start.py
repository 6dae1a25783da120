"""The choice of money in the wizard `Start`: paper, the customer's wallet, or their account at a broker or exchange."""

from django import forms
from django.conf import settings
from django.http import HttpRequest

from maxxit.market.venues import venues
from maxxit.reports.owners.venue_keys import needs_keys
from trading.deployments.wallet_setup import SafeVenueChoice, venue_choices

PAPER = "paper"


def safe_choices(request: HttpRequest) -> list[SafeVenueChoice]:
    """Return the venues that trade from customers' Safes; the chain of the chosen one is asked whether it answers."""
    return venue_choices(local=not settings.PRODUCTION, ask=request.POST.get("money", ""))


def account_choices() -> list[tuple[str, str]]:
    """Return (venue, label) of each broker or exchange where customers bring keys of their accounts."""
    return [
        (name, f"With my account at {name.title()}{', play money' if stanza.paper else ''}")
        for name, stanza in venues().items()
        if needs_keys(name)
    ]


def money_field(choices: list[SafeVenueChoice], accounts: list[tuple[str, str]]) -> forms.ChoiceField:
    """Return the field: paper, each venue of Safes, and each of `account_choices`."""
    safes = [(choice.name, _label(choice)) for choice in choices]
    return forms.ChoiceField(
        label="Money",
        required=False,
        initial=PAPER,
        choices=[(PAPER, "On paper: play money at real prices"), *safes, *accounts],
        widget=forms.RadioSelect,
        error_messages={
            "invalid_choice": "This is no choice here: choose paper, a wallet or an account above."
        },
    )


def _label(choice: SafeVenueChoice) -> str:
    perps = f": perpetual futures at GMX with up to {choice.leverage.normalize():f}x leverage"
    return f"With my wallet, on {choice.chain}{perps if choice.leverage > 1 else ''}"


def problem_of(choices: list[SafeVenueChoice], name: str) -> str:
    """Return why the venue `name` cannot be chosen now, in a sentence; empty where it can."""
    for choice in choices:
        if choice.name == name and choice.problem:
            return f"A wallet on {choice.chain} cannot be used now: {choice.problem}. Try again later, or choose paper."
    return ""


def is_paper(name: str) -> bool:
    """Return whether the venue trades play money."""
    return venues()[name].paper
