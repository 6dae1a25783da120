"""Web push in a real browser: its button subscribes, our message is decrypted, its service worker shows it.

Chromium subscribes at Google's push service alone, which no test reaches, so the subscription is the fake's, and the
fake decrypts (http_ece agrees with it, `tests/conformance/web_push.py`). The DevTools protocol hands the decrypted
message to the browser as its push service would. Not seen: Chromium's own subscription and decryption.
"""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from maxxit.core import egress
from maxxit.notify import endpoints, trials, worker
from maxxit.notify.channels import CHANNELS, push
from maxxit.notify.models import Alert, Endpoint
from maxxit.notify.policy import policy
from tests.browser import Page
from tests.notify.providers import providers

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SUBSCRIBE = """
PushManager.prototype.subscribe = async function (options) {
  window.__options = {
    visible: options.userVisibleOnly,
    key: btoa(String.fromCharCode(...new Uint8Array(options.applicationServerKey))),
  };
  return JSON.parse(SUBSCRIPTION);
};
PushManager.prototype.getSubscription = async () => null;
HTMLFormElement.prototype.submit = function () {
  sessionStorage.options = JSON.stringify(window.__options);
  this.requestSubmit();
};
"""
SHOWN = """
navigator.serviceWorker.ready.then((one) => one.getNotifications()).then((all) => JSON.stringify(
  all.map((one) => ({title: one.title, body: one.body, tag: one.tag, stays: one.requireInteraction}))))
"""


def test_a_message_of_ours_is_shown_by_the_service_worker(
    tab: Page, live_server: Any, monkeypatch: pytest.MonkeyPatch, empty_cache: None
) -> None:
    every = policy().model_copy(update={"offered": tuple(CHANNELS)})
    monkeypatch.setattr(endpoints, "policy", lambda: every)
    private, public = push.new_key()
    monkeypatch.setenv("PUSH_PRIVATE_KEY", private)
    registered: list[dict[str, Any]] = []
    heard = tab.on_event

    def on_event(method: str, params: dict[str, Any]) -> None:
        if method == "ServiceWorker.workerRegistrationUpdated":
            registered.extend(params["registrations"])
        heard(method, params)

    monkeypatch.setattr(tab, "on_event", on_event)
    alice = User.objects.create_user("alice")
    client = Client()
    client.force_login(alice)
    tab.cookie("sessionid", client.cookies["sessionid"].value, live_server.url)
    tab.browser.call(
        "Browser.grantPermissions",
        permissions=["notifications"], origin=live_server.url, browserContextId=tab.context,
    )  # fmt: skip
    with providers() as service:
        rules = egress.Rules(schemes=("http",), ports=(service.port,), admits=lambda address: True)
        monkeypatch.setattr(push, "RULES", rules)
        subscription = json.dumps(service.address("push"))
        tab.call(
            "Page.addScriptToEvaluateOnNewDocument", source=SUBSCRIBE.replace("SUBSCRIPTION", subscription)
        )
        tab.call("ServiceWorker.enable")
        tab.open(f"{live_server.url}/notifications")
        tab.following(lambda: tab.click("form[data-push-key] button"))
        tab.wait("document.body.innerText.includes('a browser (127.0.0.1)')")
        options = json.loads(tab.evaluate("sessionStorage.options"))
        assert options["visible"] is True
        assert push.decode(options["key"].replace("+", "-").replace("/", "_").rstrip("=")) == push.decode(
            public
        )
        assert Endpoint.objects.get(user=alice, active=True).channel == "push"

        trials.send_to_channel(alice, "push")
        assert worker.deliver_alerts().sent == 1
        ((_, message),) = service.came
        ident = next(one["registrationId"] for one in registered if not one["isDeleted"])
        tab.call(
            "ServiceWorker.deliverPushMessage",
            origin=live_server.url, registrationId=ident, data=json.dumps(message),
        )  # fmt: skip
        tab.wait(f"{SHOWN}.then((text) => text !== '[]')")
        alert = Alert.objects.get()
        assert json.loads(tab.evaluate(SHOWN)) == [
            {
                "title": "Test message",
                "body": "Test message for alice on the channel Browser: it works",
                "tag": f"a_{alert.pk}",
                "stays": True,
            }
        ]
    assert tab.problems == []
