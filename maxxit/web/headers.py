"""Middleware that sets the Content-Security-Policy of every response."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

STRICT = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
"""Own origin only, nothing inline."""

ADMIN = STRICT | {
    # Its theme (unfold) runs Alpine.js, which evaluates expressions, and styles elements in place.
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
}

API_DOCS = STRICT | {"style-src": "'self' 'unsafe-inline'"}
"""The OpenAPI viewer styles elements in place."""

BY_PREFIX = {"/admin/": ADMIN, "/api/docs": API_DOCS}


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Set the policy of the path; a view that sets its own policy keeps it."""
    texts = {prefix: _text(policy) for prefix, policy in BY_PREFIX.items()}
    strict = _text(STRICT)

    def set_policy(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        text = next((text for prefix, text in texts.items() if request.path.startswith(prefix)), strict)
        response.headers.setdefault("Content-Security-Policy", text)
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponse:
            return set_policy(request, await get_response(request))

        return middleware
    return lambda request: set_policy(request, get_response(request))


def _text(policy: dict[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())
