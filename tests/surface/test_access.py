"""Who may see what: every URL, every role, every tenant."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern

from maxxit.access.rows import visible
from maxxit.events.models import Event
from positions.models import Position
from signals_app.models import Signal
from tests.surface.conftest import Trade, World
from trading.models import Order

ALLOWED = {
    "/health",
    "/health/live",
    "/health/ready",
    "/login",
    "/sign-up",
    "/wallet/message",
    "/wallet/answer",
    "/unsubscribe/x",  # the link is the permission
    "/push-worker.js",
    "/admin/jsi18n/",
    "/admin/logout/",  # says that nobody is logged in
    "/api",  # these are 404s, in JSON
    "/api/",
    "/api/1",
}
"""What a stranger may have. Anything else must send them to the login, or say 401 or 403."""
SAMPLES = {"int": "1", "uuid": "3f2b0000-0000-4000-8000-000000000000", "path": "1", "str": "x", "slug": "x"}


def _urls(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> list[str]:
    found = []
    for pattern in patterns:
        part = _sample(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += _urls(pattern.url_patterns, prefix + part)
        else:
            found.append(prefix + part)
    return found


def views_of(patterns: list[URLPattern | URLResolver], path: str) -> list[Any]:
    """The views of the class-based kind under that path."""
    leaves = [one for one in patterns if isinstance(one, URLPattern)]
    return [
        one.callback for one in leaves if f"/{one.pattern}" == path and hasattr(one.callback, "view_class")
    ]


def _sample(pattern: object) -> str:
    if not isinstance(pattern, RoutePattern):  # the admin's regular expressions
        text = str(pattern).lstrip("^").rstrip("$").replace("\\Z", "")
        return "agents/" if "app_label" in text else "anything" if text.startswith("(?P") else text
    text = str(pattern)
    for name, converter in pattern.converters.items():
        kind = type(converter).__name__.removesuffix("Converter").lower().replace("string", "str")
        for written in (f"<{kind}:{name}>", f"<{name}>"):
            text = text.replace(written, SAMPLES[kind])
    return text


EVERY_URL = sorted(set(_urls(get_resolver().url_patterns)))


def test_there_are_urls() -> None:
    assert len(EVERY_URL) > 150
    assert not [url for url in EVERY_URL if "<" in url or "(" in url]


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stranger_gets_nothing_but_the_allow_list(db: None, method: str) -> None:
    browser, open_to_all = Client(REMOTE_ADDR="203.0.113.9"), []
    for url in EVERY_URL:
        answer = getattr(browser, method)(url)
        to_login = answer.status_code == 302 and "login" in answer.headers["Location"]
        if not (to_login or answer.status_code in (401, 403, 405)):
            open_to_all.append(url)
    assert set(open_to_all) <= ALLOWED, sorted(set(open_to_all) - ALLOWED)


def test_a_tenant_does_not_get_into_the_admin(world: World) -> None:
    browser = world.logged_in(world.alice)
    for url in ("/admin/", "/admin/trading/order/", "/admin/stop"):
        assert "login" in browser.get(url).headers["Location"]


@pytest.mark.parametrize(
    "path", ["signals", "db/signals", "db/orders", "db/trades", "db/positions", "db/posts"]
)
def test_each_tenant_sees_their_own_rows_and_staff_sees_all(world: World, path: str) -> None:
    seen: dict[str, set[int]] = {}
    for who in (world.alice, world.bob, world.staff):
        answer = Client().get(f"/api/{path}?limit=500", headers=world.key(who))
        assert answer.status_code == 200, answer.content
        seen[who.username] = {row["id"] for row in answer.json()["items"]}
        assert len(seen[who.username]) == answer.json()["count"]
    mine, theirs = (_row_of(trade, path).pk for trade in (world.of_alice, world.of_bob))
    assert (mine in seen["alice"], mine in seen["bob"]) == (True, False)
    assert (theirs in seen["alice"], theirs in seen["bob"]) == (False, True)
    assert seen["alice"].isdisjoint(seen["bob"])
    assert seen["root"] == seen["alice"] | seen["bob"]


def _row_of(trade: Trade, path: str) -> Any:
    """A row of this trade that the list of `path` holds."""
    name = path.removeprefix("db/")
    return trade.fill if name == "trades" else trade.entry if name == "orders" else getattr(trade, name[:-1])


def test_staff_sees_every_row_only_of_what_their_permissions_name(world: World) -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_order"))
    clerk = User.objects.get(pk=clerk.pk)  # Django keeps a user's permissions
    assert visible(Order.objects.all(), clerk).count() == Order.objects.count() > 0
    for model in (Position, Signal, Event):
        assert model.objects.exists()
        assert not visible(model.objects.all(), clerk).exists()


@pytest.mark.parametrize("what", ["post", "signal", "order", "position"])
def test_another_tenants_row_is_not_found(world: World, what: str) -> None:
    mine = {"post": "post", "signal": "signal", "order": "entry", "position": "position"}[what]
    row = getattr(world.of_bob, mine)
    assert Client().get(f"/api/chain/{what}/{row.pk}", headers=world.key(world.alice)).status_code == 404
    assert Client().get(f"/api/chain/{what}/{row.pk}", headers=world.key(world.bob)).status_code == 200
    assert Client().get(f"/api/chain/{what}/{row.pk}", headers=world.key(world.staff)).status_code == 200


def test_another_tenants_chain_page_is_not_found(world: World) -> None:
    url = f"/chain/{world.of_bob.post.correlation_id}"
    assert world.logged_in(world.alice).get(url).status_code == 404
    assert world.logged_in(world.bob).get(f"{url}?whole=1").status_code == 200
    assert world.logged_in(world.staff).get(f"{url}?whole=1").status_code == 200


def test_a_shared_post_shows_each_tenant_only_their_own_trade(world: World) -> None:
    """Both follow the author: the post is theirs to read, the other's orders, events and agent's name are not."""
    from agents.models import Subscription

    Subscription.objects.create(agent=world.of_alice.agent, account=world.of_bob.post.account)
    corr = world.of_bob.post.correlation_id
    told = Client().get(f"/api/chain/corr/{corr}", headers=world.key(world.alice)).json()
    assert len(told["posts"]) == 1
    assert told["signals"] == told["orders"] == told["fills"] == told["ledger"] == told["positions"] == []
    assert world.of_bob.agent.name not in str(told)
    assert world.of_bob.deployment.account not in str(told)


def test_the_pages_of_tenants_hold_no_rows_of_others(world: World) -> None:
    page = world.logged_in(world.alice).get("/").content.decode()
    assert world.of_alice.deployment.account in page
    assert world.of_bob.deployment.account not in page


def test_pages_run_under_a_strict_policy(world: World) -> None:
    for url in ("/", "/login", f"/chain/{world.of_alice.post.correlation_id}"):
        answer = world.logged_in(world.alice).get(url)
        policy, body = answer.headers["Content-Security-Policy"], answer.content.decode()
        assert "unsafe" not in policy
        assert "style=" not in body
        assert set(re.findall(r"<script[^>]*>", body)) <= {
            f'<script src="/static/web/{name}.js" defer>' for name in ("forms", "wallet", "provider")
        }
        assert "<style" not in body
        assert "onclick" not in body


def test_a_person_can_log_in_and_out(world: World) -> None:
    browser = Client()
    answer = browser.post("/login", {"username": "alice", "password": "nor is this one 2"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert browser.get("/").status_code == 200
    assert browser.post("/logout").status_code == 302
    assert browser.get("/").status_code == 302


def test_staff_without_the_permission_cannot_pull_the_switch(world: World) -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    browser = world.logged_in(clerk)
    assert browser.get("/admin/stop").status_code == 403
    assert browser.post("/admin/stop", {"level": "flatten", "reason": "no"}).status_code == 403
