"""Notification endpoints: set, confirm, remove and open a user's address on a channel, and its signing secret.

Addresses are encrypted (`maxxit.sealing`): the web process has `NOTIFY_PUBLIC_KEY` and can only store them, the notify
worker has `NOTIFY_PRIVATE_KEY_FILE` and opens them to send.
"""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.signing import BadSignature, Signer
from django.db import models, transaction
from django.db.models import QuerySet

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.notify import kinds
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Alert, Endpoint, new_salt
from maxxit.notify.policy import policy
from maxxit.sealing import KeyPair, Sealed, key_id_of

KEYS = KeyPair("NOTIFY", "notify.key", "addresses of channels")
MAX_ADDRESS = 2000
"""Characters."""
CODE_DIGITS = 6
CODE_TRIES = 5
CODE_LIFETIME = timedelta(minutes=30)
PER_HOUR = 20
"""Test messages and codes of one user."""
UNSUBSCRIBE = Signer(salt="maxxit.notify.unsubscribe")


def offered() -> list[str]:
    """Return the channels that users may choose."""
    return [name for name in policy().offered if CHANNELS.open(name).available()]


def secret_of(endpoint: Endpoint) -> str:
    """Return the signing secret. It changes with SECRET_KEY: inform receivers when that is rotated."""
    return f"mxw_{_derived('endpoint', endpoint).hex()}"


def code_of(endpoint: Endpoint) -> str:
    """Return the digits that confirm the address; they are sent there and shown nowhere else."""
    return f"{int.from_bytes(_derived('code', endpoint)[:8], 'big') % 10**CODE_DIGITS:0{CODE_DIGITS}}"


def unsubscribe_link(endpoint: Endpoint, event: str = "") -> str:
    """Return the URL that, without a login, ends the digest that `event` is, or else removes the address."""
    kind = next((name for name, one in kinds.KINDS.items() if one.opt_in and event in one.events), "")
    token = UNSUBSCRIBE.sign(f"{endpoint.pk}.{kind}" if kind else str(endpoint.pk))
    return f"{settings.PUBLIC_URL}/unsubscribe/{token}"


def unsubscribed(token: str) -> tuple[Endpoint | None, str]:
    """Return the active endpoint and the kind that an unsubscribe link names; None, and empty, where it names none."""
    try:
        pk, _, kind = UNSUBSCRIBE.unsign(token).partition(".")
        row = Endpoint.objects.filter(pk=int(pk), active=True).select_related("user").first()
    except (BadSignature, ValueError):
        return None, ""
    return row, kind


def _derived(what: str, endpoint: Endpoint) -> bytes:
    return hmac.new(settings.SECRET_KEY.encode(), f"{what}:{endpoint.salt}".encode(), hashlib.sha256).digest()


def context_of(endpoint: Any) -> str:
    """Return what the encrypted address is bound to: it opens as that of no other endpoint."""
    return f"notify|{endpoint.user_id}|{endpoint.channel}|{endpoint.salt}"


def open_address(endpoint: Endpoint) -> str:
    """Return the address. Raises Misconfigured in a process without the private key."""
    sealed = Sealed(bytes(endpoint.content), endpoint.key_id)
    return KEYS.unseal(sealed, context_of(endpoint))["address"]


def lookup_of(channel: str, address: str) -> str:
    """Return the keyed hash by which a message from `address` finds its user."""
    text = f"lookup:{channel}:{address}"
    return hmac.new(settings.SECRET_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def user_at(channel: str, address: str) -> Any:
    """Return the user who confirmed this address on a channel that answers; None for a stranger.

    Where several did, it is the first one: nobody else can take over the commands of a chat.
    """
    row = (
        Endpoint.objects.filter(channel=channel, lookup=lookup_of(channel, address), active=True)
        .exclude(verified_at=None)
        .filter(user__is_active=True)
        .select_related("user")
        .order_by("verified_at", "pk")
        .first()
    )
    return row.user if row else None


@transaction.atomic
def set_endpoint(user: AbstractBaseUser, channel: str, address: str, *, confirmed: bool = False) -> Endpoint:
    """Set the address of `user` on `channel`; where the channel confirms addresses, send the code there.

    Args:
        confirmed: the user has shown already that the address is theirs; no code is sent.

    Raises:
        Rejected: the address can never be sent to, the channel is not offered, or too many codes were asked for.
        Retryable: the address cannot be checked now.
        Misconfigured: this process has no key to encrypt it with.
    """
    _known(channel)
    adapter = CHANNELS.open(channel)
    if adapter.form is None:
        raise Rejected(f"{channel} needs no address", code="no_address")
    if channel not in offered():
        raise Rejected(f"this installation does not offer the channel {adapter.title}", code="not_offered")
    if len(address) > MAX_ADDRESS:
        raise Rejected(f"the address is longer than {MAX_ADDRESS} characters", code="bad_address")
    address = adapter.verify(address)
    now = clock.now()
    _active(user, channel).update(active=False)
    endpoint = Endpoint(
        user_id=user.pk,
        channel=channel,
        salt=new_salt(),
        hint=adapter.shown(address)[:320],
        lookup=lookup_of(channel, address) if adapter.answers else "",
        created_at=now,
        verified_at=None if adapter.confirms and not confirmed else now,
    )
    sealed = KEYS.seal({"address": address}, context_of(endpoint))
    endpoint.content, endpoint.key_id = sealed.content, sealed.key_id
    endpoint.save(force_insert=True)
    record("endpoint.named", endpoint, channel=channel)
    if adapter.confirms and not confirmed:
        queue_message(
            user,
            channel,
            kinds.CODE,
            endpoint,
            f"Enter this code on the page Notifications to confirm {endpoint.hint}",
        )
    return endpoint


def confirm(user: AbstractBaseUser, channel: str, code: str) -> Endpoint:
    """Confirm the address of `user` on `channel` with the code that was sent there.

    Raises Rejected where none waits, the code is wrong, too old, or was tried too often.
    """
    with transaction.atomic():
        endpoint = _active(user, channel).filter(verified_at=None).select_for_update().first()
        if endpoint is None:
            raise Rejected(f"no address of the channel {channel} waits for a code", code="no_endpoint")
        if endpoint.code_tries >= CODE_TRIES or clock.now() > endpoint.created_at + CODE_LIFETIME:
            raise Rejected(
                f"the code is older than {CODE_LIFETIME // timedelta(minutes=1)} minutes or was tried "
                f"{CODE_TRIES} times: set the address again",
                code="code_expired",
            )
        right = hmac.compare_digest(code.strip().encode(), code_of(endpoint).encode())
        if right:
            endpoint.verified_at = clock.now()
            record("endpoint.verified", endpoint, channel=channel)
        else:
            endpoint.code_tries += 1
        endpoint.save(update_fields=["verified_at", "code_tries"])
    if not right:
        raise Rejected(f"the code is wrong; {CODE_TRIES - endpoint.code_tries} tries left", code="wrong_code")
    return endpoint


@transaction.atomic
def forget(user: AbstractBaseUser, channel: str, *, why: str = "") -> bool:
    """Remove the endpoint of `user`; return False when there is none. Pending deliveries become dead letters."""
    _known(channel)
    endpoint = _active(user, channel).select_for_update().first()
    if endpoint is None:
        return False
    _active(user, channel).update(active=False)
    record("endpoint.forgotten", endpoint, channel=channel, **({"why": why} if why else {}))
    return True


@transaction.atomic
def remove_gone(endpoint: Endpoint, reason: str) -> None:
    """Remove an endpoint whose provider says that it takes no message any more; its user is told in the inbox."""
    if Endpoint.objects.filter(pk=endpoint.pk, active=True).update(active=False):
        record(
            "endpoint.gone",
            endpoint,
            channel=endpoint.channel,
            reason=reason[:200],
            owner_id=endpoint.user_id,
        )


def require(user: AbstractBaseUser, channel: str) -> None:
    """Raise Rejected, naming the fix, when `user` has no confirmed endpoint on `channel`."""
    _known(channel)
    if CHANNELS.open(channel).form is None:
        return
    endpoint = current(user, channel)
    if endpoint is None:
        raise Rejected(
            f"{user.get_username()} has no {channel} address: set one on the page Notifications, with "
            f"`manage.py rules endpoint --user … --channel {channel} --address …` or PUT /api/market/endpoints",
            code="no_endpoint",
        )
    if endpoint.verified_at is None:
        raise Rejected(
            f"the {channel} address of {user.get_username()} is not confirmed: enter the code that was sent there on "
            "the page Notifications or with POST /api/notifications/confirm",
            code="not_confirmed",
        )


def current(user: AbstractBaseUser, channel: str) -> Endpoint | None:
    """Return the active endpoint of `user` on `channel`, or None."""
    return _active(user, channel).first()


@transaction.atomic
def queue_message(user: AbstractBaseUser, channel: str, name: str, row: models.Model, text: str) -> Alert:
    """Queue a test message or a code to `user` on one channel. Raises Rejected after `PER_HOUR` of them."""
    since = clock.now() - timedelta(hours=1)
    recent = Alert.objects.filter(user_id=user.pk, at__gt=since, event__name__in=kinds.TESTS).count()
    if recent >= PER_HOUR:
        raise Rejected(
            f"{PER_HOUR} test messages an hour are the limit: try again later", code="too_many_tests"
        )
    event = record(name, row, channel=channel, text=text, owner_id=user.pk)
    _active(user, channel).update(rests_until=None)
    return Alert.objects.create(event=event, user_id=user.pk, channel=channel, at=event.at, due_at=event.at)


def current_of(pairs: Iterable[tuple[int, str]]) -> dict[tuple[int, str], Endpoint]:
    """Return (user, channel) -> the active endpoint, for those of `pairs` that have one, in one statement."""
    asked = set(pairs)
    rows = Endpoint.objects.filter(
        active=True, user_id__in={user for user, _ in asked}, channel__in={channel for _, channel in asked}
    )
    return {key: row for row in rows if (key := (row.user_id, row.channel)) in asked}


def rotate() -> int:
    """Encrypt every address again that another than the present public key encrypted; return how many."""
    current_key, count = key_id_of(KEYS.public_key()), 0
    old = Endpoint.objects.filter(active=True).exclude(key_id=current_key).order_by("pk")
    for pk in old.values_list("pk", flat=True):
        with transaction.atomic():
            row = Endpoint.objects.select_for_update().get(pk=pk)
            sealed = KEYS.seal({"address": open_address(row)}, context_of(row))
            row.content, row.key_id = sealed.content, sealed.key_id
            row.save(update_fields=["content", "key_id"])
            count += 1
    return count


def _active(user: AbstractBaseUser, channel: str) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(user_id=user.pk, channel=channel, active=True)


def _known(channel: str) -> None:
    if channel not in CHANNELS.known:
        raise Rejected(
            f"no channel {channel!r}; known: {', '.join(sorted(CHANNELS.known))}", code="unknown_channel"
        )
