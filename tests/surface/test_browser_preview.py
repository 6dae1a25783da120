"""A preview in a real browser: asked for with one click, its result appears without reload, at both widths."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from agents import following
from maxxit.core import clock
from maxxit.replay.models import Preview
from maxxit.web import agents
from tests import builders as make
from tests.browser import Page
from tests.surface.test_browser import shot
from tests.surface.test_preview_pages import result

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_preview_appears_without_reload(
    tab: Page, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (following, agents):
        monkeypatch.setattr(module, "post_sources", lambda: ("x",))
    at = clock.now() - timedelta(hours=2)
    make.post(make.account(username="dora", source="x"), posted_at=at, ingested_at=at)
    make.account(username="erin", source="x")
    client = Client()
    client.force_login(User.objects.create_user("carol"))
    tab.cookie("sessionid", client.cookies["sessionid"].value, live_server.url)
    tab.open(f"{live_server.url}/start")
    tab.evaluate("document.querySelector('input[name=accounts][value=dora]').click()")
    tab.type("input[name=others]", "erin")
    tab.following(lambda: tab.click("button[value=preview]"))
    tab.wait_text("Waiting.")
    assert tab.evaluate("document.querySelector('input[name=others]').value") == "erin"
    assert tab.evaluate("document.querySelector('input[name=accounts][value=dora]').checked")

    Preview.objects.update(state="running", progress=0.4, played_until=clock.now())
    tab.wait_text("40 %: played until")
    shot(tab, "preview-running")
    Preview.objects.update(state="done", result=result(), finished_at=clock.now())
    tab.wait_text("PnL after costs")
    assert "Cancel the preview" not in tab.text()
    tab.evaluate("document.getElementById('preview-reasons').open = true")
    shot(tab, "preview")
    tab.dark()
    shot(tab, "preview-dark")
