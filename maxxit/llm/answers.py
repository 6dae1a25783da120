"""Extract the JSON object from an LLM's text.

Models write text around their JSON. The rules:

* Text that is JSON as a whole is parsed as such, also a JSON string that contains JSON.
* Otherwise every complete JSON object outside reasoning (`<think> … </think>`) is a candidate: in prose, in code
  fences, or as the only item of a list. Text before a closing tag without an opening one is reasoning; after an
  opening tag without a closing one there is no answer.
* Of several objects the last with the expected keys is used, or the last one when none has them: models correct
  themselves later in the text.
* JSON is strict: a trailing comma, a comment, a duplicate key, NaN or infinity is rejected with its reason.
"""

import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from maxxit.core import untrusted

_MARK = re.compile(r"<\s*(?P<close>/?)\s*(?:think|thinking|thought|reasoning)\s*>|[{\[]", re.IGNORECASE)
_CLOSE = re.compile(r"<\s*/\s*(?:think|thinking|thought|reasoning)\s*>", re.IGNORECASE)


def find(text: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """Return the JSON object in `text`; `keys` are the expected keys.

    Raises ValueError with the reason when there is none.
    """
    bare = text.strip().removeprefix("\ufeff").strip()
    if bare[:1] in {"{", "[", '"'}:
        try:
            whole = strict(bare)
        except ValueError:
            pass
        else:
            if isinstance(whole, str):
                return find(whole, keys)
            if not (alone := _whole(whole)):
                raise ValueError("a list where one JSON object is expected")
            return alone[0]
    found, problems = _objects(bare)
    if not found:
        raise ValueError(problems[-1] if problems else "no JSON object in the answer")
    expected = [candidate for candidate in found if set(keys) <= candidate.keys()]
    return (expected or found)[-1]


def strict(text: str) -> Any:
    """Parse strict JSON. Raises ValueError for invalid JSON, duplicate keys and deep nesting."""
    untrusted.check_depth(text)
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


def _objects(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return (the complete JSON objects outside reasoning, the errors of the others), in order."""
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    position = 0
    while mark := _MARK.search(text, position):
        if mark["close"]:
            found, problems = [], []
            position = mark.end()
        elif mark[0] not in "{[":
            closing = _CLOSE.search(text, mark.end())
            if closing is None:
                return found, [*problems, "the reasoning does not end, so there is no answer after it"]
            position = closing.end()
        else:
            end = _end(text, mark.start())
            if end is None:
                return found, [*problems, "the JSON is incomplete"]
            position = end
            try:
                found += _whole(strict(text[mark.start() : end]))
            except ValueError as error:
                problems.append(f"invalid JSON: {error}")
    return found, problems


def _whole(value: Any) -> list[dict[str, Any]]:
    """Return an object, also as the only item of a list; other lists, such as the citation [1], hold none."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return [value] if isinstance(value, dict) else []


def _end(text: str, start: int) -> int | None:
    """Return the end of the bracket that opens at `start`; None when it is not closed."""
    depth = 0
    for kind, position in _brackets(text, start):
        depth += 1 if kind in "{[" else -1
        if depth == 0:
            return position + 1
    return None


def _brackets(text: str, start: int) -> Iterator[tuple[str, int]]:
    """Yield each bracket outside strings, from `start` on."""
    for part in re.finditer(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', text[start:], re.DOTALL):
        if part[0][0] != '"':
            yield part[0], start + part.start()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        duplicate = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {duplicate[:40]!r} appears twice in one object")
    return mapping


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is not a finite number")
    return number
