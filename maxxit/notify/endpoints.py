"""Notification endpoints: set, remove and look up a user's address on a channel, and its signing secret."""

import hashlib
import hmac

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import QuerySet

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Endpoint


def secret_of(endpoint: Endpoint) -> str:
    """Return the signing secret. It changes with SECRET_KEY: inform receivers when that is rotated."""
    key = hmac.new(settings.SECRET_KEY.encode(), f"endpoint:{endpoint.salt}".encode(), hashlib.sha256)
    return f"mxw_{key.hexdigest()}"


@transaction.atomic
def set_endpoint(user: AbstractBaseUser, channel: str, address: str) -> Endpoint:
    """Set the address of `user` on `channel`. Raises Rejected for an address that can never be sent to."""
    _known(channel)
    adapter = CHANNELS.open(channel)
    if adapter.address_field is None:
        raise Rejected(f"{channel} needs no address", code="no_address")
    adapter.check(address)
    _active(user, channel).update(active=False)
    endpoint = Endpoint.objects.create(
        user_id=user.pk, channel=channel, address=address, created_at=clock.now()
    )
    record("endpoint.named", endpoint, channel=channel)
    return endpoint


@transaction.atomic
def forget(user: AbstractBaseUser, channel: str) -> bool:
    """Remove the endpoint of `user`; return False when there is none. Pending deliveries become dead letters."""
    _known(channel)
    endpoint = _active(user, channel).select_for_update().first()
    if endpoint is None:
        return False
    _active(user, channel).update(active=False)
    record("endpoint.forgotten", endpoint, channel=channel)
    return True


def require(user: AbstractBaseUser, channel: str) -> None:
    """Raise Rejected, naming the fix, when `user` has no endpoint on `channel`."""
    _known(channel)
    if CHANNELS.open(channel).address_field is None:
        return
    if not _active(user, channel).exists():
        raise Rejected(
            f"{user.get_username()} has no {channel} address: set one on the page Notifications, with "
            f"`manage.py rules endpoint --user … --channel {channel} --address …` or PUT /api/market/endpoints",
            code="no_endpoint",
        )


def address_of(user: AbstractBaseUser, channel: str) -> tuple[str, str]:
    """Return (address, secret) of `user` on `channel`, empty where it needs none. Raises Rejected when removed."""
    if CHANNELS.open(channel).address_field is None:
        return "", ""
    endpoint = current(user, channel)
    if endpoint is None:
        raise Rejected(f"{user.get_username()} has removed their {channel} endpoint", code="no_endpoint")
    return endpoint.address, secret_of(endpoint)


def current(user: AbstractBaseUser, channel: str) -> Endpoint | None:
    """Return the active endpoint of `user` on `channel`, or None."""
    return _active(user, channel).first()


def _active(user: AbstractBaseUser, channel: str) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(user_id=user.pk, channel=channel, active=True)


def _known(channel: str) -> None:
    if channel not in CHANNELS.known:
        raise Rejected(
            f"no channel {channel!r}; known: {', '.join(sorted(CHANNELS.known))}", code="unknown_channel"
        )
