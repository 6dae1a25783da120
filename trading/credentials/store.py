"""Store, test, read and rotate the keys of accounts at venues. Only `secrets_of` returns them, to venue adapters."""

from collections.abc import Mapping

from django.db import transaction

from maxxit.core import clock, redact
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.events.record import record
from trading.credentials import sealing
from trading.credentials.models import VenueCredential
from trading.credentials.sealing import Sealed
from trading.reasons import Reason
from trading.wiring import venue

MAX_LENGTH = 4_000
"""Characters of one field."""
HINT = 4


def store(venue_name: str, account: str, fields: Mapping[str, str], *, by: str) -> VenueCredential:
    """Test keys at the venue, then store them encrypted in place of those that the account had.

    Raises InvalidInput naming each wrong field; Rejected where the venue refuses them (`credentials_refused`), or they
    could take money out (`credentials_too_strong`); Retryable or Unknown where the venue cannot be asked now.
    """
    at_venue = venue(venue_name)
    wanted = at_venue.credential_fields
    if not wanted:
        raise Rejected(f"{venue_name} needs no keys of its customers", code="no_credentials_needed")
    values = {name: str(value).strip() for name, value in fields.items()}
    problems = {name: f"not a field; known: {', '.join(wanted)}" for name in values if name not in wanted}
    problems |= {name: "missing" for name in wanted if not values.get(name)}
    problems |= {
        name: f"longer than {MAX_LENGTH} characters" for name in values if len(values[name]) > MAX_LENGTH
    }
    if problems:
        raise InvalidInput(problems)
    for value in values.values():
        redact.know(value)
    access = at_venue.key_access(values)
    if access.may_withdraw:
        raise Rejected(
            f"this key of {venue_name} may withdraw money: create one that may only trade, and delete this one",
            code="credentials_too_strong",
        )
    if not access.may_trade:
        raise Rejected(
            f"this key of {venue_name} may not trade ({', '.join(access.permissions) or 'no permission'})",
            code=Reason.CREDENTIALS_REFUSED,
        )
    now = clock.now()
    row = VenueCredential(venue=venue_name, account=account)
    sealed = sealing.seal(values, row.context)
    with transaction.atomic():
        row, _ = VenueCredential.objects.update_or_create(
            venue=venue_name,
            account=account,
            defaults={
                "content": sealed.content,
                "key_id": sealed.key_id,
                "hint": values[wanted[0]][-HINT:],
                "permissions": list(access.permissions),
                "stored_by": by[:150],
                "stored_at": now,
                "tested_at": now,
            },
        )
        record("credentials.stored", row, venue=venue_name, account=account, by=by)
    return row


def is_stored(venue_name: str, account: str) -> bool:
    """Return whether keys of the account are stored."""
    return VenueCredential.objects.filter(venue=venue_name, account=account).exists()


def secrets_of(venue_name: str, account: str) -> dict[str, str]:
    """Return field -> secret of an account. Only venue adapters call it, in processes that have the private key.

    Raises Rejected (`no_credentials`) where none are stored, Misconfigured where this process cannot open them.
    """
    row = VenueCredential.objects.filter(venue=venue_name, account=account).first()
    if row is None:
        raise Rejected(
            f"no keys of {account} at {venue_name} are stored: `manage.py credentials set`",
            code=Reason.NO_CREDENTIALS,
        )
    return sealing.unseal(Sealed(bytes(row.content), row.key_id), row.context)


def test(venue_name: str, account: str) -> list[str]:
    """Ask the venue with the stored keys; return what they may do.

    Raises Rejected where there are none or the venue refuses them, Misconfigured as `secrets_of`.
    """
    access = venue(venue_name).key_access(secrets_of(venue_name, account))
    VenueCredential.objects.filter(venue=venue_name, account=account).update(
        permissions=list(access.permissions), tested_at=clock.now()
    )
    return list(access.permissions)


def remove(venue_name: str, account: str, *, by: str) -> bool:
    """Delete the keys of an account; return whether there were any. Without them nothing is sent, exits included."""
    with transaction.atomic():
        row = VenueCredential.objects.select_for_update().filter(venue=venue_name, account=account).first()
        if row is None:
            return False
        record("credentials.removed", row, venue=venue_name, account=account, by=by)
        row.delete()
    return True


def rotate() -> int:
    """Encrypt every row again that another than the present public key encrypted; return how many. Safe to repeat."""
    current, count = sealing.key_id_of(sealing.public_key()), 0
    for pk in VenueCredential.objects.exclude(key_id=current).order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            row = VenueCredential.objects.select_for_update().get(pk=pk)
            fields = sealing.unseal(Sealed(bytes(row.content), row.key_id), row.context)
            sealed = sealing.seal(fields, row.context)
            row.content, row.key_id = sealed.content, sealed.key_id
            row.save(update_fields=["content", "key_id"])
            count += 1
    return count
