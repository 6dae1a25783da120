"""Prompts, labelled sets and comparisons in a real browser: a diff, and labels by keyboard alone."""

from typing import Any

import pytest
from django.urls import reverse

from maxxit.llm import prompts, versions
from signals_app.labels import sets
from signals_app.models import PostLabel
from tests import builders
from tests.browser import Page
from tests.surface.conftest import World
from tests.surface.test_browser_operators import enter, look

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.limit(600)]


def test_posts_are_labelled_by_keyboard(tab: Page, live_server: Any, world: World) -> None:
    chosen = sets.create("may", by="root")
    author = world.of_alice.post.account
    texts = ("Long BTC here, buying", "BTC up and ETH down from here", "Good morning")
    sets.add_posts(chosen, [builders.post(author, text=text) for text in texts], by="root")
    enter(tab, live_server, world.staff)
    tab.open(f"{live_server.url}{reverse('operator-label')}?set={chosen.pk}")
    assert look(tab, "operator-label") == []
    tab.following(lambda: tab.press("l"))
    tab.wait_text("BTC up and ETH down")
    for key in ("1", "l", "2", "s"):
        tab.press(key)
    assert look(tab, "operator-label-two-tokens") == []
    tab.following(lambda: tab.press("Enter"))
    tab.wait_text("Good morning")
    tab.following(lambda: tab.press("n"))
    tab.wait_text("You have labelled 3 of 3 posts")
    labels = list(
        PostLabel.objects.filter(post__labelled_set=chosen).order_by("pk").values_list("sides", flat=True)
    )
    assert labels == [{"BTC": "long"}, {"BTC": "long", "ETH": "short"}, {}]
    first = chosen.posts.earliest("pk")
    sets.label(first, {}, by="bob")
    tab.open(f"{live_server.url}{reverse('operator-disagreements')}?set={chosen.pk}")
    assert look(tab, "operator-disagreements") == []
    tab.open(f"{live_server.url}{reverse('operator-labels')}?add={world.of_alice.post.pk}")
    assert look(tab, "operator-labels-add") == []


def test_versions_of_a_prompt_are_compared(tab: Page, live_server: Any, world: World) -> None:
    text = (
        prompts.path_of("classify")
        .read_text()
        .replace("When in doubt it is no call.", "In doubt it is no call.")
    )
    versions.create("classify", "careful-2", text, by="root", note="shorter")
    enter(tab, live_server, world.staff)
    tab.open(f"{live_server.url}{reverse('operator-prompts')}?purpose=classify&version=careful-2")
    assert "In doubt it is no call." in tab.text(".mx-added")
    assert look(tab, "operator-prompts-compared") == []
    tab.open(f"{live_server.url}{reverse('operator-comparisons')}?name=of+the+world")
    assert look(tab, "operator-comparisons-shown") == []
