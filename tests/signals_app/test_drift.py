"""Drift of the reader in use: figures of 24 hours against the band of the days before."""

from datetime import timedelta
from typing import Any

import pytest

from maxxit.core import clock
from maxxit.reports import checks
from signals_app import drift
from signals_app.drift import Day
from signals_app.policy import policy
from tests import builders

RULES = policy().classify.drift


def steady(days: int = 28, **newest: Any) -> list[Day]:
    """Days of 200 posts with 8 or 12 calls of confidence 0.7, and the newest as given."""
    before = [
        Day(age, 200, 8 if age % 2 else 12, 2, 0.7 * (8 if age % 2 else 12)) for age in range(1, days + 1)
    ]
    values: dict[str, Any] = {"read": 200, "calls": 10, "failed": 2, "confidence": 7.0} | newest
    return [Day(age=0, **values), *before]


def outside(rows: list[Day]) -> list[str]:
    return [one.figure for one in drift.bands(rows, RULES) if one.outside]


@pytest.mark.parametrize(
    ("newest", "found"),
    [
        ({}, []),
        ({"calls": 14, "confidence": 9.8}, []),
        ({"calls": 40, "confidence": 28.0}, ["share of calls"]),
        ({"failed": 60}, ["share of posts without a usable answer"]),
        ({"failed": 0}, []),
        ({"calls": 12, "confidence": 1.2}, ["mean confidence of calls"]),
    ],
)
def test_what_leaves_its_band_is_found(newest: dict[str, Any], found: list[str]) -> None:
    assert outside(steady(**newest)) == found


def test_an_always_none_reader_is_found_where_calls_are_frequent() -> None:
    rows = [Day(age, 400, 40, 0, 28.0) for age in range(1, 10)]
    assert outside([Day(0, 400, 0, 0, 0.0), *rows]) == ["share of calls"]


@pytest.mark.parametrize("rows", [[], steady(days=6, calls=100), steady(read=49, calls=40), steady()[1:]])
def test_too_few_days_or_posts_say_nothing_of_calls(rows: list[Day]) -> None:
    assert "share of calls" not in outside(rows)


def test_days_without_variation_have_the_band_of_chance() -> None:
    rows = [Day(age, 200, 10, 0, 7.0) for age in range(1, 29)]
    [calls] = [
        one for one in drift.bands([Day(0, 200, 12, 0, 8.4), *rows], RULES) if one.figure == "share of calls"
    ]
    assert (calls.low, calls.high) == (0.0, pytest.approx(0.05 + 4 * (0.05 * 0.95 / 200) ** 0.5))


@pytest.mark.django_db
def test_days_are_counted_back_from_now_and_unread_posts_are_failures() -> None:
    now, account = clock.now(), builders.account()

    def post(age: float, **fields: Any) -> None:
        builders.post(account, posted_at=now - timedelta(days=age), **fields)

    post(0.1, state="classified", confidence="0.8", is_signal_candidate=True)
    post(0.9, state="classified", confidence="0.1", is_signal_candidate=False)
    post(0.5, state="quarantined", outcome="unread:rejected")
    post(0.4, outcome="pending")
    post(1.5, state="classified", confidence="0.6", is_signal_candidate=True)
    post(60, state="classified", confidence="0.6", is_signal_candidate=True)
    with clock.frozen(now):
        assert drift.days() == [Day(0, 2, 1, 1, 0.8), Day(1, 1, 1, 0, 0.6)]


@pytest.mark.django_db
def test_the_health_check_fails_with_value_and_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_drifted", [])  # other tests find nothing of this one
    begin = clock.now()
    with clock.frozen(begin):
        assert checks.reading().ok
    monkeypatch.setattr(drift, "days", lambda: steady(calls=40, confidence=28.0))
    with clock.frozen(begin + checks.DRIFT_AGAIN / 2):
        assert checks.reading().ok, "posts are not gone through again each minute"
    with clock.frozen(begin + checks.DRIFT_AGAIN):
        check = checks.reading()
    assert not check.ok
    assert "share of calls is 20.0% (200 posts), the band of 28 days before is" in check.detail
    assert "prompts rollback" in check.fix
