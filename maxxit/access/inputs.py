"""Input that is refused: NUL characters, lone surrogates, times out of reach, unknown states, codes and parameters."""

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
"""Of a moment that a caller names: nothing of ours is older, and arithmetic with times ends at the years 1 and 9999."""
UNREADABLE = "the request has a NUL character, which no text here may have"


def _in_reach(moment: datetime) -> datetime:
    if moment.year not in YEARS:
        raise ValueError(f"the year must be from {YEARS[0]} to {YEARS[-1]}")
    return moment


When = Annotated[datetime, AfterValidator(_in_reach)]
"""A moment in the years of `YEARS`."""


def state_named(status: str, known: type[StrEnum]) -> str:
    """The state that a caller names, in whatever case. Raises HttpError 422 with the known ones."""
    names = [str(one) for one in known]
    if status.lower() not in names:
        raise unknown("status", status, (name.upper() for name in names))
    return status.lower()


def coded(rows: QuerySet[M], field: str, code: str, known: Collection[str]) -> QuerySet[M]:
    """The rows whose `field` is `code`.

    Raises HttpError 422 with the known codes where `code` is not one of them and no row has it: venues and models add
    codes of their own.
    """
    found = rows.filter(**{field: code})
    if code not in known and not found.exists():
        raise unknown(field, code, known)
    return found


def unknown(what: str, given: str, known: Iterable[str]) -> HttpError:
    """The 422 for a value that is none of the known ones."""
    return HttpError(422, f"no {what} {given!r}; known: {', '.join(known)}")


def known_query(view: Callable[..., Any]) -> Callable[..., Any]:
    """An operation of the API that answers 422 to a query parameter that it does not have, instead of ignoring it."""
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
    """The middleware: 422 (API) or 400 for a NUL in path, query or cookies; Postgres would refuse it later, as a 500.

    Forms refuse it in their fields by themselves, and `ReadableJson` in bodies.
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
    """Bodies of the API: JSON whose texts Postgres can hold."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The body. Raises HttpError 422 for NUL characters and lone surrogates, ValueError for what is not JSON."""
        found = untrusted.loads(request.body)  # Python's own decoder would follow a hundred thousand brackets
        if not _readable(found):
            raise HttpError(422, "a text of the body has a NUL character or half of a surrogate pair")
        return found


def _readable(value: Any) -> bool:
    if isinstance(value, str):
        return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return all(_readable(key) and _readable(one) for key, one in value.items())
    return all(_readable(one) for one in value) if isinstance(value, list) else True
