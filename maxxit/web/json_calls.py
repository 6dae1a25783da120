"""Calls of the pages' scripts: a JSON body in, JSON out. An error has `code`, `message` and, where a field of the page
is meant, `field`."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import structlog
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST
from pydantic import BaseModel, ConfigDict, ValidationError

from maxxit.core import untrusted
from maxxit.core.errors import Misconfigured, Rejected, Retryable, StaleState, Unknown
from maxxit.web.sentences import sentence

log = structlog.get_logger(__name__)
B = TypeVar("B", bound="JsonBody")
STATUS = {"limited": 429, "no_account": 404, "anonymous": 401}
"""Code of a refusal -> HTTP status; 422 for others."""
FIELDS = ("username", "invitation", "otp_token")
"""Codes that are names of fields on the page."""


class JsonBody(BaseModel):
    """The body of a call; an unknown field is refused."""

    model_config = ConfigDict(extra="forbid")


def json_call(model: type[B]) -> Callable[[Callable[..., dict[str, Any]]], Callable[..., HttpResponse]]:
    """Decorate a view that takes a JSON body of `model` and returns the data of its answer."""

    def decorate(view: Callable[..., dict[str, Any]]) -> Callable[..., HttpResponse]:
        @never_cache
        @require_POST
        @sensitive_variables()
        @wraps(view)
        def answered(request: HttpRequest, **path: Any) -> HttpResponse:
            try:
                body = model.model_validate(untrusted.loads(request.body))
            except ValidationError as error:
                field = ".".join(map(str, error.errors()[0]["loc"]))
                return refusal(
                    "invalid", f"{field or 'the request'} is missing or wrong: reload the page", 422
                )
            except ValueError:
                return refusal("invalid", "the request is not JSON: reload the page", 422)
            try:
                return JsonResponse(view(request, body, **path))
            except Rejected as error:
                return refusal(error.code, str(error), STATUS.get(error.code, 422))
            except (Retryable, Unknown, StaleState) as error:
                return refusal("unavailable", str(error), 503)
            except Misconfigured as error:  # the message names files that an operator can reach
                log.error("call_misconfigured", path=request.path, error=str(error))
                return refusal("not_set_up", "the platform is not set up for this yet: ask an operator", 503)

        return answered

    return decorate


def refusal(code: str, message: str, status: int) -> JsonResponse:
    """Return an error; the message becomes a sentence."""
    field = {"field": code} if code in FIELDS else {}
    return JsonResponse({"code": code, "message": sentence(message)} | field, status=status)
