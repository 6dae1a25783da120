"""The keys of a deployment's account at its venue, as its owner may see them: never the keys."""

from dataclasses import dataclass
from typing import Any

from agents.models import Deployment
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Misconfigured
from trading.credentials import requests, store
from trading.credentials.models import CredentialRequest, VenueCredential
from trading.credentials.states import RequestState
from trading.venues.base import KeyCard
from trading.wiring import venue

LABELS = {
    "key_id": "Key id",
    "secret": "Secret",
    "agent_key": "Private key of the agent",
    "address": "Address",
}


def label_of(field: str) -> str:
    """Return what people call a field."""
    return LABELS.get(field, field.replace("_", " ").capitalize())


def needs_keys(venue_name: str) -> bool:
    """Return whether customers bring keys for their accounts at the venue; False for one that cannot be opened."""
    try:
        return bool(venue(venue_name).credential_fields)
    except Misconfigured:
        return False


@dataclass(frozen=True, slots=True)
class VenueKeys:
    """What is stored of an account, and what became of the newest request."""

    venue: str
    fields: tuple[str, ...]
    stored: VenueCredential | None
    request: CredentialRequest | None
    card: KeyCard | None = None
    """What a key allows, for venues that describe it."""

    @property
    def waiting(self) -> bool:
        """Whether a worker has not answered yet."""
        return self.request is not None and self.request.state == RequestState.WAITING

    @property
    def refusal(self) -> str:
        """Why the newest request was refused; empty where it was not."""
        refused = self.request is not None and self.request.state == RequestState.REFUSED
        return self.request.message if self.request and refused else ""

    def as_json(self) -> dict[str, Any]:
        """For the API: never a key."""
        stored, request = self.stored, self.request
        return {
            "venue": self.venue,
            "wants": list(self.fields),
            "stored": None
            if stored is None
            else {
                "hint": stored.hint,
                "permissions": list(stored.permissions),
                "venue_account": stored.shown_account,
                "stored_by": stored.stored_by,
                "stored_at": iso_utc(stored.stored_at),
                "tested_at": iso_utc(stored.tested_at) if stored.tested_at else None,
            },
            "request": None
            if request is None
            else {
                "id": request.pk,
                "status": request.state.upper(),
                "test": request.only_test,
                "hint": request.hint,
                "message": request.message,
                "permissions": list(request.permissions),
                "asked_by": request.asked_by,
                "asked_at": iso_utc(request.asked_at),
                "finished_at": iso_utc(request.finished_at) if request.finished_at else None,
            },
        }


def keys_of(deployment: Deployment) -> VenueKeys:
    """Return the state of a deployment's keys."""
    name, account = deployment.agent.venue, deployment.account
    return VenueKeys(
        name,
        requests.fields_of(deployment),
        store.credential_of(name, account),
        requests.newest(name, account),
        venue(name).key_card(),
    )
