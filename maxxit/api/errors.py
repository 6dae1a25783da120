"""Error answers of the API: every refusal is JSON with a stable code and a message that names the fix."""

from collections.abc import Callable
from typing import Any

from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from maxxit.core.errors import InvalidInput, MaxxitError, Misconfigured, Rejected, Retryable, StaleState

CODES = {401: "unauthenticated", 403: "forbidden", 422: "invalid", 429: "too_many_requests"}
STATUS: tuple[tuple[type[MaxxitError], int], ...] = (
    (InvalidInput, 422),
    (Rejected, 409),
    (StaleState, 409),
    (Retryable, 503),
    (Misconfigured, 503),
)
STATUS_OF_CODE = {
    "not_found": 404, "not_a_uuid": 422, "no_span": 422, "invalid": 422, "no_agent": 422, "no_token": 422,
    "no_account": 422, "no_outcome": 422, "no_month": 422,
}  # fmt: skip
"""Codes of `Rejected` that are not a conflict (409)."""


def _problem(status: int, code: str, message: str, detail: Any = None) -> HttpResponse:
    body = {"code": code, "message": message} | ({"detail": detail} if detail else {})
    return JsonResponse(body, status=status)


def unauthenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    """Answer 401: there is no key, or it is unknown, revoked or expired."""
    message = (
        "send a key as X-API-Key or Authorization: Bearer: "
        "make one in Settings, API keys, or by `manage.py apikey create`"
    )
    return _problem(401, "unauthenticated", message)


def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Answer with the status that was raised; ninja's 400 for a body that is not JSON becomes 422."""
    status = 422 if error.status_code == 400 else error.status_code
    return _problem(status, CODES.get(status, "refused"), error.message)


def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    """Answer 404: there is no such row, or it belongs to another customer."""
    return _problem(404, "not_found", f"{error}: it does not exist, or is not yours")


def unknown_path(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Answer 404 for every path under /api/ that is no operation."""
    return _problem(404, "not_found", f"there is no {request.path}; /api/docs lists the paths")


def method_not_allowed(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that turns a 405 of the API into JSON: ninja answers it as text, past its exception handlers."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code != 405 or not request.path.startswith("/api/"):
            return response
        allowed = response.headers.get("Allow", "")
        problem = _problem(405, "method_not_allowed", f"{request.path} takes {allowed}, not {request.method}")
        problem.headers["Allow"] = allowed
        return problem

    return answer


def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Answer 422 with each invalid parameter and what is wrong with it."""
    detail = [{"where": ".".join(map(str, item["loc"])), "what": item["msg"]} for item in error.errors]
    message = "; ".join(f"{item['where']}: {item['what']}" for item in detail)
    return _problem(422, "invalid", message, detail)


def domain_error(request: HttpRequest, error: MaxxitError) -> HttpResponse:
    """Answer with the status that belongs to the error's code or class."""
    code: str = getattr(error, "code", type(error).__name__.lower())
    of_class = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    detail = (
        [{"where": field, "what": text} for field, text in error.problems.items()]
        if isinstance(error, InvalidInput)
        else None
    )
    return _problem(STATUS_OF_CODE.get(code, of_class), code, str(error), detail)


def out_of_range(request: HttpRequest, error: DataError) -> HttpResponse:
    """Answer 422 for a value that passed the schema but fits no column."""
    return _problem(422, "invalid", "a number is outside the range that the database can store")


HANDLERS: dict[Any, Any] = {
    DataError: out_of_range,
    AuthenticationError: unauthenticated,
    HttpError: http_error,
    Http404: not_found,
    ValidationError: invalid,
    MaxxitError: domain_error,
}


def add_handlers(api: NinjaAPI) -> None:
    """Register the exception handlers of this module with `api`."""
    for error, handler in HANDLERS.items():
        api.add_exception_handler(error, handler)
