"""What both wire shapes share: one POST, parameters that a model refuses, reading an answer that may hold anything."""

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
"""Bytes. A thousand readings are a quarter of it."""
MAY_WORK_LATER = frozenset({"http_408", "http_425", "http_498"})
"""A timeout on the other side, too early, no capacity."""
NOT_THE_QUESTION = frozenset({"http_401", "http_402", "http_403", "http_404"})

_refused: dict[tuple[str, str, str], frozenset[str]] = {}
"""(provider, base URL, model) -> the parameters that it refused in this process and answered without."""


class Wired:
    """A provider over HTTP: its name, its model, its place, its key and how long it may take (seconds)."""

    path: ClassVar[str]
    """Of the call, under the base URL."""
    droppable: ClassVar[frozenset[str]]
    """Parameters that a request can do without."""

    def __init__(
        self, *, name: str, model: str, base_url: str, key: str, temperature: float, timeout: float
    ) -> None:
        self.name, self.model, self.base_url = name, model, base_url
        self.parameters: Mapping[str, Any] = {"temperature": temperature}
        self._key, self._timeout = key, timeout

    def complete(self, request: Request) -> Answer:
        """Ask once; a parameter that the model refuses is left out, now and for the rest of this process."""
        place = (self.name, self.base_url, self.model)
        refused = known = _refused.get(place, frozenset())
        while True:
            body = self.body(request, refused)
            try:
                answer = post(self.base_url, self.path, self.headers(), self._timeout, body)
            except Rejected as error:
                refused = refused | {self._parameter_to_drop(error, body, refused)}
                continue
            if refused != known:
                _refused[place] = refused
                log.warning(
                    "llm_parameters_refused", provider=self.name, model=self.model, names=sorted(refused)
                )
            return self.read(answer, request)

    def headers(self) -> dict[str, str]:
        """Of one call, with the key."""
        raise NotImplementedError

    def body(self, request: Request, refused: frozenset[str]) -> dict[str, Any]:
        """The JSON of one call, without the parameters in `refused`."""
        raise NotImplementedError

    def read(self, answer: Mapping[str, Any], request: Request) -> Answer:
        """The answer in the wire's JSON. Raises `Unanswered` where the model gave none to this question."""
        raise NotImplementedError

    def _parameter_to_drop(self, error: Rejected, body: Mapping[str, Any], refused: frozenset[str]) -> str:
        """The parameter that the server refused and that we can do without. Raises the right error when it is none."""
        if error.code in NOT_THE_QUESTION:
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
                f" {name!r}, which the request needs: {error}"
            ) from error
        return name

    def unanswered(self, kind: str, words: str, answer: Mapping[str, Any] | None = None) -> Unanswered:
        """The error for an answer without content: `kind` is refused, filtered or empty."""
        return Unanswered(
            f"{self.name}: answer {kind}: {words[:300]}",
            code=f"answer_{kind}",
            answer=self.answer("", answer or {}),
        )

    def answer(self, text: str, answer: Mapping[str, Any], *, truncated: bool = False) -> Answer:
        """`text` with the model and the tokens that the wire's JSON names."""
        raise NotImplementedError


def post(base_url: str, path: str, headers: dict[str, str], timeout: float, body: Any) -> Mapping[str, Any]:
    """POST `body` as JSON; the answer as an object.

    Asking a model changes nothing on the other side, so every failure after sending is `Retryable`.
    """
    with client(base_url.rstrip("/"), headers=headers, timeout=timeout) as http:
        response = fetch(http, "POST", path, json=body, max_body=MAX_ANSWER)
    try:
        answer = untrusted.loads(response.content)
    except ValueError as error:
        raise Retryable(f"{response.url.host} answered something that is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise Retryable(f"{response.url.host} answered JSON that is no object")
    return answer


def dig(value: Any, *way: str | int) -> Any:
    """What stands at the end of `way` through objects and lists, or None."""
    for step in way:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def raise_error_in_200(name: str, error: Any) -> None:
    """Raise the error that a gateway put into a 200, by the code of the server behind it; None: there is none."""
    if not error:
        return
    words = str(dig(error, "message") or error)[:300]
    code = dig(error, "code")
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()) else 0
    if 400 <= status < 500 and status != 429 and f"http_{status}" not in MAY_WORK_LATER:
        raise Rejected(f"{name} answered {status}: {words}", code=f"http_{status}")
    raise Retryable(f"{name} answered an error: {words}")


def count(value: Any) -> int | None:
    """A number of tokens, or None where the provider did not say a sensible one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
