"""Idempotency keys: a POST with the header `Idempotency-Key` takes effect once, however often it is sent.

The answer is stored with the key for 24 hours and given again. A key belongs to one user and one request: another path,
query or body with it is a conflict. Of requests that arrive at once one runs, and the others wait for its answer.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError
from ninja.operation import Operation

from maxxit.access.models import IdempotentRequest
from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Rejected, Unknown

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
KEY = re.compile(r"[!-~]{1,200}")
KEPT = timedelta(hours=24)
WAIT_SECONDS, POLL_SECONDS = 10.0, 0.05
"""How long a second request waits for the answer of the first one, counted from the start of the first one."""
CLAIM, SECRET = "_idempotent_claim", "_idempotent_secret"
"""Attributes of a request: the row of its key, and names of fields that are not stored with its answer."""
PARAMETER = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "description": "1 to 200 visible ASCII characters, for example a UUID: the request takes effect once, and its "
    "answer is given again for 24 hours. With another body: 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "example": "6f1c7a52-8f0e-4b3a-9a51-2f7f3f8f6b11",
}


def document(operation: Operation) -> None:
    """Add the header to the schema of a POST operation."""
    if "POST" in operation.methods:
        extra = operation.openapi_extra or {}
        operation.openapi_extra = extra | {"parameters": [*extra.get("parameters", []), PARAMETER]}


def hide(request: HttpRequest, *fields: str) -> None:
    """Store the answer of this request without these fields, which are secrets that are shown once."""
    setattr(request, SECRET, fields)


def once(request: HttpRequest, owner: AbstractBaseUser, run: Callable[[], Any]) -> Any:
    """Return what `run` returns, or the stored answer where this request took effect before.

    A refusal has no effect, so its key may be used again. After an error of another kind, or where the process died,
    the outcome is not known: the key stays in use and the answer is a conflict.

    Raises HttpError 422 for a malformed key; Rejected (`idempotency_key_reused`) for a key of another request,
    (`idempotency_key_in_use`) where the first request has not ended.
    """
    key = request.headers.get(HEADER)
    if request.method != "POST" or key is None:
        return run()
    if not KEY.fullmatch(key):
        raise HttpError(422, f"{HEADER}: give 1 to 200 visible ASCII characters, for example a UUID")
    claim = _claim(owner, key, _fingerprint(request))
    if isinstance(claim, HttpResponse):
        return claim
    try:
        result = run()
    except (MaxxitError, HttpError, Http404) as error:
        if not isinstance(error, Unknown):
            IdempotentRequest.objects.filter(pk=claim.pk).delete()
        raise
    setattr(request, CLAIM, claim)
    return result


class IdempotentAPI(NinjaAPI):
    """An API that stores the answers of requests with an idempotency key."""

    def create_response(self, request: HttpRequest, data: Any, **options: Any) -> HttpResponse:
        """Create the response, and store it where the request has a key."""
        response = super().create_response(request, data, **options)
        claim: IdempotentRequest | None = getattr(request, CLAIM, None)
        if claim is not None:
            body = _without(response.content, getattr(request, SECRET, ()))
            IdempotentRequest.objects.filter(pk=claim.pk).update(status=response.status_code, body=body)
        return response


def _without(content: bytes, fields: tuple[str, ...]) -> str:
    text = content.decode()
    if not fields:
        return text
    body = json.loads(text)
    return json.dumps(body | {field: "" for field in fields if field in body})


def _fingerprint(request: HttpRequest) -> str:
    digest = hashlib.sha256()
    for part in (str(request.method), request.get_full_path()):
        digest.update(part.encode() + b"\0")
    digest.update(request.body)
    return digest.hexdigest()


def _claim(owner: AbstractBaseUser, key: str, fingerprint: str) -> IdempotentRequest | HttpResponse:
    """Return the new row of this key, or the stored answer."""
    IdempotentRequest.objects.filter(created_at__lt=clock.now() - KEPT).delete()
    end = time.monotonic() + WAIT_SECONDS
    while True:
        row = IdempotentRequest.objects.filter(owner_id=owner.pk, key=key).first()
        if row is None:
            try:
                with transaction.atomic():
                    return IdempotentRequest.objects.create(
                        owner_id=owner.pk, key=key, fingerprint=fingerprint, created_at=clock.now()
                    )
            except IntegrityError:  # another request was first
                continue
        if row.fingerprint != fingerprint:
            raise Rejected(
                f"the {HEADER} {key} was used for another request: send another key",
                code="idempotency_key_reused",
            )
        if row.status is not None:
            answer = HttpResponse(row.body, content_type="application/json; charset=utf-8", status=row.status)
            answer.headers[REPLAYED] = "true"
            return answer
        abandoned = clock.now() - row.created_at >= timedelta(seconds=WAIT_SECONDS)
        if abandoned or time.monotonic() >= end:
            raise Rejected(
                f"the first request with the {HEADER} {key} has not ended: look whether it took effect, and send it "
                "again later or with another key",
                code="idempotency_key_in_use",
            )
        time.sleep(POLL_SECONDS)
