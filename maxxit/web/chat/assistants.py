"""The MCP server over HTTP: one POST per message, answered in JSON, with an API key. No sessions, no event stream."""

from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from ninja.errors import HttpError

from maxxit.access import auth
from maxxit.chat.mcp import protocol
from maxxit.core import untrusted

MAX_BODY = 100_000
"""Bytes of a message."""
STATUS = {
    protocol.PARSE_ERROR: 400, protocol.INVALID_REQUEST: 400, protocol.INVALID_PARAMS: 400,
    protocol.HEADER_MISMATCH: 400, protocol.UNSUPPORTED_VERSION: 400, protocol.METHOD_NOT_FOUND: 404,
}  # fmt: skip
"""Code of an error -> HTTP status; 200 for others."""


@csrf_exempt  # no cookie is read
@never_cache
@require_POST
def mcp(request: HttpRequest) -> HttpResponse:
    """Answer one message of an assistant that has an API key."""
    origin = request.headers.get("Origin", "")
    if origin and _host(origin) != request.get_host():  # a page of another site, by DNS rebinding
        return _refused(403, "requests from pages of other sites are not taken")
    given = auth.given_key(request)
    try:
        who = auth.caller_of(given, auth.address(request)) if given else None
    except HttpError as error:
        return _refused(error.status_code, error.message)
    if who is None:
        answer = _refused(401, "send an API key: make one in Settings, API keys")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
    if auth.count(f"api:{who.ident}") > auth.PER_MINUTE:
        return _refused(429, f"more than {auth.PER_MINUTE} calls in a minute")
    if len(request.body) > MAX_BODY:
        return _refused(413, f"a message has at most {MAX_BODY} bytes")
    try:
        message: Any = untrusted.loads(request.body)
    except ValueError:
        return JsonResponse(protocol.error_of(None, protocol.PARSE_ERROR, "this is no JSON"), status=400)
    headers = {name.lower(): value for name, value in request.headers.items()}
    response = protocol.respond(message, who, headers)
    if response is None:
        return HttpResponse(status=202)
    return JsonResponse(response, status=STATUS.get(response.get("error", {}).get("code"), 200))


def _host(origin: str) -> str:
    """Return host and port of an origin; empty where it is no URL."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _refused(status: int, message: str) -> JsonResponse:
    return JsonResponse(protocol.error_of(None, protocol.INVALID_REQUEST, message), status=status)
