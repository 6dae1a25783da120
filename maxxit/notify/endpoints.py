"""Where a person wants to be told, and the secret that signs what is sent there."""

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
    """The signing secret. It changes with the project's key (DJANGO_SECRET_KEY): tell receivers when that rotates."""
    key = hmac.new(settings.SECRET_KEY.encode(), f"endpoint:{endpoint.salt}".encode(), hashlib.sha256)
    return f"mxw_{key.hexdigest()}"


@transaction.atomic
def set_endpoint(user: AbstractBaseUser, channel: str, address: str) -> Endpoint:
    """From now on `user` is told on `channel` at `address`. Raises Rejected for one that could never be sent to."""
    _known(channel)
    way = CHANNELS.open(channel)
    if not way.needs_address:
        raise Rejected(f"{channel} needs no address", code="no_address")
    way.check(address)
    _in_force(user, channel).update(active=False)
    made = Endpoint.objects.create(user_id=user.pk, channel=channel, address=address, created_at=clock.now())
    record("endpoint.named", made, channel=channel)
    return made


@transaction.atomic
def forget(user: AbstractBaseUser, channel: str) -> bool:
    """`user` is told there no more; false when there was none. Deliveries on their way become dead letters."""
    gone = _in_force(user, channel).select_for_update().first()
    if gone is None:
        return False
    _in_force(user, channel).update(active=False)
    record("endpoint.forgotten", gone, channel=channel)
    return True


def require(user: AbstractBaseUser, channel: str) -> None:
    """Raise Rejected, naming the fix, when `user` could not be told on `channel`."""
    _known(channel)
    if not CHANNELS.open(channel).needs_address:
        return
    if not _in_force(user, channel).exists():
        raise Rejected(
            f"{user.get_username()} has no {channel} yet: `manage.py rules webhook --user … --url https://…`, "
            "or PUT /api/market/webhook",
            code="no_endpoint",
        )


def address_of(user: AbstractBaseUser, channel: str) -> tuple[str, str]:
    """(address, secret) of `user` on `channel`, empty where it needs none. Raises Rejected where it is gone."""
    if not CHANNELS.open(channel).needs_address:
        return "", ""
    found = current(user, channel)
    if found is None:
        raise Rejected(f"{user.get_username()} has no {channel} any more", code="no_endpoint")
    return found.address, secret_of(found)


def current(user: AbstractBaseUser, channel: str) -> Endpoint | None:
    """The endpoint of `user` on `channel`; None where there is none or the channel needs none."""
    return _in_force(user, channel).first()


def _in_force(user: AbstractBaseUser, channel: str) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(user_id=user.pk, channel=channel, active=True)


def _known(channel: str) -> None:
    if channel not in CHANNELS.known:
        raise Rejected(
            f"no channel {channel!r}; known: {', '.join(sorted(CHANNELS.known))}", code="unknown_channel"
        )
