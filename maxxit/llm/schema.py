"""Convert a pydantic model to the JSON schema that is sent, and an answer's text to the model."""

import json
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from maxxit.core import redact, untrusted
from maxxit.core.errors import Rejected
from maxxit.llm import answers

M = TypeVar("M", bound=BaseModel)
MAX_PROBLEMS = 10


@cache
def wire_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of `schema`, restricted to what all providers support."""
    simple: dict[str, Any] = _simple(schema.model_json_schema())
    return simple


def _simple(part: Any) -> Any:
    """Reduce decimals to plain numbers (pydantic also allows strings) and drop titles."""
    if isinstance(part, list):
        return [_simple(item) for item in part]
    if not isinstance(part, dict):
        return part
    numbers = [option for option in part.get("anyOf", ()) if option.get("type") == "number"]
    if numbers and len(part["anyOf"]) == 2:
        rest = {name: item for name, item in part.items() if name not in {"anyOf", "title"}}
        return rest | numbers[0]
    return {
        name: _simple(item) for name, item in part.items() if not (name == "title" and isinstance(item, str))
    }


def clean(text: str, schema: type[BaseModel] | None = None) -> str:
    """Redact a raw answer and make it storable: only its JSON object, or all of it where there is none."""
    try:
        found = answers.find(text, _required(schema))
    except ValueError:
        return str(untrusted.storable(redact.text(text)))
    return json.dumps(untrusted.storable(redact.value(found)), ensure_ascii=False)


def _required(schema: type[BaseModel] | None) -> list[str]:
    fields = schema.model_fields if schema else {}
    return [name for name, field in fields.items() if field.is_required()]


def read_answer(schema: type[M], text: str) -> M:
    """Parse a cleaned answer. Raises `Rejected` (answer_invalid) with the problems, for the repair prompt."""
    try:
        found = answers.find(text, _required(schema))
    except ValueError as error:
        raise Rejected(f"the answer is invalid: {str(error)[:200]}", code="answer_invalid") from None
    try:
        return schema.model_validate_json(json.dumps(found))
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part)[:40] for part in problem['loc'])}: {problem['msg'][:200]}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        summary = "; ".join(problems[:MAX_PROBLEMS])
        raise Rejected(f"the answer is invalid: {summary}", code="answer_invalid") from None


def salvage(schema: type[M], text: str) -> M | None:
    """Return the usable part of an invalid answer where the schema defines one (`lenient`), else None."""
    lenient = getattr(schema, "lenient", None)
    if lenient is None:
        return None
    try:
        usable: M | None = lenient(answers.find(text, _required(schema)))
    except ValueError:
        return None
    return usable
