"""Help texts of model fields match the code."""

import re
from decimal import Decimal

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError

from maxxit.access.models import ApiKey
from maxxit.core.config import ROOT
from maxxit.events.models import Event
from maxxit.knowledge.models import Item
from signals_app.authors.impact import HIGHEST
from signals_app.models import ImpactFactorHistory


def help_of(model: type, name: str) -> str:
    return str(model._meta.get_field(name).help_text)  # type: ignore[attr-defined]


def test_a_field_that_its_help_calls_a_fraction_takes_0_to_1() -> None:
    fractions = [
        field
        for model in apps.get_app_config("agents").get_models()
        for field in model._meta.get_fields()
        if re.match(r"fraction\b", str(getattr(field, "help_text", "")))
    ]
    assert {field.name for field in fractions} == {"min_confidence", "profit_share", "impact_factor"}
    for field in fractions:
        for value in ("0", "0.5", "1"):
            field.run_validators(Decimal(value))  # type: ignore[union-attr]
        for value in ("-0.01", "1.01"):
            with pytest.raises(ValidationError):
                field.run_validators(Decimal(value))  # type: ignore[union-attr]


def test_the_help_of_scopes_names_each_scope() -> None:
    assert re.findall(r"(?:^|; )(\w+): ", help_of(ApiKey, "scopes")) == [name for name, _ in ApiKey.SCOPES]


def test_the_events_that_help_gives_as_examples_exist() -> None:
    code = "".join(path.read_text() for path in (ROOT / "trading").rglob("*.py"))
    for name in re.findall(r"[a-z]+\.[a-z]+", help_of(Event, "name")):
        kind, _, state = name.partition(".")
        states = {
            state
            for model in apps.get_models()
            if model._meta.model_name == kind
            for state in getattr(model, "MOVES", {})
        }
        assert state in states or f'"{name}"' in code, name


def test_the_outcomes_of_a_document_are_those_that_its_help_names() -> None:
    named = help_of(Item, "outcome").partition(", or the code")[0].split(", ")
    code = (ROOT / "maxxit/knowledge/ingest.py").read_text()
    assert len(named) == 4
    assert [name for name in named if f'"{name}"' not in code] == []


def test_the_bounds_of_a_mean_score_are_the_scores() -> None:
    assert help_of(ImpactFactorHistory, "mean_score").endswith(f"-{HIGHEST} to {HIGHEST}")
