"""Read why a model server refused a request. Pure: an error body in, a reason out.

Servers that speak the same API word their errors differently: OpenAI and Azure name `error.param` and `error.code`,
FastAPI servers list `detail[].loc`, others only write a sentence.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from maxxit.core import untrusted

FILTER = re.compile(
    r"content[ _-]?(filter|policy|management)|responsible[ _]?ai|safety|prohibited|blocklist|invalid_prompt"
    r"|usage polic|moderation|flagged|recitation",
    re.IGNORECASE,
)
"""A content filter's words, in error codes, messages and finish reasons."""
TOO_LONG = re.compile(r"context[ _](length|limit|window)|prompt is too long|too many tokens", re.IGNORECASE)
REFUSES = re.compile(
    r"unsupported|not (currently )?(supported|permitted|allowed|available|recognized|valid)|unrecogni[sz]ed|unknown"
    r"|unexpected|extra (inputs|fields)|invalid|deprecated|cannot|can't|does ?n.t support|does not|must|only|instead"
    r"|too (large|high|small)|exceed|greater|less than|> ",
    re.IGNORECASE,
)
"""What a sentence that names a parameter says of it when the parameter is the trouble."""
OF_THE_QUESTION = frozenset({"messages", "input", "prompt", "system", "content"})


def error_of(body: str) -> Any:
    """The error object of a body, or an empty object."""
    try:
        found = untrusted.loads(body)
    except ValueError:
        return {}
    if isinstance(found, list):  # Google's OpenAI-compatible endpoint wraps its errors in a list
        found = found[0] if found else {}
    return found if isinstance(found, dict) else {}


def is_filtered(body: str) -> bool:
    """Whether a content filter refused the request."""
    found = error_of(body)
    error = found.get("error") if isinstance(found.get("error"), dict) else found
    words = [error.get(name) for name in ("code", "type", "message", "status")]
    inner = error.get("innererror")
    words.append(inner.get("code") if isinstance(inner, dict) else None)
    return any(FILTER.search(word) for word in words if isinstance(word, str))


def is_too_long(body: str) -> bool:
    """Whether the question is longer than the model's context."""
    return bool(TOO_LONG.search(body))


def refused_parameter(body: str, sent: Collection[str]) -> str:
    """Which of the parameters `sent` the error names as its cause; empty when it is none of them."""
    found = error_of(body)
    error = found.get("error") if isinstance(found.get("error"), dict) else found
    named = error.get("param")
    if isinstance(named, str) and named:
        first = re.split(r"[.\[]", named)[0]
        return first if first in sent and first not in OF_THE_QUESTION else ""
    for place in _places(found):
        if own := [step for step in place if isinstance(step, str) and step in sent]:
            return "" if own[0] in OF_THE_QUESTION else str(own[0])
    return _named_in_words(error.get("message") or error.get("detail") or error.get("error") or body, sent)


def _places(value: Any) -> Iterator[list[Any]]:
    """Each `loc` in an error of FastAPI or pydantic, also where it is quoted as text."""
    if isinstance(value, dict):
        if isinstance(value.get("loc"), list):
            yield value["loc"]
        for item in value.values():
            yield from _places(item)
    elif isinstance(value, list):
        for item in value:
            yield from _places(item)
    elif isinstance(value, str):
        for quoted in re.findall(r"'loc': ?[(\[]([^)\]]*)[)\]]", value):
            yield re.findall(r"'([^']*)'", quoted)


def _named_in_words(words: Any, sent: Collection[str]) -> str:
    text = words if isinstance(words, str) else json.dumps(words)
    if not REFUSES.search(text):
        return ""
    places = {
        name: place.start()
        for name in sent
        if (name not in OF_THE_QUESTION and "_" in name) or name in {"temperature", "tools", "seed", "model"}
        if (place := re.search(rf"(?<![\w-]){name}(?![\w-])", text))
    }
    return min(places, key=lambda name: places[name]) if places else ""
