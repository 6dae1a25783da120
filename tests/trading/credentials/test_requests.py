"""Keys that customers send: sealed at once, tested and stored by a worker; no log, row, task or page has them."""

import json
import logging
from collections.abc import Callable, Iterator
from io import StringIO
from time import sleep
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client

from agents.models import Deployment
from maxxit.access.auth import create_key
from maxxit.core.errors import InvalidInput, Rejected, Retryable
from maxxit.events import wake
from maxxit.pipeline.stages import ROUTES, WAKES
from tests import builders as make
from tests.trading.credentials.test_store import Broker, access
from trading.credentials import requests, sealing, store
from trading.credentials.models import CredentialRequest, VenueCredential
from trading.tasks import run_credentials
from trading.venues.base import KeyAccess, Venue

pytestmark = pytest.mark.django_db

FIELDS = {"key_id": "PK-CANARY-7788", "secret": "s3cr3t-canary-4711-do-not-show"}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, use_venue: Callable[[Venue], None]) -> Broker:
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    made = Broker()
    use_venue(made)
    return made


@pytest.fixture
def deployment(broker: Broker) -> Deployment:
    cache.clear()
    alice = User.objects.create_user("alice")
    return make.deployment(make.agent(owner=alice), owner=alice, state="draft", funded=False, usdc="0")


def page(deployment: Deployment) -> Client:
    browser = Client()
    assert deployment.owner is not None
    browser.force_login(deployment.owner)
    return browser


def text_of(browser: Client, deployment: Deployment, part: str = "") -> str:
    return " ".join(browser.get(f"/agents/{deployment.pk}/keys{part}").content.decode().split())


def test_keys_are_sealed_on_the_page_and_tested_and_stored_by_the_worker(
    broker: Broker, deployment: Deployment
) -> None:
    browser = page(deployment)
    assert "No keys are stored" in text_of(browser, deployment)
    answer = browser.post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS}, follow=True)
    assert "Testing the keys that end in …7788" in answer.content.decode()
    assert "data-under-way" in answer.content.decode()
    assert not hasattr(broker, "asked_with")  # the web process asks no venue
    assert not VenueCredential.objects.exists()
    assert run_credentials() == 1
    assert broker.asked_with == FIELDS
    assert store.secrets_of("paper", deployment.account) == FIELDS
    shown = text_of(browser, deployment, "/state")
    for words in ("The keys were tested and stored", "ends in …7788", "…ue-1", "<dd>trade</dd>"):
        assert words in shown
    assert "data-under-way" not in shown
    request = CredentialRequest.objects.get()
    assert (request.state, bytes(request.content)) == ("accepted", b"")
    assert run_credentials() == 0


def test_a_web_process_cannot_open_what_it_sealed(
    broker: Broker, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = X25519PrivateKey.generate()
    monkeypatch.setenv(sealing.PUBLIC, sealing.encode(key.public_key()))
    monkeypatch.delenv(sealing.PRIVATE)
    page(deployment).post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS})
    for _ in range(requests.TRIES - 1):
        assert requests.answer_due() == 0
    assert requests.answer_due() == 1
    refused = CredentialRequest.objects.get()
    assert (refused.state, bytes(refused.content)) == ("refused", b"")
    assert "its operator has to look" in refused.message
    page(deployment).post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS})
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(key))
    assert run_credentials() == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (KeyAccess("v", ("trade", "transfer"), may_trade=True, may_withdraw=True), "may withdraw money"),
        (KeyAccess("v", ("view",), may_trade=False, may_withdraw=False), "may not trade (view)"),
        (Rejected("forbidden", code="credentials_refused"), "forbidden"),
    ],
)
def test_a_refusal_is_shown_and_the_keys_in_use_stay(
    broker: Broker, deployment: Deployment, answer: Any, words: str
) -> None:
    store.store("paper", deployment.account, {"key_id": "in-use-0001", "secret": "x" * 20}, by="alice")
    broker.access = answer
    browser = page(deployment)
    browser.post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS})
    assert run_credentials() == 1
    shown = text_of(browser, deployment)
    assert "The keys that end in …7788 were not stored" in shown
    assert words in shown
    assert store.secrets_of("paper", deployment.account)["key_id"] == "in-use-0001"


def test_a_venue_that_does_not_answer_is_asked_again_and_then_given_up(
    broker: Broker, deployment: Deployment
) -> None:
    broker.access = Retryable("no answer within 5 s")
    browser = page(deployment)
    browser.post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS})
    assert run_credentials() == 0
    assert "Not yet: paper could not be asked: no answer within 5 s. Trying again." in text_of(
        browser, deployment
    )
    for _ in range(requests.TRIES):
        run_credentials()
    assert "paper could not be asked" in text_of(browser, deployment)
    assert CredentialRequest.objects.get().state == "refused"


@pytest.fixture
def others(broker: Broker) -> list[Deployment]:
    """Two more accounts, whose keys wait to be tested."""
    found = [make.deployment(make.agent(), state="draft", funded=False, usdc="0") for _ in range(2)]
    for one in found:
        requests.ask_to_store(one, FIELDS, by="bob")
    return found


def states() -> list[str]:
    return list(CredentialRequest.objects.order_by("pk").values_list("state", flat=True))


def test_an_unexpected_error_counts_as_a_try_and_stops_no_other_request(
    broker: Broker, others: list[Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sealing.unseal

    def broken(sealed: Any, context: str) -> dict[str, str]:
        if others[0].account in context:
            raise KeyError("agent_key")
        return real(sealed, context)

    monkeypatch.setattr(sealing, "unseal", broken)
    broker.access = Rejected("forbidden", code="credentials_refused")
    assert requests.answer_due() == 1
    assert states() == ["waiting", "refused"]
    for _ in range(requests.TRIES - 1):
        requests.answer_due()
    assert states() == ["refused", "refused"]
    refused = CredentialRequest.objects.order_by("pk")[0]
    assert refused.message == (
        "the test failed unexpectedly (KeyError): the operator of this installation has to look"
    )
    assert bytes(refused.content) == b""


def test_a_request_at_which_workers_end_is_given_up_too(broker: Broker, others: list[Deployment]) -> None:
    broker.access = SoftTimeLimitExceeded()
    for _ in range(2 * requests.TRIES):
        with pytest.raises(SoftTimeLimitExceeded):
            requests.answer_due()
    broker.access = Rejected("forbidden", code="credentials_refused")
    assert requests.answer_due() == 2
    assert CredentialRequest.objects.order_by("pk")[0].message == "it could not be answered in 5 tries"


def test_a_venue_that_hangs_does_not_hold_the_worker_and_comes_last_the_next_time(
    broker: Broker,
    others: list[Deployment],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    monkeypatch.setattr(requests, "ANSWER_SECONDS", 0.05)
    hung, asked = others[0].account, []

    def store_slowly(venue: str, account: str, *args: Any, **options: Any) -> Any:
        asked.append(account)
        if account == hung:
            sleep(0.1)
            raise Retryable("no answer within 30 s")
        raise Rejected("forbidden", code="credentials_refused")

    monkeypatch.setattr(store, "store", store_slowly)
    with wake.collected() as woken, django_capture_on_commit_callbacks(execute=True):
        assert run_credentials() == 0
    assert (asked, woken) == ([hung], {"trading.tasks.answer_credentials"})
    assert run_credentials() == 1
    assert asked == [hung, others[1].account, hung]
    assert states() == ["waiting", "refused"]


def test_the_connection_is_tested_by_the_worker(broker: Broker, deployment: Deployment) -> None:
    browser = page(deployment)
    answer = browser.post(f"/agents/{deployment.pk}/keys", {"do": "test"}, follow=True)
    assert "store them first" in answer.content.decode()
    store.store("paper", deployment.account, FIELDS, by="alice")
    del broker.asked_with
    answer = browser.post(f"/agents/{deployment.pk}/keys", {"do": "test"}, follow=True)
    assert "Testing the connection" in answer.content.decode()
    browser.post(f"/agents/{deployment.pk}/keys", {"do": "test"})
    assert CredentialRequest.objects.count() == 1
    broker.access = KeyAccess("venue-1", ("trade", "transfer"), may_trade=True, may_withdraw=True)
    assert run_credentials() == 1
    assert broker.asked_with == FIELDS
    shown = text_of(browser, deployment)
    assert "The test failed" in shown
    assert "may withdraw money" in shown


def test_keys_are_removed_and_a_request_that_waits_with_them(broker: Broker, deployment: Deployment) -> None:
    store.store("paper", deployment.account, FIELDS, by="alice")
    browser = page(deployment)
    browser.post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS})
    answer = browser.post(f"/agents/{deployment.pk}/keys", {"do": "remove"}, follow=True)
    assert "The keys are removed" in answer.content.decode()
    assert run_credentials() == 0
    assert not VenueCredential.objects.exists()
    assert CredentialRequest.objects.get().state == "replaced"
    assert bytes(CredentialRequest.objects.get().content) == b""


def test_wrong_fields_are_named_and_never_shown_again(broker: Broker, deployment: Deployment) -> None:
    browser = page(deployment)
    answer = browser.post(
        f"/agents/{deployment.pk}/keys", {"do": "set", "key_id": "", "secret": FIELDS["secret"]}
    )
    assert answer.status_code == 422
    assert "Missing." in answer.content.decode()
    assert FIELDS["secret"] not in answer.content.decode()
    with pytest.raises(InvalidInput):
        requests.ask_to_store(deployment, {"key_id": "x" * 5000, "secret": "y"}, by="alice")


def test_keys_of_others_are_404(broker: Broker, deployment: Deployment) -> None:
    person = User.objects.create_user("mallory")
    mallory = Client()
    mallory.force_login(person)
    for path in ("", "/state"):
        assert mallory.get(f"/agents/{deployment.pk}/keys{path}").status_code == 404
    assert mallory.post(f"/agents/{deployment.pk}/keys", {"do": "remove"}).status_code == 404
    headers = {"x-api-key": create_key(person, "k", ["read", "trade"], by="t")}
    assert Client().get(f"/api/deployments/{deployment.pk}/credentials", headers=headers).status_code == 404


def test_a_revoked_deployment_takes_no_keys(broker: Broker, deployment: Deployment) -> None:
    Deployment.objects.filter(pk=deployment.pk).update(**{"state": "revoked"})
    answer = page(deployment).post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS})
    assert "revoked for good" in answer.content.decode()
    assert not CredentialRequest.objects.exists()


def test_the_api_does_the_same(broker: Broker, deployment: Deployment) -> None:
    assert deployment.owner is not None
    headers = {"x-api-key": create_key(deployment.owner, "k", ["read", "trade"], by="t")}
    path = f"/api/deployments/{deployment.pk}/credentials"

    def call(method: str, where: str = "", **body: Any) -> tuple[int, dict[str, Any]]:
        answer = getattr(Client(), method)(
            f"{path}{where}", body, content_type="application/json", headers=headers
        )
        return answer.status_code, answer.json()

    assert Client().get(path, headers=headers).json() == {
        "venue": "paper", "wants": ["key_id", "secret"], "stored": None, "request": None,
    }  # fmt: skip
    assert call("post", keys={"pin": "1"})[0] == 422
    code, body = call("post", keys=FIELDS)
    assert (code, body["request"]["status"], body["stored"]) == (202, "WAITING", None)
    assert run_credentials() == 1
    body = Client().get(path, headers=headers).json()
    assert (body["request"]["status"], body["stored"]["hint"], body["stored"]["permissions"]) == (
        "ACCEPTED", "7788", ["trade"],
    )  # fmt: skip
    assert call("post", "/test")[0] == 202
    assert run_credentials() == 1
    code, body = call("delete")
    assert (code, body["stored"]) == (200, None)
    assert call("post", "/test")[0] in (409, 422)


class Echo(Broker):
    """A venue whose errors repeat what it was sent."""

    def key_access(self, secrets: Any) -> KeyAccess:
        super().key_access(secrets)
        raise Rejected(f"bad key {secrets['key_id']} with {secrets['secret']}", code="credentials_refused")


def rows_of_the_database() -> Iterator[str]:
    """Every row of every table, as text."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT to_jsonb(t)::text FROM "{table}" t')
            yield from (f"{table}: {row}" for (row,) in cursor.fetchall())


def test_no_row_log_task_page_or_error_has_a_key(
    broker: Broker,
    deployment: Deployment,
    use_venue: Callable[[Venue], None],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is stored, refused, tested and removed, with a venue that repeats the keys in its error."""
    caplog.set_level(logging.DEBUG)
    browser, path = page(deployment), f"/agents/{deployment.pk}/keys"
    seen: list[str] = []

    def look() -> None:
        seen.append(text_of(browser, deployment))
        seen.extend(rows_of_the_database())

    with wake.collected() as woken:
        browser.post(path, {"do": "set", **FIELDS})
        look()
        run_credentials()
        look()
        use_venue(Echo())
        seen.append(browser.post(path, {"do": "set", **FIELDS}, follow=True).content.decode())
        run_credentials()
        look()
        browser.post(path, {"do": "test"})
        run_credentials()
        look()
        out = StringIO()
        call_command("credentials", "list", "--json", stdout=out)
        browser.post(path, {"do": "remove"})
        look()
    seen += [json.dumps(sorted(woken)), out.getvalue(), caplog.text, *capsys.readouterr()]
    assert "bad key" in "".join(seen)
    assert "…7788" in "".join(seen)
    for name, secret in FIELDS.items():
        assert not [line for line in seen if secret in line], name


def test_a_request_wakes_the_worker_of_its_queue() -> None:
    [task] = WAKES["credentials.asked"]
    assert ROUTES[task] == {"queue": "guard"}


def test_an_account_of_another_deployment_is_refused_by_the_worker(
    broker: Broker, deployment: Deployment
) -> None:
    store.store("paper", "paper:other", {"key_id": "other", "secret": "z" * 20}, by="bob")
    broker.access = access("venue-1")
    page(deployment).post(f"/agents/{deployment.pk}/keys", {"do": "set", **FIELDS})
    run_credentials()
    assert "serves another deployment already" in CredentialRequest.objects.get().message
