"""Parse error bodies of LLM servers: content filter, context length, or a rejected parameter.

Servers with the same API report errors differently: OpenAI and Azure set `error.param` and `error.code`, FastAPI
servers list `detail[].loc`, others only write a sentence.
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
"""Words of content filters in error codes, messages and finish reasons."""
TOO_LONG = re.compile(r"context[ _](length|limit|window)|prompt is too long|too many tokens", re.IGNORECASE)
REFUSES = re.compile(
    r"unsupported|not (currently )?(supported|permitted|allowed|available|recognized|valid)|unrecogni[sz]ed|unknown"
    r"|unexpected|extra (inputs|fields)|invalid|deprecated|cannot|can't|does ?n.t support|does not|must|only|instead"
    r"|too (large|high|small)|exceed|greater|less than|> ",
    re.IGNORECASE,
)
"""Words of a sentence that blames the parameter it names."""
PROMPT_FIELDS = frozenset({"messages", "input", "prompt", "system", "content"})


def error_of(body: str) -> Any:
    """Return the error object of a body, or an empty object."""
    try:
        parsed = untrusted.loads(body)
    except ValueError:
        return {}
    if isinstance(parsed, list):  # Google's OpenAI-compatible endpoint wraps its errors in a list
        parsed = parsed[0] if parsed else {}
    return parsed if isinstance(parsed, dict) else {}


def is_filtered(body: str) -> bool:
    """Return whether a content filter rejected the request."""
    found = error_of(body)
    error = found.get("error") if isinstance(found.get("error"), dict) else found
    words = [error.get(name) for name in ("code", "type", "message", "status")]
    inner = error.get("innererror")
    words.append(inner.get("code") if isinstance(inner, dict) else None)
    return any(FILTER.search(word) for word in words if isinstance(word, str))


def is_too_long(body: str) -> bool:
    """Return whether the prompt is longer than the model's context."""
    return bool(TOO_LONG.search(body))


def refused_parameter(body: str, sent: Collection[str]) -> str:
    """Return which of the parameters `sent` the error names as its cause; empty when none."""
    found = error_of(body)
    error = found.get("error") if isinstance(found.get("error"), dict) else found
    named = error.get("param")
    if isinstance(named, str) and named:
        first = re.split(r"[.\[]", named)[0]
        return first if first in sent and first not in PROMPT_FIELDS else ""
    for location in _locations(found):
        if named := [step for step in location if isinstance(step, str) and step in sent]:
            return "" if named[0] in PROMPT_FIELDS else str(named[0])
    return _named_in_words(error.get("message") or error.get("detail") or error.get("error") or body, sent)


def _locations(value: Any) -> Iterator[list[Any]]:
    """Yield each `loc` in an error of FastAPI or pydantic, also where it is quoted as text."""
    if isinstance(value, dict):
        if isinstance(value.get("loc"), list):
            yield value["loc"]
        for item in value.values():
            yield from _locations(item)
    elif isinstance(value, list):
        for item in value:
            yield from _locations(item)
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
        if (name not in PROMPT_FIELDS and "_" in name) or name in {"temperature", "tools", "seed", "model"}
        if (place := re.search(rf"(?<![\w-]){name}(?![\w-])", text))
    }
    return min(places, key=lambda name: places[name]) if places else ""
