"""Store, test, read and rotate the keys of accounts at venues. Only `secrets_of` returns them, to venue adapters."""

from collections.abc import Mapping

from django.db import transaction

from maxxit.core import clock, redact
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.events.record import record
from trading.credentials import sealing
from trading.credentials.models import VenueCredential, context_of
from trading.credentials.sealing import Sealed
from trading.models import Order
from trading.reasons import Reason
from trading.risk import limits
from trading.states import IN_FLIGHT
from trading.venues.base import KeyAccess
from trading.wiring import venue

MAX_LENGTH = 4_000
"""Characters of one field."""
HINT = 4


def checked_fields(venue_name: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Return the keys without spaces around them; they are masked in logs from now on.

    Raises InvalidInput naming each wrong field, Rejected where the venue needs no keys.
    """
    wanted = venue(venue_name).credential_fields
    if not wanted:
        raise Rejected(f"{venue_name} needs no keys of its customers", code="no_credentials_needed")
    values = {name: str(value).strip() for name, value in fields.items()}
    for value in values.values():
        redact.know(value)
    problems = {name: f"not a field; known: {', '.join(wanted)}" for name in values if name not in wanted}
    problems |= {name: "missing" for name in wanted if not values.get(name)}
    problems |= {
        name: f"longer than {MAX_LENGTH} characters" for name in values if len(values[name]) > MAX_LENGTH
    }
    if problems:
        raise InvalidInput(problems)
    return values


def hint_of(venue_name: str, values: Mapping[str, str]) -> str:
    """Return the last characters of what names a key at the venue."""
    return values[venue(venue_name).credential_fields[0]][-HINT:]


def store(venue_name: str, account: str, fields: Mapping[str, str], *, by: str) -> VenueCredential:
    """Test keys at the venue, then store them encrypted in place of those that the account had.

    Raises InvalidInput naming each wrong field; Rejected where the venue refuses them (`credentials_refused`), they
    could take money out (`credentials_too_strong`), their account serves another deployment (`account_taken`), or they
    are of another account than those that hold positions or orders (`credentials_in_use`); Retryable or Unknown where
    the venue cannot be asked now.
    """
    values = checked_fields(venue_name, fields)
    access = venue(venue_name).key_access(values)
    _must_fit(venue_name, access)
    before = credential_of(venue_name, account)
    if before is not None and not before.venue_account:  # stored before the venue's own id was kept
        before.venue_account = _account_of(before)
    now = clock.now()
    sealed = sealing.seal(values, context_of(venue_name, account))
    with transaction.atomic():
        limits.lock([account])
        if before is not None and before.venue_account != access.account_id:
            _must_be_idle(venue_name, account, "replaced by keys of another account")
        _must_be_free(venue_name, account, access.account_id)
        row, _ = VenueCredential.objects.update_or_create(
            venue=venue_name,
            account=account,
            defaults={
                "content": sealed.content,
                "key_id": sealed.key_id,
                "hint": hint_of(venue_name, values),
                "permissions": list(access.permissions),
                "venue_account": access.account_id,
                "stored_by": by[:150],
                "stored_at": now,
                "tested_at": now,
            },
        )
        record("credentials.stored", row, venue=venue_name, account=account, by=by)
    return row


def _must_fit(venue_name: str, access: KeyAccess) -> None:
    """Raise Rejected for keys that could take money out, may not trade, or whose account the venue does not name."""
    if access.may_withdraw:
        raise Rejected(
            f"this key of {venue_name} may withdraw money: create one that may only trade, and delete this one",
            code="credentials_too_strong",
        )
    if not access.account_id:
        raise Rejected(
            f"{venue_name} does not say whose key this is: try again", code=Reason.CREDENTIALS_REFUSED
        )
    if not access.may_trade:
        raise Rejected(
            f"this key of {venue_name} may not trade ({', '.join(access.permissions) or 'no permission'})",
            code=Reason.CREDENTIALS_REFUSED,
        )


def _must_be_free(venue_name: str, account: str, account_id: str) -> None:
    """Raise Rejected where the account at the venue serves another deployment: its cash would be counted twice."""
    taken = VenueCredential.objects.filter(venue=venue_name, venue_account=account_id).exclude(
        account=account
    )
    if taken.exists():
        raise Rejected(
            f"this account at {venue_name} serves another deployment already: use one account for each deployment",
            code="account_taken",
        )


def _must_be_idle(venue_name: str, account: str, what: str) -> None:
    """Raise Rejected where positions or orders of the account are open. Call it while `limits.lock` is held."""
    held = limits.read_holdings([account], platform=False).by_account.get(account, {})
    tokens = sorted(symbol for symbol, amount in held.items() if amount)
    orders = Order.objects.filter(account=account, state__in=IN_FLIGHT).count()
    if not tokens and not orders:
        return
    open_now = [f"positions in {', '.join(tokens)}"] if tokens else []
    open_now += [f"{orders} order{'s' if orders > 1 else ''} under way"] if orders else []
    raise Rejected(
        f"the keys of {account} at {venue_name} cannot be {what} now: it has {' and '.join(open_now)}, which only "
        "these keys can close. Close all positions first",
        code="credentials_in_use",
    )


def _account_of(row: VenueCredential) -> str:
    """Return the venue's own id of the account that stored keys open; empty where the venue refuses them."""
    try:
        return venue(row.venue).key_access(_opened(row)).account_id
    except Rejected:
        return ""


def credential_of(venue_name: str, account: str) -> VenueCredential | None:
    """Return the stored keys of an account, sealed."""
    return VenueCredential.objects.filter(venue=venue_name, account=account).first()


def is_stored(venue_name: str, account: str) -> bool:
    """Return whether keys of the account are stored."""
    return VenueCredential.objects.filter(venue=venue_name, account=account).exists()


def secrets_of(venue_name: str, account: str) -> dict[str, str]:
    """Return field -> secret of an account. Only venue adapters call it, in processes that have the private key.

    Raises Rejected (`no_credentials`) where none are stored, Misconfigured where this process cannot open them.
    """
    row = credential_of(venue_name, account)
    if row is None:
        raise Rejected(
            f"no keys of {account} at {venue_name} are stored: `manage.py credentials set`",
            code=Reason.NO_CREDENTIALS,
        )
    return _opened(row)


def _opened(row: VenueCredential) -> dict[str, str]:
    return sealing.unseal(Sealed(bytes(row.content), row.key_id), row.context)


def test(venue_name: str, account: str) -> list[str]:
    """Ask the venue with the stored keys; return what they may do.

    Raises Rejected where there are none, the venue refuses them, they could take money out meanwhile, or their account
    serves another deployment; Misconfigured as `secrets_of`.
    """
    access = venue(venue_name).key_access(secrets_of(venue_name, account))
    with transaction.atomic():
        _must_be_free(venue_name, account, access.account_id)
        VenueCredential.objects.filter(venue=venue_name, account=account).update(
            permissions=list(access.permissions), tested_at=clock.now(), venue_account=access.account_id
        )
    _must_fit(venue_name, access)
    return list(access.permissions)


def remove(venue_name: str, account: str, *, by: str) -> bool:
    """Delete the keys of an account; return whether there were any. Without them nothing is sent, exits included.

    Raises Rejected (`credentials_in_use`) under open positions and orders.
    """
    with transaction.atomic():
        limits.lock([account])
        row = VenueCredential.objects.select_for_update().filter(venue=venue_name, account=account).first()
        if row is None:
            return False
        _must_be_idle(venue_name, account, "removed")
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
