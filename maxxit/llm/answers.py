"""The JSON object in a model's text. Pure.

Models put words around their JSON. What is read, and nothing else:

* A text that is JSON as a whole is that JSON, also as a JSON string of JSON.
* Otherwise every whole JSON object outside reasoning (`<think> … </think>`) is a candidate: in prose, in code fences,
  alone in a list. Text before a closing tag without an opening one is reasoning; after an opening one without a
  closing one there is no answer.
* Of several objects the last with the wanted keys counts, or the last of all when none has them: a model corrects
  itself forwards.
* The JSON is strict. A trailing comma, a comment, a duplicate key, NaN or an infinity is refused with its reason.
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
    """The JSON object that `text` answers with; `keys` are those of the wanted object.

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
                raise ValueError("a list, where one JSON object is wanted")
            return alone[0]
    found, problems = _objects(bare)
    if not found:
        raise ValueError(problems[-1] if problems else "no JSON object in the answer")
    wanted = [one for one in found if set(keys) <= one.keys()]
    return (wanted or found)[-1]


def strict(text: str) -> Any:
    """`text` as JSON. Raises ValueError for what JSON does not know, for duplicate keys, and for deep nesting."""
    untrusted.check_depth(text)
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


def _objects(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """(the whole JSON objects outside reasoning, what was wrong with the others), in their order."""
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
                return found, [*problems, "the reasoning has no end, so there is no answer after it"]
            position = closing.end()
        else:
            end = _end(text, mark.start())
            if end is None:
                return found, [*problems, "the JSON ends in the middle"]
            position = end
            try:
                found += _whole(strict(text[mark.start() : end]))
            except ValueError as error:
                problems.append(f"no valid JSON: {error}")
    return found, problems


def _whole(value: Any) -> list[dict[str, Any]]:
    """The object, also alone in a list; other lists, such as the citation [1], hold no answer."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return [value] if isinstance(value, dict) else []


def _end(text: str, start: int) -> int | None:
    """Where the bracket that opens at `start` is closed again; None when it never is."""
    depth = 0
    for kind, position in _brackets(text, start):
        depth += 1 if kind in "{[" else -1
        if depth == 0:
            return position + 1
    return None


def _brackets(text: str, start: int) -> Iterator[tuple[str, int]]:
    """Each bracket outside strings, from `start` on."""
    for part in re.finditer(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', text[start:], re.DOTALL):
        if part[0][0] != '"':
            yield part[0], start + part.start()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:40]!r} stands twice in one object")
    return made


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is no finite number")
    return number
