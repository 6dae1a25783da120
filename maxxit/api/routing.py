"""The router of the API's modules: operations whose refusals share one model."""

from collections.abc import Callable
from typing import Any

import ninja
from ninja import Schema
from ninja.constants import NOT_SET

from maxxit.reports.schemas import Problem


class Refusal(Schema):
    """What ninja wraps the schema of an answer into, here of every refusal."""

    response: Problem


class Router(ninja.Router):
    """A router that documents the status codes of refusals with one model.

    ninja makes a model for each status code of each operation. Those of refusals are never used to answer: the
    exception handlers write them (`maxxit.api.errors`). 550 of them would cost each start and each command 0.1 s.
    """

    def add_api_operation(
        self,
        path: str,
        methods: list[str],
        view_func: Callable[..., Any],
        *,
        response: Any = NOT_SET,
        **options: Any,
    ) -> None:
        """Add an operation; `response` is a schema, or one for each status code."""
        answers, refusals = _split(response) if isinstance(response, dict) else (response, {})
        super().add_api_operation(path, methods, view_func, response=answers, **options)
        view_func._ninja_operation.response_models.update(refusals)  # type: ignore[attr-defined]


def _split(response: dict[int, Any]) -> tuple[dict[int, Any], dict[int, type[Schema]]]:
    refusals = [code for code, schema in response.items() if schema is Problem]
    answers = {code: schema for code, schema in response.items() if code not in refusals}
    return answers, dict.fromkeys(refusals, Refusal)
