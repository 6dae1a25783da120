"""Every role × endpoint × object, generated from the OpenAPI schema, the admin's registry and the URLconf."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import NoReverseMatch, get_resolver, reverse
from django.utils import timezone

from maxxit.access import groups
from maxxit.access.models import ADMIN, KEYS, READ, RULES, SAFES, TRADE, ApiKey
from maxxit.api.api import api
from maxxit.core import clock
from maxxit.replay.models import Preview
from tests.backtest.stored import store_refused
from tests.surface.conftest import World
from trading.chain.models import WatchedAddress

SCOPES = (READ, RULES, SAFES, TRADE, KEYS, ADMIN)
REFUSED = {401, 403}
PATHS = api.get_openapi_schema()["paths"]
SIGNED = {"/api/sources/{source}/posts"}
"""For programs that sign what they send: no key and no session opens it (tests/signals_app/test_inbound.py)."""
OPERATIONS = sorted((path, method) for path, item in PATHS.items() if path not in SIGNED for method in item)
BODIES: dict[str, Any] = {
    "/api/market/rules": {"symbols": ["ETH"], "condition": "gt", "threshold": "1"},
    "/api/market/endpoints": {"channel": "webhook", "address": "https://203.0.113.1/hook"},
    "/api/market/webhook": {"url": "https://203.0.113.1/hook"},
    "/api/agents": {"name": "Majors"},
    "/api/agents/{agent_id}": {"sizing_preset": "moderate"},
    "/api/agents/{agent_id}/follows": {"names": ["somebody"]},
    "/api/deployments": {"agent_id": 0},
    "/api/deployments/{deployment_id}": {},
    "/api/deployments/{deployment_id}/limits": {},
    "/api/deployments/{deployment_id}/stop": {"reason": "drill"},
    "/api/deployments/{deployment_id}/release": {"reason": "over"},
    "/api/previews": {"accounts": ["somebody"], "capital": "1000"},
    "/api/keys": {"name": "another"},
    "/api/market/addresses": {"chain": "local", "address": "0x52908400098527886E0F7030069857D2E4169EE7"},
    "/api/notifications/settings": {"kinds": ["stops"]},
    "/api/notifications/test": {"channel": "inbox"},
    "/api/notifications/snooze": {"hours": 0},
    "/api/notifications/confirm": {"channel": "email", "code": "123456"},
    "/api/admin/limits/{key}": {"value": "1", "reason": "drill"},
    "/api/admin/reconciliation": {"account": "paper:0", "asset": "ETH", "amount": "1", "reason": "drill"},
    "/api/admin/reconciliation/adopt": {
        "account": "paper:0",
        "asset": "ETH",
        "amount": "1",
        "reason": "drill",
    },
    "/api/deployments/{deployment_id}/credentials": {"keys": {"key_id": "a"}},
    "/api/safes/predict": {"owners": ["0x" + "1" * 40]},
    "/api/safes/{deployment_id}/plan": {"safe": "", "signature": ""},
    "/api/safes/{deployment_id}/limits": {"max_trade": "50"},
    "/api/safes/{deployment_id}/new": {"owner": "0x" + "1" * 40},
}
QUERY = {
    "symbol": "ETH",
    "since": "2026-01-01T00:00:00Z",
    "agentId": "1",
    "signalId": "1",
    "channel": "webhook",
    "capital": "5000",
    "names": "somebody",
}
PUBLIC = {"/api/records/{name}"}
"""Rows that every user may see."""
LISTS = {"agents", "deployments", "posts", "signals", "orders", "trades", "positions", "rules", "deliveries"}
"""Last words of the paths that list rows of an owner."""


@pytest.fixture
def people(world: World) -> dict[str, User]:
    """One of each role. The clerk is staff without any permission."""
    made = {name: User.objects.create_user(name, is_staff=True) for name in ("clerk", "support", "operator")}
    made["support"].groups.add(Group.objects.get(name=groups.SUPPORT))
    made["operator"].groups.add(Group.objects.get(name=groups.OPERATORS))
    return made | {"alice": world.alice, "bob": world.bob, "root": world.staff}


def key_of(owner: Any) -> int:
    """The id of a key of a trade's owner."""
    key, _ = ApiKey.objects.get_or_create(
        owner=owner.owner, name="kept", defaults={"sha256": f"of {owner.owner}", "created_at": clock.now()}
    )
    return int(key.pk)


def preview_of(owner: Any) -> int:
    """The id of a preview of a trade's owner."""
    inputs = {
        "accounts": ["a"], "capital": "1000", "sizing_preset": "moderate", "exit_preset": "signal",
        "start": "2026-01-01T00:00:00+00:00", "end": "2026-01-31T00:00:00+00:00",
    }  # fmt: skip
    values = {"digest": "", "inputs": inputs, "created_at": clock.now(), "state": "done"}
    return int(Preview.objects.get_or_create(owner=owner.owner, defaults=values)[0].pk)


def address_of(owner: Any) -> int:
    """The id of an address that a trade's owner watches."""
    row, _ = WatchedAddress.objects.get_or_create(
        user=owner.owner,
        private=True,
        defaults={"chain_id": 31337, "address": "0x5", "created_at": clock.now()},
    )
    return int(row.pk)


def call(world: World, who: User | None, path: str, method: str, owner: Any) -> Any:
    """The operation on a row of `owner`, with a key of `who` that has every scope it may have."""
    rule = owner.owner.pricerule_set.first() if hasattr(owner.owner, "pricerule_set") else None
    real = path.format(
        deployment_id=owner.deployment.pk,
        agent_id=owner.agent.pk,
        order_id=owner.entry.pk,
        name="somebody",
        key_id=key_of(owner),
        preview_id=preview_of(owner),
        signal_id=owner.signal.pk,
        what="order",
        key="max_trade_usd",
        ident=owner.entry.pk,
        month=f"{timezone.now():%Y-%m}",
        position_id=owner.position.pk,
        address_id=address_of(owner),
        rule_id=rule.rule_id if rule else "3f2b0000-0000-4000-8000-000000000000",
    )
    scopes = [scope for scope in SCOPES if scope != ADMIN or (who and who.is_staff)]
    headers = world.key(who, *scopes) if who else {}
    known = {one["name"] for one in PATHS[path][method].get("parameters", []) if one["in"] == "query"}
    values = QUERY | (
        {"agent": owner.agent.name, "token": "ETH", "at": "2026-03-02"} if path == "/api/why" else {}
    )
    if method == "delete" and path == "/api/admin/limits/{key}":
        values = {"reason": "drill"}
    query = "&".join(f"{name}={value}" for name, value in values.items() if name in known)
    options: dict[str, Any] = {"headers": headers}
    if path in BODIES and method in ("post", "put", "patch"):
        body = BODIES[path] | ({"agent_id": owner.agent.pk} if "agent_id" in BODIES[path] else {})
        options |= {"data": body, "content_type": "application/json"}
    return getattr(Client(), method)(f"{real}?{query}", **options)


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda one: one)
def test_each_operation_asks_for_its_permission(
    world: World, people: dict[str, User], path: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers 401; staff without permission 403; support reads; operators act; customers reach their own rows."""
    run = type("Run", (), {"pk": 1, "root_task_id": "root"})
    monkeypatch.setattr("maxxit.api.api.start_pipeline", lambda *_, **__: run)  # nothing is sent from here
    codes = {
        name: call(world, people.get(name), path, method, world.of_alice).status_code
        for name in ("stranger", "clerk", "support", "alice", "operator", "root")
    }
    reads, for_staff = method == "get", path.startswith("/api/admin/")
    assert codes["stranger"] == 401
    assert codes["clerk"] == 403
    assert (codes["support"] in REFUSED) is (not reads and path != "/api/safes/predict")
    assert (codes["alice"] in REFUSED) is for_staff
    assert not {codes["operator"], codes["root"]} & REFUSED  # what becomes of it is another matter: 404, 409
    assert 500 not in codes.values()


@pytest.mark.parametrize(
    ("path", "method"),
    [one for one in OPERATIONS if "{" in one[0] and one[0] not in PUBLIC and "/admin/" not in one[0]],
    ids=lambda one: one,
)
def test_another_customers_row_is_not_found(
    world: World, people: dict[str, User], path: str, method: str
) -> None:
    mine = call(world, people["alice"], path, method, world.of_alice).status_code
    theirs = call(world, people["bob"], path, method, world.of_alice).status_code
    assert theirs == 404
    assert mine != 404 or "rule" in path


@pytest.mark.parametrize("path", [p for p, m in OPERATIONS if m == "get" and p.split("/")[-1] in LISTS])
def test_a_list_holds_the_rows_of_who_asks(world: World, people: dict[str, User], path: str) -> None:
    """Customers' rows are theirs alone; a member of staff with the permission sees them all, without it none."""
    counts = {
        name: call(world, people[name], path, "get", world.of_alice).json().get("count", 0)
        for name in ("clerk", "support", "alice", "bob", "root")
    }
    assert counts["clerk"] == 0
    assert counts["support"] == counts["root"] == counts["alice"] + counts["bob"] > 0


def test_a_missing_permission_is_named(world: World, people: dict[str, User]) -> None:
    told = call(world, people["clerk"], "/api/db/orders", "get", world.of_alice).json()
    assert "trading.view_order" in told["message"]


def test_each_declared_permission_exists(db: None) -> None:
    declared = set()
    for _, router in api._routers:
        for path, view in router.path_operations.items():
            if f"/api/sources{path}" in SIGNED:
                continue
            declared |= {
                operation.view_func.permission  # type: ignore[attr-defined]
                for operation in view.operations
            }
    known = {f"{one.content_type.app_label}.{one.codename}" for one in Permission.objects.all()}
    assert len(declared) > 10
    assert declared - known == set()


# -- the admin

admin.autodiscover()
MODELS = sorted(admin.site._registry, key=lambda one: one._meta.label)
NAMES = [
    (model, str(pattern.name))
    for model in MODELS
    for pattern in admin.site._registry[model].get_urls()
    if getattr(pattern, "name", None)
]


@pytest.fixture
def browsers(world: World, people: dict[str, User]) -> dict[str, Client]:
    """Each role, logged in."""
    return {name: world.logged_in(person) for name, person in people.items()}


def _urls(name: str) -> Iterator[str]:
    for args in ([], ["1"], ["1", "x"]):
        try:
            yield reverse(f"admin:{name}", args=args)
        except NoReverseMatch:  # no such form of this URL
            continue


def test_staff_without_permission_sees_no_page_of_the_admin(browsers: dict[str, Client]) -> None:
    let_in = []
    for _, name in NAMES:
        urls = list(_urls(name))
        assert urls, name
        for url in urls:
            for method in ("get", "post"):
                answer = getattr(browsers["clerk"], method)(url)
                missing = answer.status_code == 302 and answer.headers["Location"] == "/admin/"  # no such row
                if not (answer.status_code in (403, 404, 405) or missing):
                    let_in.append((method, url, answer.status_code))
    assert let_in == []


def test_support_looks_and_changes_nothing(browsers: dict[str, Client]) -> None:
    support = browsers["support"]
    for model in MODELS:
        url = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        ours = model._meta.app_label in (*groups.OURS, groups.SCHEDULE)
        page = support.get(reverse(f"{url}_changelist"))
        assert page.status_code == (200 if ours else 403), model
        form = page.context["action_form"] if ours else None
        assert not form or not [name for name, _ in form.fields["action"].choices if name], model
        assert support.post(reverse(f"{url}_add")).status_code == 403, model


def test_the_first_page_of_the_admin_shows_a_clerk_no_figures(browsers: dict[str, Client]) -> None:
    page = browsers["clerk"].get("/admin/")
    assert page.status_code == 200
    assert "Equity" not in page.content.decode()
    assert "no permission" in page.content.decode()
    assert "Equity" in browsers["support"].get("/admin/").content.decode()


PAGES = [pattern for pattern in get_resolver().url_patterns if getattr(pattern, "name", None)]
OF_NOBODY = {
    "login",
    "logout",
    "live",
    "ready",
    "second-factor",
    "sign-up",
    "wallet-message",
    "wallet-answer",
    "start",
    "my-agents",
    "change-deployment",
    "limits",
    "confirmations",
    "confirmation-rows",
    "answer-confirmation",
    "venue-keys",
    "venue-keys-state",
    "preview",
    "cancel-preview",
    "unsubscribe",
    "push-worker",
    "mcp",  # takes a key and no session: tests/surface/test_mcp.py
    "telegram-webhook",  # takes Telegram's secret
} | {
    getattr(pattern, "name", "")
    for pattern in PAGES
    if str(pattern.pattern).startswith(("settings", "wallet"))
}
"""Pages without rows, or with those of the own account alone."""


@pytest.mark.parametrize("pattern", PAGES, ids=lambda one: one.name)
def test_a_clerk_gets_no_page_with_rows(world: World, browsers: dict[str, Client], pattern: Any) -> None:
    if pattern.name in OF_NOBODY:
        return
    made = world.of_alice
    keys = {
        "correlation_id": made.post.correlation_id, "signal_id": made.signal.pk, "deployment_id": made.deployment.pk,
        "month": f"{timezone.now():%Y-%m}", "position_id": made.position.pk, "name": made.post.account.x_username,
        "run_id": store_refused().pk if "run_id" in str(pattern.pattern) else 0,
    }  # fmt: skip
    url = reverse(
        pattern.name,
        kwargs={name: key for name, key in keys.items() if f":{name}>" in str(pattern.pattern)},
    )
    url += "?whole=1" if pattern.name == "chain" else ""
    clerk, support = (
        browsers[name].get(url, REMOTE_ADDR="203.0.113.1").status_code for name in ("clerk", "support")
    )
    assert clerk in REFUSED, url
    assert support == (403 if pattern.name == "stop" else 200), url
    assert browsers["operator"].get(url, REMOTE_ADDR="203.0.113.1").status_code == 200, url
