"""Middleware that shows times in the zone that the viewer chose, and notes that their session is in use."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from maxxit.access import sessions
from maxxit.core import time_zones

WITHOUT_SESSION = ("/static/", "/health", "/metrics")
IN_UTC = ("/admin/", "/api/", "/invoices")
"""Paths whose times stay in UTC; the months of invoices are months in UTC."""


def viewers_zone(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Activate the zone of the user who is logged in; it comes with the session's row, without another query."""

    def activate(request: HttpRequest) -> HttpResponse:
        known = settings.SESSION_COOKIE_NAME in request.COOKIES
        if not known or request.path.startswith(WITHOUT_SESSION) or SESSION_KEY not in request.session:
            return get_response(request)
        sessions.note_visit(request)
        row = getattr(request.session, "row", None)
        chosen = getattr(row.user, "user_settings", None) if row and row.user else None
        if chosen is None or request.path.startswith(IN_UTC):
            return get_response(request)
        with timezone.override(time_zones.zone(chosen.time_zone)):
            return get_response(request)

    return activate
