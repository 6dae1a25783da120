"""API authentication: by API key, or by staff session. A call with a key never falls back to the session cookie."""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.core.cache import cache
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from ninja.errors import HttpError
from ninja.security import APIKeyCookie, APIKeyHeader, HttpBearer
from ninja.throttling import BaseThrottle
from ninja.utils import check_csrf

from maxxit.access import attempts
from maxxit.access.models import ADMIN, KEYS, READ, RULES, SAFES, STOP, TRADE, ApiKey
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record

log = structlog.get_logger(__name__)

MARK = "mxk_"
"""Prefix of every key, so that people and secret scanners recognise a leaked one."""
SCOPES = (READ, RULES, SAFES, STOP, TRADE, KEYS, ADMIN)
PER_MINUTE = 300
"""Rate limit per key or user."""
USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Caller:
    """The authenticated caller and its rights."""

    person: AbstractBaseUser
    name: str
    """For the audit log: `admin by key mxk_ab12cd`."""
    ident: str
    """For the rate limit."""
    scopes: frozenset[str]
    expires_at: datetime | None = None
    """When the key of the call expires; None for never, and for a session."""

    @property
    def is_staff(self) -> bool:
        """Staff see the rows of every user."""
        return bool(getattr(self.person, "is_staff", False))

    @property
    def session_user(self) -> AbstractBaseUser | None:
        """Return the person of a session; None for a call with a key, which others than its owner may hold."""
        return self.person if self.ident.startswith("user:") else None


def caller(request: HttpRequest) -> Caller:
    """Return the caller of an authenticated request."""
    authenticated: Caller = request.auth  # type: ignore[attr-defined]  # set by ninja
    return authenticated


def hashed(key: str) -> str:
    """Return the stored form of a key. It has 256 random bits, so one round of SHA-256 is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


@transaction.atomic
def create_key(
    owner: AbstractBaseUser, name: str, scopes: Iterable[str], *, by: str, expires_at: datetime | None = None
) -> str:
    """Create a key and return it; only its hash is stored.

    Raises Rejected for an unknown scope, and for the scope admin where `owner` is not staff.
    """
    wanted = sorted(set(scopes))
    if unknown := [scope for scope in wanted if scope not in SCOPES]:
        raise Rejected(f"no scope {', '.join(unknown)}; known: {', '.join(SCOPES)}", code="unknown_scope")
    if ADMIN in wanted and not Caller(owner, "", "", frozenset()).is_staff:
        raise Rejected(f"{owner} is not staff, and the scope admin is for staff alone", code="not_staff")
    key = MARK + secrets.token_urlsafe(32)
    row = ApiKey.objects.create(
        owner_id=owner.pk,
        name=name,
        prefix=key[:10],
        sha256=hashed(key),
        scopes=wanted,
        created_at=clock.now(),
        expires_at=expires_at,
    )
    record("api_key.created", row, by=by, label=name, scopes=wanted)
    return key


@transaction.atomic
def revoke_key(prefix: str, *, by: str, owner: AbstractBaseUser | None = None) -> int:
    """Revoke the keys with this prefix, of one user where given; return how many."""
    keys = ApiKey.objects.select_for_update().filter(prefix=prefix, revoked_at=None)
    rows = list(keys if owner is None else keys.filter(owner_id=owner.pk))
    for row in rows:
        row.revoked_at = clock.now()
        row.save(update_fields=["revoked_at"])
        record("api_key.revoked", row, by=by)
    return len(rows)


def caller_of(key: str, address: str) -> Caller | None:
    """Return the caller of a key; None for an unknown, expired or revoked key."""
    now = clock.now()
    alive = Q(expires_at=None) | Q(expires_at__gt=now)
    row = ApiKey.objects.select_related("owner").filter(alive, sha256=hashed(key), revoked_at=None).first()
    if row is None or not row.owner.is_active:
        counted = attempts.refused_key_subjects(address)
        if attempts.begin(counted):
            raise HttpError(429, "too many refused keys from this address: try again later")
        attempts.failed(counted, "api_key.refused")
        return None
    if row.last_used is None or row.last_used < now - USED_EVERY:
        ApiKey.objects.filter(pk=row.pk).update(last_used=now)
    name = f"{row.owner.get_username()} by key {row.prefix}"
    return Caller(row.owner, name, f"key:{row.pk}", frozenset(row.scopes), row.expires_at)


def still_valid(who: Caller) -> bool:
    """Return whether a caller of a long request may go on: an active user, with a key that still counts if with one."""
    if not get_user_model()._default_manager.filter(pk=who.person.pk, is_active=True).exists():
        return False
    kind, _, pk = who.ident.partition(":")
    alive = Q(expires_at=None) | Q(expires_at__gt=clock.now())
    return kind != "key" or ApiKey.objects.filter(alive, pk=pk, revoked_at=None).exists()


def count(name: str, seconds: int = 60) -> int:
    """Count a call and return the number in this window of `seconds`; 0 (no limit) when Redis is down."""
    try:
        window = int(clock.now().timestamp()) // seconds
        key = f"{name}:{window}"
        try:
            return cache.incr(key)
        except ValueError:  # the first of the window
            return 1 if cache.add(key, 1, timeout=2 * seconds) else cache.incr(key)
    except Exception as error:  # any error of the cache backend
        log.warning("rate_not_counted", name=name, error=str(error))
        return 0


def has_key(request: HttpRequest) -> bool:
    """Return whether the request carries an API key, valid or not."""
    return "X-API-Key" in request.headers or "Authorization" in request.headers


def given_key(request: HttpRequest) -> str:
    """Return the API key that the request carries, of X-API-Key before Authorization; empty without one."""
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return (request.headers.get("X-API-Key") or bearer).strip()


def address(request: HttpRequest) -> str:
    """Return the client address; behind a trusted proxy uvicorn has applied X-Forwarded-For (TRUSTED_PROXIES)."""
    return str(request.META.get("REMOTE_ADDR", ""))


def key_or_login(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Decorate a page for logged-in users and for API keys; 401 in JSON for a bad key, else to the login."""
    page = login_required(login_url="login")(view)

    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not has_key(request):
            return page(request, *args, **kwargs)
        given = given_key(request)
        try:
            if given and caller_of(given, address(request)):
                return view(request, *args, **kwargs)
        except HttpError as error:
            return JsonResponse(
                {"code": "too_many_requests", "message": error.message}, status=error.status_code
            )
        message = (
            "the key is unknown, revoked or expired: "
            "make one in Settings, API keys, or by `manage.py apikey create`"
        )
        return JsonResponse({"code": "unauthenticated", "message": message}, status=401)

    return answer


class ByHeader(APIKeyHeader):
    """`X-API-Key: mxk_…`."""

    param_name = "X-API-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        """Return the key's owner."""
        return caller_of(key, address(request)) if key else None


class ByBearer(HttpBearer):
    """`Authorization: Bearer mxk_…`."""

    def authenticate(self, request: HttpRequest, token: str) -> Caller | None:
        """Return the key's owner."""
        return caller_of(token, address(request)) if token else None


class ByStaffSession(APIKeyCookie):
    """A staff session, with Django's CSRF token for every method but GET."""

    param_name = "sessionid"

    def __init__(self) -> None:
        super().__init__(csrf=False)  # checked in authenticate, only for session calls

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        """Return the logged-in member of staff; None when the request carries a key."""
        person: Any = request.user
        if has_key(request) or not (person.is_authenticated and person.is_staff):
            return None
        if check_csrf(request):
            raise HttpError(403, "the CSRF token is missing: send the cookie csrftoken as header X-CSRFToken")
        return Caller(person, person.get_username(), f"user:{person.pk}", frozenset(SCOPES))


class ByOwnSession(APIKeyCookie):
    """Any logged-in user, for the GET calls that the pages make."""

    param_name = "sessionid"

    def __init__(self) -> None:
        super().__init__(csrf=False)  # GET only

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        """Return the logged-in user; None for other methods than GET and when the request carries a key."""
        person: Any = request.user
        if has_key(request) or request.method != "GET" or not person.is_authenticated:
            return None
        return Caller(person, person.get_username(), f"user:{person.pk}", frozenset([READ]))


class PerCaller(BaseThrottle):
    """Limits calls per minute of each key or user."""

    def allow_request(self, request: HttpRequest) -> bool:
        return count(f"api:{caller(request).ident}") <= PER_MINUTE

    def wait(self) -> float:
        return 60.0


AUTH = [ByHeader(), ByBearer(), ByStaffSession()]
READERS = [*AUTH, ByOwnSession()]
"""For endpoints that the pages read by script."""
