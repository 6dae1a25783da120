"""Validation of request input: NUL characters, lone surrogates, years, unknown states, codes and query parameters."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote_to_bytes

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from ninja.errors import HttpError
from ninja.operation import Operation
from ninja.parser import Parser
from ninja.utils import contribute_operation_callback
from pydantic import AfterValidator

from maxxit.core import untrusted

M = TypeVar("M", bound=Model)
YEARS = range(2000, 2101)
"""Accepted years of a time: no data is older, and date arithmetic fails near the years 1 and 9999."""
UNREADABLE = "the request contains a NUL character: remove it"


def _in_reach(moment: datetime) -> datetime:
    if moment.year not in YEARS:
        raise ValueError(f"the year must be from {YEARS[0]} to {YEARS[-1]}")
    return moment


When = Annotated[datetime, AfterValidator(_in_reach)]
"""A moment in the years of `YEARS`."""


def state_named(status: str, known: type[StrEnum]) -> str:
    """Parse a state, in any case. Raises HttpError 422 with the known ones."""
    names = [str(state) for state in known]
    if status.lower() not in names:
        raise unknown("status", status, (name.upper() for name in names))
    return status.lower()


def coded(rows: QuerySet[M], field: str, code: str, known: Collection[str]) -> QuerySet[M]:
    """Filter the rows whose `field` is `code`.

    Raises HttpError 422 with the known codes where `code` is not one of them and no row has it: venues and LLMs add
    their own codes.
    """
    matching = rows.filter(**{field: code})
    if code not in known and not matching.exists():
        raise unknown(field, code, known)
    return matching


def unknown(what: str, given: str, known: Iterable[str]) -> HttpError:
    """Return the 422 error for an unknown value."""
    return HttpError(422, f"no {what} {given!r}; known: {', '.join(known)}")


def known_query(view: Callable[..., Any]) -> Callable[..., Any]:
    """Make an API operation answer 422 to an unknown query parameter instead of ignoring it."""
    known: set[str] = set()

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if unknown := sorted(request.GET.keys() - known):
            listed = ", ".join(sorted(known)) or "none"
            raise HttpError(422, f"no query parameter {', '.join(map(repr, unknown))}; known: {listed}")
        return view(request, *args, **kwargs)

    def learn(operation: Operation) -> None:
        for model in operation.models:
            if model.__ninja_param_source__ == "query":
                known.update(getattr(model, "__ninja_flatten_map__", {}))

    contribute_operation_callback(checked, learn)
    return checked


def refuse_nul(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: answer 422 (API) or 400 to a NUL in path, query or cookies, which would fail in Postgres as a 500.

    Form fields reject it themselves, and `ReadableJson` rejects it in bodies.
    """

    def check(request: HttpRequest) -> HttpResponse:
        query = unquote_to_bytes(request.META.get("QUERY_STRING", ""))
        given = (request.path, *request.COOKIES.keys(), *request.COOKIES.values())
        if b"\0" not in query and not any("\0" in text for text in given):
            return get_response(request)
        if request.path.startswith("/api/"):
            return JsonResponse({"code": "invalid", "message": UNREADABLE}, status=422)
        return HttpResponseBadRequest(UNREADABLE)

    return check


class ReadableJson(Parser):
    """Parser of API bodies: JSON whose strings Postgres can store."""

    def parse_body(self, request: HttpRequest) -> Any:
        """Parse the body. Raises HttpError 422 for NUL characters and lone surrogates, ValueError for invalid JSON."""
        body = untrusted.loads(request.body)  # limits nesting
        if not _readable(body):
            raise HttpError(
                422, "a string of the body contains a NUL character or a lone surrogate: remove it"
            )
        return body


def _readable(value: Any) -> bool:
    if isinstance(value, str):
        return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return all(_readable(key) and _readable(item) for key, item in value.items())
    return all(_readable(item) for item in value) if isinstance(value, list) else True
