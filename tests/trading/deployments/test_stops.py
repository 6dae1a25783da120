"""An owner stops their account, and releases what they alone pulled."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from positions import health
from tests import builders
from trading import gate
from trading.deployments import stops
from trading.risk.limits_in_force import protective_limits

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployment() -> Deployment:
    owner = User.objects.create_user("alice")
    return builders.deployment(builders.agent(owner=owner), funded=False, owner=owner)


def test_an_owner_stops_their_account_and_no_other(deployment: Deployment) -> None:
    other = builders.deployment(builders.agent(), funded=False)
    stops.stop(deployment, "no_entries", by="alice", reason="holiday")
    assert gate.kill_level(deployment.account) == "no_entries"
    assert gate.kill_level(other.account) == gate.kill_level() == ""
    assert Event.objects.get(name="kill_switch.pulled").data["owner_id"] == deployment.owner_id


def test_a_second_pull_raises_the_level_and_never_lowers_it(deployment: Deployment) -> None:
    first = stops.stop(deployment, "no_entries", by="alice", reason="x")
    assert stops.stop(deployment, "no_entries", by="alice", reason="x") == first
    flat = stops.stop(deployment, "flatten", by="alice", reason="x")
    assert stops.stop(deployment, "reduce_only", by="alice", reason="x") == flat
    assert gate.kill_level(deployment.account) == "flatten"


def test_an_owner_releases_what_they_pulled_and_the_rest_stays(deployment: Deployment) -> None:
    stops.stop(deployment, "flatten", by="alice", reason="x")
    gate.kill("no_entries", by="guard", reason="drift", cause="ledger_drift", account=deployment.account)
    [left] = stops.release(deployment, by="alice", reason="over")
    assert left.cause == "ledger_drift"
    assert gate.kill_level(deployment.account) == "no_entries"
    with pytest.raises(
        Rejected, match=r"stopped by no_entries \(ledger_drift\), not by its owner"
    ) as refused:
        stops.release(deployment, by="alice", reason="over")
    assert refused.value.code == "not_yours_to_release"


def test_the_platforms_switch_is_not_the_owners(deployment: Deployment) -> None:
    gate.kill("flatten", by="ops", reason="drill")
    with pytest.raises(Rejected, match=r"stopped by flatten \(manual\)"):
        stops.release(deployment, by="alice", reason="let me")
    assert gate.kill_level() == "flatten"


def test_what_is_not_stopped_and_what_has_no_reason_is_refused(deployment: Deployment) -> None:
    with pytest.raises(Rejected, match="is not stopped"):
        stops.release(deployment, by="alice", reason="x")
    with pytest.raises(Rejected, match="needs a reason"):
        stops.stop(deployment, "flatten", by="alice", reason=" ")
    with pytest.raises(Rejected, match="choose one of"):
        stops.stop(deployment, "panic", by="alice", reason="x")


def test_an_account_that_two_owners_share_is_stopped_by_neither(deployment: Deployment) -> None:
    builders.deployment(
        builders.agent(), funded=False, account=deployment.account, owner=User.objects.create_user("bob")
    )
    with pytest.raises(Rejected, match="another owner's deployment"):
        stops.stop(deployment, "flatten", by="alice", reason="x")
    assert gate.kill_level(deployment.account) == ""


def test_stops_of_owners_never_stop_the_platform(deployment: Deployment) -> None:
    stops.stop(deployment, "flatten", by="alice", reason="x")
    gate.kill("no_entries", by="guard", reason="x", cause="drawdown", account="paper:other")
    later = clock.now() + timedelta(seconds=1)
    assert health._stopped(later, protective_limits().triggers) == {"paper:other"}
