"""What both wire shapes share: who is asked, one POST, and reading an answer that may hold anything."""

from collections.abc import Mapping
from typing import Any

from maxxit.core import untrusted
from maxxit.core.errors import Retryable
from maxxit.core.http import client, fetch

MAX_ANSWER = 1_000_000
"""Bytes. A thousand readings are a quarter of it."""


class Wired:
    """A provider over HTTP: its name, its model, its place, its key and how long it may take (seconds)."""

    def __init__(
        self, *, name: str, model: str, base_url: str, key: str, temperature: float, timeout: float
    ) -> None:
        self.name, self.model, self.base_url = name, model, base_url
        self.parameters: Mapping[str, Any] = {"temperature": temperature}
        self._key, self._timeout = key, timeout


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


def count(value: Any) -> int | None:
    """A number of tokens, or None where the provider did not say a sensible one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
