"""Rate limits: failed logins by account and by address, rejected API keys by address, sign-ups by address.

An attempt is counted before the password is checked, so that parallel guesses cannot slip through; a successful one
is uncounted. Attempts during a block are rejected without being counted, so a block expires. The counts are in
Postgres: losing Redis resets nothing.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils.crypto import salted_hmac

from maxxit.access.models import LoginAttempts
from maxxit.core import clock
from maxxit.core.config import Count, Policy, Seconds, load
from maxxit.events.record import record

ACCOUNT, ADDRESS, KEYS, SIGN_UP = "account", "address", "keys", "sign-up"
GROWTH_STEPS = 20
"""Doublings after which every block is at its maximum; keeps the power of two small."""


class LoginPolicy(Policy):
    """`config/login.yaml`."""

    free_failures_per_account: Count
    free_failures_per_address: Count
    free_refused_keys_per_address: Count
    free_sign_ups_per_address: Count
    first_block_seconds: Seconds
    longest_block_seconds: Seconds
    forget_after_seconds: Seconds

    def block(self, kind: str, failures: int) -> timedelta | None:
        """Return how long a subject of `kind` is blocked after `failures`; None while they are free."""
        free = {
            ACCOUNT: self.free_failures_per_account,
            ADDRESS: self.free_failures_per_address,
            KEYS: self.free_refused_keys_per_address,
            SIGN_UP: self.free_sign_ups_per_address,
        }[kind]
        if failures < free:
            return None
        doubled = self.first_block_seconds * 2 ** min(failures - free, GROWTH_STEPS)
        return timedelta(seconds=min(doubled, self.longest_block_seconds))


def policy() -> LoginPolicy:
    """Return the limits of `config/login.yaml`."""
    return load("login", LoginPolicy)


def subjects(username: str, address: str) -> list[str]:
    """Return the subjects of a login attempt: account and address.

    An unknown user name is stored as a digest: it may be a password typed into the wrong field.
    """
    known = get_user_model()._default_manager.filter(**{"username": username}).exists()
    digest = salted_hmac("maxxit.login", username).hexdigest()[:32]
    name = username if known else f"unknown-{digest}"
    return sorted([f"{ACCOUNT}:{name}", f"{ADDRESS}:{_network(address)}"])


def account_subjects(username: str) -> list[str]:
    """Return the subjects of an attempt at a known account whose address was counted already: the account."""
    return [f"{ACCOUNT}:{username}"]


def refused_key_subjects(address: str) -> list[str]:
    """Return the subjects of a rejected API key: its address."""
    return [f"{KEYS}:{_network(address)}"]


def sign_up_subjects(address: str) -> list[str]:
    """Return the subjects of a sign-up: its address. Successful ones count as well and are not uncounted."""
    return [f"{SIGN_UP}:{_network(address)}"]


def address_subjects(address: str) -> list[str]:
    """Return the subjects of an attempt that names no account: its address."""
    return [f"{ADDRESS}:{_network(address)}"]


def _network(address: str) -> str:
    """Return the address, or the /64 network of an IPv6 address: one customer has 2**64 addresses."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:60]
    return str(parsed if parsed.version == 4 else ip_network((parsed, 64), strict=False))


@transaction.atomic
def begin(names: Iterable[str]) -> datetime | None:
    """Count an attempt against each subject; return the end of the block when one is blocked, else None."""
    now, limits = clock.now(), policy()
    rows = _locked(names, now)
    blocked = [row.blocked_until for row in rows if row.blocked_until and row.blocked_until > now]
    if blocked:
        return max(blocked)
    forgotten = now - timedelta(seconds=limits.forget_after_seconds)
    for row in rows:
        row.failures = 1 if row.last_at < forgotten else row.failures + 1
        pause = limits.block(row.kind, row.failures)
        row.blocked_until = now + pause if pause else None
        row.last_at = now
        row.save(update_fields=["failures", "blocked_until", "last_at"])
    return None


@transaction.atomic
def failed(names: Iterable[str], event: str = "login.failed") -> None:
    """Record that the counted attempt failed, and each block that it started (`login.blocked` alerts staff)."""
    now = clock.now()
    for row in _locked(names, now):
        record(event, row, failures=row.failures)
        if row.blocked_until and row.blocked_until > now:
            record(
                "login.blocked",
                row,
                who=row.subject,
                failures=row.failures,
                until=f"{row.blocked_until:%Y-%m-%d %H:%M:%S}Z",
            )
    old = now - timedelta(seconds=policy().forget_after_seconds)
    LoginAttempts.objects.filter(last_at__lt=old).delete()


@transaction.atomic
def succeeded(names: Iterable[str]) -> None:
    """Uncount a successful attempt: the account's count is reset, the address has one failure less."""
    for row in _locked(names, clock.now()):
        row.failures = 0 if row.kind == ACCOUNT else max(0, row.failures - 1)
        row.blocked_until = None
        row.save(update_fields=["failures", "blocked_until"])


def _locked(names: Iterable[str], now: datetime) -> list[LoginAttempts]:
    """Return the rows of these subjects, created where missing, locked in a fixed order."""
    wanted = sorted(names)
    LoginAttempts.objects.bulk_create(
        [LoginAttempts(subject=name, last_at=now) for name in wanted], ignore_conflicts=True
    )
    return list(LoginAttempts.objects.select_for_update().filter(subject__in=wanted).order_by("subject"))
