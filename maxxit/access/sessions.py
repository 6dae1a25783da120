"""The session engine: Django's database sessions, with the user of each in a column.

A user can so list and end their sessions, and the pages read the time zone without another query.
"""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from maxxit.access.auth import address
from maxxit.access.models import BrowserSession
from maxxit.core import clock

OPENED = "opened"
"""Key of the session data: when, from where and with which browser its user logged in."""
LISTED = 50
"""Sessions of a user that are shown."""
SEEN_EVERY = timedelta(minutes=1)


class SessionStore(DatabaseSessions):
    """The engine that SESSION_ENGINE names."""

    row: BrowserSession | None = None
    """The row of the session once it was read."""

    @classmethod
    def get_model_class(cls) -> type[BrowserSession]:
        """Return the model of the sessions."""
        return BrowserSession

    def _get_session_from_db(self) -> BrowserSession | None:
        rows = BrowserSession.objects.select_related("user__user_settings")
        # the expiry is compared with the system clock, by which Django writes it
        self.row = rows.filter(session_key=self.session_key, expire_date__gt=timezone.now()).first()
        if self.row is None:
            self._session_key = None
        return self.row

    def create_model_instance(self, data: dict[str, Any]) -> BrowserSession:
        """Return the row to save, with the user and the login that `data` names."""
        row: BrowserSession = super().create_model_instance(data)  # type: ignore[assignment]
        opened = data.get(OPENED) or {}
        row.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        row.opened_at = datetime.fromisoformat(opened["at"]) if opened else None
        row.address, row.browser = opened.get("address", ""), opened.get("browser", "")
        row.last_seen = clock.now()
        return row


def note_login(sender: object, request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    """Keep when, from where and with which browser a session's user logged in (receiver of `user_logged_in`).

    The user's expired sessions are deleted, so that they do not pile up.
    """
    BrowserSession.objects.filter(user_id=user.pk, expire_date__lte=timezone.now()).delete()
    request.session[OPENED] = {
        "at": clock.now().isoformat(),
        "address": address(request)[:45],
        "browser": request.headers.get("User-Agent", "")[:300],
    }


def note_visit(request: HttpRequest) -> None:
    """Save that the session of a request is in use, at most once a minute."""
    row, now = getattr(request.session, "row", None), clock.now()
    if row is not None and row.user_id and row.last_seen < now - SEEN_EVERY:
        BrowserSession.objects.filter(pk=row.pk).update(last_seen=now)


def end(user: AbstractBaseUser, *, but: str | None = None) -> int:
    """End the sessions of `user`, except the one with the key `but`; return how many."""
    rows = BrowserSession.objects.filter(user_id=user.pk).exclude(session_key=but or "")
    return rows.delete()[0]


def public_id(row: BrowserSession) -> str:
    """Return a name for a session that may stand in a page; its key is a secret."""
    return salted_hmac("maxxit.sessions", row.session_key).hexdigest()[:16]


def of_user(user: AbstractBaseUser) -> list[BrowserSession]:
    """Return the sessions of `user` that have not expired, the one used last first."""
    rows = BrowserSession.objects.filter(user_id=user.pk, expire_date__gt=timezone.now())
    return list(rows.order_by("-last_seen")[:LISTED])


def end_one(user: AbstractBaseUser, name: str) -> bool:
    """End the session of `user` with this public id; return whether there was one."""
    row = next((row for row in of_user(user) if public_id(row) == name), None)
    if row is not None:
        row.delete()
    return row is not None


def connect() -> None:
    """Connect the receiver of logins."""
    user_logged_in.connect(note_login, dispatch_uid="maxxit.access.sessions")
