"""The page Live against paper: its owner and staff see the drift of a deployment, nobody else does."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from positions.models import TwinDrift, TwinFill
from tests.surface.conftest import World, twin

pytestmark = pytest.mark.django_db


def shown(answer: Any) -> str:
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_an_owner_sees_price_fees_latency_and_pnl_and_the_alarm(world: World) -> None:
    page = shown(world.logged_in(world.alice).get(f"/agents/{world.of_alice.deployment.pk}/twin"))
    for text in (
        "The price drifts", "20.0 bp on average over the last 12",
        "+20.0 bp <span class=\"note\">worse than on paper", "0.80 against 0.84 USDC", "12.5 s",
        "+38.20 <span class=\"note\">USDC live, +39.80 on paper, of 1 closed position",
        "Orders compared</dt><dd>1", "Sell ETH", "2,094.75", "2,098.95", "-0.5 bp", "<title>order",
    ):  # fmt: skip
        assert text in page, text


def test_the_alarm_is_gone_once_it_is_over(world: World) -> None:
    TwinDrift.objects.update(alarm=False)
    page = shown(world.logged_in(world.alice).get(f"/agents/{world.of_alice.deployment.pk}/twin"))
    assert "drifts" not in page


def test_nobody_sees_that_of_another_and_staff_see_all(world: World) -> None:
    path = f"/agents/{world.of_alice.deployment.pk}/twin"
    assert world.logged_in(world.bob).get(path).status_code == 404
    assert world.logged_in(None).get(path).status_code == 302
    assert world.logged_in(world.alice).get("/agents/999999/twin").status_code == 404
    assert "Live against paper" in shown(world.logged_in(world.staff).get(path))


def test_a_deployment_on_paper_without_a_compared_order_says_so(world: World) -> None:
    TwinFill.objects.all().delete()
    TwinDrift.objects.all().delete()
    page = shown(world.logged_in(world.alice).get(f"/agents/{world.of_alice.deployment.pk}/twin"))
    assert "No order was compared yet. This deployment trades on paper: it is its own twin." in page


def test_the_card_of_a_live_deployment_links_to_it(world: World) -> None:
    deployment = world.of_alice.deployment
    link = f'href="/agents/{deployment.pk}/twin"'
    browser = world.logged_in(world.alice)
    assert link not in shown(browser.get("/agents"))
    type(deployment.agent).objects.filter(pk=deployment.agent_id).update(venue="safe")
    assert link in shown(browser.get("/agents"))


def test_more_orders_take_no_more_queries(world: World) -> None:
    browser, made = world.logged_in(world.alice), world.of_alice
    path = f"/agents/{made.deployment.pk}/twin"
    browser.get(path)
    with CaptureQueriesContext(connection) as few:
        browser.get(path)
    TwinDrift.objects.all().delete()
    for order in (made.entry, made.blocked):
        twin(order)
        TwinDrift.objects.all().delete()
    with CaptureQueriesContext(connection) as many:
        browser.get(path)
    assert len(many) == len(few)
