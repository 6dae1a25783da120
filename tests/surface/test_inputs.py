"""Input that no column can hold: 422 from the API, an error page elsewhere, never a 500.

schemathesis drives the same schema by hand (docs/security.md); here each parameter meets each hostile value once.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from maxxit.access.inputs import YEARS
from maxxit.api.api import api
from tests.surface.conftest import World

PATHS: dict[str, Any] = api.get_openapi_schema()["paths"]
OPERATIONS = sorted((path, method) for path, item in PATHS.items() for method in item)
HOSTILE = (
    "%00", "a%00b", "%FF%FE", "%ED%A0%80", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00%2B14:00",
    "9999-12-31T23:59:59-14:00", "-1", "0", "1" + "0" * 30, "9" * 5000, "1e400", "NaN", "Infinity", "%F0%9F%92%A5",
    "'", "%25", "*", "..%2F..", "true", "null", "[]", "", " ",
)  # fmt: skip
SAFE = {"symbol": "ETH", "since": "2026-01-01T00:00:00Z", "agentId": "1", "signalId": "1"}


@pytest.fixture
def key(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a superuser, with every scope; calls are not counted, and nothing is sent from here."""
    monkeypatch.setattr("maxxit.access.auth.PER_MINUTE", 10**9)
    run = type("Run", (), {"pk": 1, "root_task_id": "root"})
    monkeypatch.setattr("maxxit.api.api.start_pipeline", lambda *_, **__: run)
    return world.key(world.staff, "read", "rules", "safes", "trade", "keys", "admin")


def _calls(path: str, method: str) -> Iterator[str]:
    """The operation's URL with each hostile value in the place of each parameter, one at a time."""
    parameters = PATHS[path][method].get("parameters", [])
    safe = "&".join(f"{name}={value}" for name, value in SAFE.items())
    for one in parameters:
        for value in HOSTILE:
            if one["in"] == "path":
                yield (
                    path.replace("{" + one["name"] + "}", value or "%20").replace("{", "").replace("}", "")
                    + f"?{safe}"
                )
            else:
                others = "&".join(f"{name}={given}" for name, given in SAFE.items() if name != one["name"])
                fixed = path.replace("{what}", "order").replace("{", "").replace("}", "")
                yield f"{fixed.replace('deployment_id', '1').replace('rule_id', 'x')}?{others}&{one['name']}={value}"


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda one: one)
def test_no_parameter_of_the_api_makes_it_fail(key: dict[str, Any], path: str, method: str) -> None:
    browser = Client(raise_request_exception=False)
    failed = []
    for url in _calls(path, method):
        answer = browser.generic(method.upper(), url, headers=key)
        if answer.status_code >= 500 and answer.status_code != 503:
            failed.append(url)
        if "%00" in url:
            assert answer.status_code == 422, url
    assert failed == []


BAD_BODIES = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": "\xed\xa0\x80"}', b"[" * 100_000,
    b'{"symbols": 1' + b"0" * 5000 + b"}",
]  # fmt: skip
TEXTS = ["\0", "a\0b", "\ud800", "\udfff x", "x" * 5000, "💥", ""]


@pytest.mark.parametrize(
    ("path", "method"), [one for one in OPERATIONS if one[1] in ("post", "put", "patch")]
)
def test_no_body_makes_it_fail(key: dict[str, Any], path: str, method: str) -> None:
    browser = Client(raise_request_exception=False)
    fixed = path.replace("{deployment_id}", "1").replace("{agent_id}", "1")
    fields = (
        "symbols",
        "condition",
        "threshold",
        "channel",
        "url",
        "venue",
        "owners",
        "salt",
        "safe",
        "signature",
        *(
            "name",
            "tokens",
            "weights",
            "preferences",
            "names",
            "source",
            "capital",
            "agent_id",
            "level",
            "reason",
        ),
        *("scopes", "days", "min_confidence", "sizing_preset"),
    )
    bodies = [*BAD_BODIES]
    for text in TEXTS:
        bodies += [
            json.dumps(dict.fromkeys(fields, value)).encode() for value in (text, [text], {text: text})
        ]
    for number in ("1e400", "-1", "9" * 400, "NaN", "Infinity", "1e-400", "0." + "0" * 50 + "1"):
        rule = {
            "symbols": ["ETH"],
            "condition": "gt",
            "threshold": number,
            "window_minutes": number,
            "salt": number,
            **dict.fromkeys(("capital", "agent_id", "days", "min_confidence", "name", "reason"), number),
        }
        bodies.append(json.dumps(rule).encode())
    for body in bodies:
        answer = browser.generic(method.upper(), fixed, body, content_type="application/json", headers=key)
        assert answer.status_code < 500 or answer.status_code == 503, body[:100]
        if PATHS[path][method].get("requestBody") and b"\\u0000" in body:
            unsigned = path == "/api/sources/{source}/posts"
            assert answer.status_code == (401 if unsigned else 422), body[:100]


@settings(max_examples=25)
@given(text=st.text(st.characters(blacklist_categories=()), max_size=20), number=st.integers())
def test_a_rule_is_made_or_refused(key: dict[str, Any], text: str, number: int) -> None:
    """Any text and any number, in each field of a body."""
    browser = Client(raise_request_exception=False)
    for wish in (
        {"symbols": [text], "condition": "gt", "threshold": number},
        {"symbols": ["ETH"], "condition": "gt", "threshold": str(number), "channel": text},
        {"symbols": ["ETH"], "condition": "change_pct", "threshold": number, "window_minutes": number},
    ):
        answer = browser.generic(
            "POST", "/api/market/rules", json.dumps(wish), "application/json", headers=key
        )
        assert answer.status_code in (201, 422)


@pytest.mark.parametrize("year", [1, 1969, YEARS[0] - 1, YEARS[-1] + 1, 9999])
def test_a_year_out_of_reach_is_invalid(key: dict[str, Any], year: int) -> None:
    moment = f"{year:04d}-06-01T00:00:00Z"
    for url in (
        f"/api/market/candles?symbol=ETH&before={moment}",
        f"/api/market/trades?symbol=ETH&since={moment}",
        f"/api/db/deployments/1/statement?since={moment}",
    ):
        answer = Client().get(url, headers=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), url


BAD_QUERIES = ("%00", "9" * 30)
BAD_FILTERS = (*BAD_QUERIES, "%FF", "10000", "-1", "0001-01-01")


def test_pages_refuse_it(world: World) -> None:
    urls = ["/market?symbol=", "/market?agent=", "/market/tables?x=", "/login?next=", "/?x="]
    assert _failing(world, urls, BAD_FILTERS) == []


@pytest.mark.parametrize("model", sorted(admin.site._registry, key=str), ids=lambda one: one._meta.label)
def test_an_admin_list_refuses_it(world: World, model: Any) -> None:
    meta, hierarchy = model._meta, admin.site._registry[model].date_hierarchy
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    filters = ["q", "id__exact", *([f"{hierarchy}__year", f"{hierarchy}__gte"] if hierarchy else ())]
    failing = _failing(world, [f"{url}?{one}=" for one in filters], BAD_FILTERS)
    assert failing + _failing(world, [f"{url}?p=", f"{url}?o="], BAD_QUERIES) == []


def _failing(world: World, urls: list[str], values: tuple[str, ...]) -> list[str]:
    """The URLs with a value at their end that a member of staff sees fail."""
    browser = world.logged_in(world.staff)
    browser.raise_request_exception = False
    return [url + value for url in urls for value in values if browser.get(url + value).status_code >= 500]


def test_cookies_and_forms_refuse_it(world: World) -> None:
    browser = Client(raise_request_exception=False)
    browser.cookies["sessionid"] = "a\0b"
    assert browser.get("/").status_code == 400
    for value in ("\0", "a\0b", "x" * 100_000, "💥"):
        answer = Client(raise_request_exception=False).post("/login", {"username": value, "password": value})
        assert answer.status_code == 200, value[:10]
    logged_in = world.logged_in(world.staff)
    assert logged_in.post("/admin/stop", {"level": "no_entries", "reason": "\0"}).status_code == 200
    assert logged_in.get(f"/chain/{quote('x', safe='')}").status_code == 404


def test_a_body_that_nests_without_end_is_refused(world: World) -> None:
    """Python's own decoder would follow the brackets until the process ends."""
    browser = world.logged_in(world.staff)
    for body in (b"[" * 500_000, b'{"a":' * 500_000):
        answer = browser.post("/api/market/rules", body, content_type="application/json")
        assert answer.status_code in (400, 422), answer.content[:300]
