"""Every refusal of the API: JSON with a code, and a message that names the fix."""

from collections.abc import Callable
from typing import Any

from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable, StaleState

CODES = {403: "forbidden", 422: "invalid", 429: "too_many_requests"}
STATUS: tuple[tuple[type[MaxxitError], int], ...] = (
    (Rejected, 409),
    (StaleState, 409),
    (Retryable, 503),
    (Misconfigured, 503),
)
SAID_ELSEWHERE = {"not_found": 404, "not_a_uuid": 422, "no_span": 422}
"""Codes of Rejected that are no conflict."""


def _problem(status: int, code: str, message: str, detail: Any = None) -> HttpResponse:
    told = {"code": code, "message": message} | ({"detail": detail} if detail else {})
    return JsonResponse(told, status=status)


def nobody(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    """No key, or one that does not count."""
    message = "send a key as X-API-Key or Authorization: Bearer; `manage.py apikey create` makes one"
    return _problem(401, "unauthenticated", message)


def refused(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Scope, rate, an unknown status; a body that is no JSON (ninja's 400) is invalid like any other."""
    status = 422 if error.status_code == 400 else error.status_code
    return _problem(status, CODES.get(status, "refused"), error.message)


def absent(request: HttpRequest, error: Http404) -> HttpResponse:
    """No such row, or somebody else's."""
    return _problem(404, "not_found", f"{error}: it is not there, or not yours")


def no_such_path(request: HttpRequest, rest: str = "") -> HttpResponse:
    """The view of every path under /api/ that is no operation."""
    return _problem(404, "not_found", f"there is no {request.path}; /api/docs lists what there is")


def method_refused(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """The middleware: a 405 of the API as JSON. ninja answers it as text, past its exception handlers."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code != 405 or not request.path.startswith("/api/"):
            return response
        allowed = response.headers.get("Allow", "")
        told = _problem(405, "method_not_allowed", f"{request.path} takes {allowed}, not {request.method}")
        told.headers["Allow"] = allowed
        return told

    return answer


def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Parameters of the wrong kind."""
    said = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors]
    return _problem(422, "invalid", "; ".join(f"{one['where']}: {one['what']}" for one in said), said)


def ours(request: HttpRequest, error: MaxxitError) -> HttpResponse:
    """What a step raised."""
    code: str = getattr(error, "code", type(error).__name__.lower())
    of_kind = next((number for kind, number in STATUS if isinstance(error, kind)), 500)
    return _problem(SAID_ELSEWHERE.get(code, of_kind), code, str(error))


def impossible(request: HttpRequest, error: DataError) -> HttpResponse:
    """A value that passed the schema and that no column can hold, such as a number out of range."""
    return _problem(422, "invalid", "a value is out of the range that can be stored or looked for")


ANSWERS: dict[Any, Any] = {
    DataError: impossible,
    AuthenticationError: nobody,
    HttpError: refused,
    Http404: absent,
    ValidationError: invalid,
    MaxxitError: ours,
}


def explain(api: NinjaAPI) -> None:
    """Let `api` answer so."""
    for error, answer in ANSWERS.items():
        api.add_exception_handler(error, answer)
