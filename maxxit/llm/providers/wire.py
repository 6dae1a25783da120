"""Base of the HTTP provider adapters: send the request, drop parameters that a model rejects, read untrusted JSON."""

from collections.abc import Mapping
from typing import Any, ClassVar

import structlog

from maxxit.core import untrusted
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.core.http import client, fetch
from maxxit.llm.providers import error_bodies
from maxxit.llm.providers.base import Answer, Request, Unanswered

log = structlog.get_logger(__name__)
MAX_ANSWER = 1_000_000
"""Bytes; an answer about a thousand posts is a quarter of it."""
MAY_WORK_LATER = frozenset({"http_408", "http_425", "http_498"})
"""Timeout on the server, too early, no capacity."""
ACCOUNT_ERRORS = frozenset({"http_401", "http_402", "http_403", "http_404"})
"""Wrong key, no credit, no permission, no such model: errors of our account or settings, not of the prompt."""

_rejected: dict[tuple[str, str, str], frozenset[str]] = {}
"""(provider, base URL, model) -> parameters that it rejected in this process and works without."""


class HttpProvider:
    """Base of providers over HTTP. `timeout` in seconds."""

    path: ClassVar[str]
    """Path of the endpoint under the base URL."""
    droppable: ClassVar[frozenset[str]]
    """Optional parameters."""

    def __init__(
        self, *, name: str, model: str, base_url: str, key: str, temperature: float, timeout: float
    ) -> None:
        self.name, self.model, self.base_url = name, model, base_url
        self.parameters: Mapping[str, Any] = {"temperature": temperature}
        self._key, self._timeout = key, timeout

    def complete(self, request: Request) -> Answer:
        """Send one prompt; a parameter that the model rejects is dropped for the rest of this process."""
        model = (self.name, self.base_url, self.model)
        refused = known = _rejected.get(model, frozenset())
        while True:
            body = self.body(request, refused)
            try:
                answer = post(self.base_url, self.path, self.headers(), self._timeout, body)
            except Rejected as error:
                refused = refused | {self._parameter_to_drop(error, body, refused)}
                continue
            if refused != known:
                _rejected[model] = refused
                log.warning(
                    "llm_parameters_refused", provider=self.name, model=self.model, names=sorted(refused)
                )
            return self.read(answer, request)

    def headers(self) -> dict[str, str]:
        """Return the request headers, with the key."""
        raise NotImplementedError

    def body(self, request: Request, refused: frozenset[str]) -> dict[str, Any]:
        """Return the request body, without the parameters in `refused`."""
        raise NotImplementedError

    def read(self, answer: Mapping[str, Any], request: Request) -> Answer:
        """Read the answer from the response JSON. Raises `Unanswered` where the model gave none."""
        raise NotImplementedError

    def _parameter_to_drop(self, error: Rejected, body: Mapping[str, Any], refused: frozenset[str]) -> str:
        """Return the optional parameter that the server rejected. Raises the error when it is about something else."""
        if error.code in ACCOUNT_ERRORS:
            raise error
        if error.code in MAY_WORK_LATER:
            raise Retryable(str(error)) from error
        if error_bodies.is_filtered(error.body):
            raise self.unanswered("filtered", str(error)) from error
        if error_bodies.is_too_long(error.body):
            raise error
        name = error_bodies.refused_parameter(error.body, body.keys())
        if not name:
            raise error
        if name not in self.droppable or name in refused:
            raise Misconfigured(
                f"config/llm.yaml: providers.{self.name} ({self.model or 'no model'}): the server refuses"
                f" {name!r}, which is required: {error}"
            ) from error
        return name

    def unanswered(self, kind: str, words: str, answer: Mapping[str, Any] | None = None) -> Unanswered:
        """Return the error for an answer without content; `kind` is refused, filtered or empty."""
        return Unanswered(
            f"{self.name}: answer {kind}: {words[:300]}",
            code=f"answer_{kind}",
            answer=self.answer("", answer or {}),
        )

    def answer(self, text: str, answer: Mapping[str, Any], *, truncated: bool = False) -> Answer:
        """Return `text` with the model and token counts of the response JSON."""
        raise NotImplementedError


def post(base_url: str, path: str, headers: dict[str, str], timeout: float, body: Any) -> Mapping[str, Any]:
    """POST `body` as JSON and return the response, a JSON object.

    A prompt changes nothing on the server, so every failure after sending is `Retryable`.
    """
    with client(base_url.rstrip("/"), headers=headers, timeout=timeout) as http:
        response = fetch(http, "POST", path, json=body, max_body=MAX_ANSWER)
    try:
        answer = untrusted.loads(response.content)
    except ValueError as error:
        raise Retryable(f"{response.url.host} did not answer with JSON: {error}") from error
    if not isinstance(answer, dict):
        raise Retryable(f"{response.url.host} answered with JSON that is not an object")
    return answer


def dig(value: Any, *path: str | int) -> Any:
    """Return the value at `path` in nested objects and lists, or None."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def raise_error_in_200(name: str, error: Any) -> None:
    """Raise the error that a gateway returned with status 200, by its inner code; do nothing for None."""
    if not error:
        return
    words = str(dig(error, "message") or error)[:300]
    code = dig(error, "code")
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()) else 0
    if 400 <= status < 500 and status != 429 and f"http_{status}" not in MAY_WORK_LATER:
        raise Rejected(f"{name} answered {status}: {words}", code=f"http_{status}")
    raise Retryable(f"{name} answered with an error: {words}")


def count(value: Any) -> int | None:
    """Return a token count, or None where the value is not a valid one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
