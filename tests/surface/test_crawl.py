"""Every link that a role sees answers, and no page shows a figure of another tenant or the secret of an address."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from html import unescape
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from agents.models import Agent, Deployment
from maxxit.access import groups
from maxxit.notify import endpoints
from maxxit.notify.models import Endpoint, PriceRule
from positions.models import Position
from tests import builders
from tests.surface.conftest import Trade, World
from trading.models import Order

pytestmark = pytest.mark.limit(300)
LINK = re.compile(r'(?:href|src|data-refresh)="([^"#]+)')
ROOTS = ("/", "/settings", "/notifications", "/market", "/activity")
OF_STAFF = (*ROOTS, "/admin/")
PER_PATH = 3
"""Queries of one path that are followed; lists have one link for each filter."""
MOST = 600
DJANGOS_OWN = "/admin/auth/user/"
"""Django's admin links a row's user whether or not the person may view users; it answers 403."""
NOT_PAGES = ("/logout", "/static/", "/api/docs")


@dataclass
class Crawl:
    """The pages that one role reached by links."""

    pages: dict[str, str] = field(default_factory=dict)
    """URL -> its HTML."""
    broken: dict[str, str] = field(default_factory=dict)
    """URL -> status and the page that links there."""


def crawl(browser: Client, roots: tuple[str, ...]) -> Crawl:
    """Follow every link from the roots."""
    found, queue, seen = Crawl(), deque((root, "start") for root in roots), set(roots)
    queries: dict[str, int] = {}
    while queue and len(seen) < MOST:
        url, source = queue.popleft()
        answer = browser.get(url)
        if answer.status_code in (301, 302):
            links = [answer.headers["Location"]]
        elif answer.status_code != 200:
            found.broken[url] = f"{answer.status_code}, linked from {source}"
            continue
        elif answer.headers["Content-Type"].startswith("text/html"):
            found.pages[url] = answer.content.decode()
            links = [unescape(link) for link in LINK.findall(found.pages[url])]
        else:
            links = []
        for link in _inside(links, url):
            path = urlsplit(link).path
            queries[path] = queries.get(path, 0) + 1
            if link not in seen and queries[path] <= PER_PATH:
                seen.add(link)
                queue.append((link, url))
    return found


def _inside(links: list[str], url: str) -> Iterator[str]:
    """Yield the links to pages of this site, made absolute."""
    for link in links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or link.startswith(NOT_PAGES):
            continue
        path = parts.path
        if path and not path.startswith("/"):
            path = f"{urlsplit(url).path.rpartition('/')[0]}/{path}"
        yield (path or urlsplit(url).path) + (f"?{parts.query}" if parts.query else "")


def mark(trade: Trade, name: str, pnl: str) -> list[str]:
    """Give a tenant's rows names and figures that nobody else has; return them."""
    assert trade.owner is not None
    agent, account = f"{name}-private-agent", f"paper:{name}-private"
    Agent.objects.filter(pk=trade.agent.pk).update(name=agent)
    Deployment.objects.filter(pk=trade.deployment.pk).update(account=account)
    Order.objects.filter(deployment=trade.deployment).update(account=account)
    Position.objects.filter(pk=trade.position.pk).update(realised_pnl=Decimal(pnl))
    address = f"{name}-private.example"
    builders.webhook(trade.owner, f"https://{address}/hook")
    PriceRule.objects.create(
        user=trade.owner, symbols=["ETH"], condition="gt", threshold=Decimal(pnl) + 70_000
    )
    return [agent, account, address, pnl, f"7{pnl}"]


@pytest.fixture
def marked(world: World) -> dict[str, list[str]]:
    return {"alice": mark(world.of_alice, "alice", "4117.53"), "bob": mark(world.of_bob, "bob", "6229.71")}


def secrets() -> list[str]:
    """What signs or opens the addresses of people: on no page."""
    found = [endpoints.secret_of(row) for row in Endpoint.objects.all()]
    assert found
    return found


def shown(crawled: Crawl, texts: list[str]) -> set[tuple[str, str]]:
    """(URL, text) of the pages that show one of these texts."""
    return {(url, text) for text in texts for url, page in crawled.pages.items() if text in page}


def test_each_link_of_a_customer_answers_and_shows_their_own_rows_alone(
    world: World, marked: dict[str, list[str]]
) -> None:
    crawls = {
        name: crawl(world.logged_in(person), ROOTS)
        for name, person in (("alice", world.alice), ("bob", world.bob))
    }
    for name, other in (("alice", "bob"), ("bob", "alice")):
        assert crawls[name].broken == {}
        assert len(crawls[name].pages) > 20
        assert {text for _, text in shown(crawls[name], marked[name])} >= set(marked[name][:3])
        assert shown(crawls[name], marked[other]) == set()
        assert shown(crawls[name], secrets()) == set()
        assert not any(url.startswith("/admin") for url in crawls[name].pages)
    for url in crawls["alice"].pages:
        answer = Client().get(url)  # a stranger
        assert answer.status_code == 302, url
        assert answer.headers["Location"].startswith("/login"), url


@pytest.mark.parametrize("group", [groups.SUPPORT, groups.OPERATORS])
def test_each_link_of_staff_answers(world: World, marked: dict[str, list[str]], group: str) -> None:
    Order.objects.filter(signal=None).update(
        correlation_id=world.of_alice.post.correlation_id
    )  # of the builders
    person = User.objects.create_user("member", is_staff=True)
    person.groups.add(Group.objects.get(name=group))
    found = crawl(world.logged_in(person), OF_STAFF)
    broken = {url: why for url, why in found.broken.items() if not url.startswith(DJANGOS_OWN)}
    assert broken == {}, "\n".join(f"{url}: {why}" for url, why in broken.items())
    assert len(found.pages) > 60
    assert shown(found, secrets()) == set()
    assert reverse("operator-health") in found.pages
    assert (reverse("stop") in found.pages) is (group == groups.OPERATORS)
