"""The pages of trained models: figures of the gate, and approval, rejection and retirement by a person."""

from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from maxxit.core import clock
from maxxit.learning import registry
from maxxit.learning.models import TrainedModel
from tests.learning.stored import MIDNIGHT, trained
from tests.learning.test_gates import VOLATILITY

pytestmark = pytest.mark.django_db
SENT = {"_form_submitted": "True", "reason": "checked with the desk"}


@pytest.fixture(autouse=True)
def _recorded_clock() -> Iterator[None]:
    with clock.frozen(MIDNIGHT):
        yield


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="a long one for tests"))
    return client


def act(browser: Client, action: str, row: TrainedModel, **sent: str) -> int:
    """Send the form of a button; return the status code."""
    url = reverse(f"admin:learning_trainedmodel_{action}", args=[row.pk])
    status = browser.post(url, SENT | sent).status_code
    row.refresh_from_db()
    return status


def test_a_page_shows_each_check_with_its_value_and_limit(browser: Client) -> None:
    row = trained(metrics=VOLATILITY | {"skill_low_pct": -0.1})
    row.checks = [check.as_json() for check in registry.verdict(row).checks]
    row.save()
    page = browser.get(reverse("admin:learning_trainedmodel_change", args=[row.pk])).content.decode()
    assert "<td>skill_over_ewma</td><td>-0.1 %</td><td>&gt; 0 %</td><td>failed</td>" in page
    assert "<td>coverage_80</td>" in page
    rows = browser.get(reverse("admin:learning_trainedmodel_changelist")).content.decode()
    assert "skill_over_ewma" in rows


def test_a_model_in_shadow_is_approved_with_a_reason_and_serves(browser: Client) -> None:
    before = trained(state="serving", served_at=MIDNIGHT)
    compared = VOLATILITY | {"incumbent": {"model": before.pk, "low_pct": 0.1, "qlike": 0.3}}
    row = trained(state="shadow", data_sha256="1" * 64, metrics=compared)
    act(browser, "approve", row, reason="")
    assert row.state == "shadow"
    act(browser, "approve", row)
    assert (row.state, row.approved_by) == ("serving", "root")
    before.refresh_from_db()
    assert before.state == "retired"
    assert LogEntry.objects.get().change_message == "serving: checked with the desk"
    act(browser, "approve", before)  # and back
    assert (before.state, TrainedModel.objects.get(pk=row.pk).state) == ("serving", "retired")


def test_a_model_that_fails_its_gate_is_not_approved_and_the_page_says_why(browser: Client) -> None:
    row = trained(state="shadow", metrics=VOLATILITY | {"qlike": 0.5, "skill_low_pct": -0.1})
    act(browser, "approve", row)
    assert row.state == "shadow"
    page = browser.get(reverse("admin:learning_trainedmodel_change", args=[row.pk])).content.decode()
    assert "skill_over_ewma is -0.1 %, the limit is &gt; 0 %" in page
    assert not LogEntry.objects.exists()


def test_models_are_rejected_and_retired_by_a_post_alone(browser: Client) -> None:
    candidate, serves = trained(), trained(state="serving", data_sha256="1" * 64)
    assert browser.get(reverse("admin:learning_trainedmodel_reject", args=[candidate.pk])).status_code == 200
    candidate.refresh_from_db()
    assert candidate.state == "candidate"
    assert act(browser, "reject", serves) == 403  # what serves is retired
    assert act(browser, "retire", candidate) == 403
    act(browser, "reject", candidate)
    act(browser, "retire", serves)
    assert (candidate.state, serves.state) == ("retired", "retired")
    assert act(browser, "approve", candidate) == 403  # it never served


def test_who_may_only_look_sees_no_button(browser: Client) -> None:
    row = trained(state="shadow")
    viewer = User.objects.create_user("viewer", password="a long one for tests", is_staff=True)
    from django.contrib.auth.models import Permission

    viewer.user_permissions.add(Permission.objects.get(codename="view_trainedmodel"))
    other = Client()
    other.force_login(viewer)
    assert act(other, "approve", row) == 403
    assert act(other, "reject", row) == 403
    assert row.state == "shadow"
