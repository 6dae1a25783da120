"""The gate: what an expired approval, a revoked one and the switch of one account stop, and what they do not."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from maxxit.core import clock
from maxxit.notify import alerts
from maxxit.notify.models import Alert
from tests import builders as make
from tests.conftest import RecordedClock
from trading import gate
from trading.risk import checks

pytestmark = pytest.mark.django_db


@pytest.fixture
def opened(time: RecordedClock, no_approval_file: object) -> RecordedClock:
    """Dry run off, and an approval of one hour."""
    gate.set_dry_run("paper", False, by="test", reason="test")
    gate.approve("paper", by="test", until=clock.now() + timedelta(hours=1), reason="test")
    return time


def leaves(*, reduces: bool, account: str = "") -> str:
    """Why an order would not leave, or empty."""
    verdict = checks.gate_verdict(gate.read("paper", account), reduces=reduces)
    assert reduces is False or (verdict.reason == "") == ("paper" in gate.open_venues())
    return verdict.reason


def test_an_expired_approval_stops_entries_and_lets_exits_leave(opened: RecordedClock) -> None:
    opened.move(hours=2)
    assert (leaves(reduces=False), leaves(reduces=True)) == ("not_approved", "")


@pytest.mark.parametrize("scope", ["paper", "*"])
def test_an_approval_revoked_after_it_expired_stops_exits_too(opened: RecordedClock, scope: str) -> None:
    gate.approve(scope, by="test", until=clock.now() + timedelta(hours=1), reason="test")
    opened.move(hours=2)
    gate.revoke(scope, by="test", reason="stop")
    assert (leaves(reduces=False), leaves(reduces=True)) == ("not_approved", "not_approved")


def test_approving_again_ends_what_an_earlier_revocation_stopped(opened: RecordedClock) -> None:
    gate.revoke("paper", by="test", reason="stop")
    opened.move(minutes=1)
    gate.approve("paper", by="test", until=clock.now() + timedelta(hours=1), reason="again")
    opened.move(hours=2)
    assert (leaves(reduces=False), leaves(reduces=True)) == ("not_approved", "")


def test_dry_run_stops_everything_whatever_was_approved(opened: RecordedClock) -> None:
    gate.set_dry_run("paper", True, by="test", reason="stop")
    opened.move(hours=2)
    assert (leaves(reduces=False), leaves(reduces=True)) == ("dry_run", "dry_run")


def test_a_new_installation_has_every_gate_shut(time: RecordedClock, no_approval_file: object) -> None:
    """No migration opens or approves anything; approval alone opens nothing either."""
    assert (leaves(reduces=False), leaves(reduces=True)) == ("dry_run", "dry_run")
    gate.approve("*", by="test", until=clock.now() + timedelta(hours=1), reason="test")
    assert (leaves(reduces=False), leaves(reduces=True)) == ("dry_run", "dry_run")


def test_a_venue_that_nobody_ever_approved_stays_shut(time: RecordedClock, no_approval_file: object) -> None:
    gate.set_dry_run("paper", False, by="test", reason="test")
    gate.approve("safe", by="test", until=clock.now() + timedelta(hours=1), reason="another venue")
    assert (leaves(reduces=False), leaves(reduces=True)) == ("not_approved", "not_approved")


def test_the_switch_of_one_account_stops_that_account_alone(opened: RecordedClock) -> None:
    gate.kill("reduce_only", by="guard", reason="daily loss", cause="daily_loss", account="0xA")
    assert leaves(reduces=False, account="0xA") == "kill_switch"
    assert leaves(reduces=True, account="0xA") == ""
    assert leaves(reduces=False, account="0xB") == ""
    assert gate.kill_level() == ""
    assert gate.release(by="me", reason="the platform's only", account="") == 0
    assert gate.release(by="me", reason="looked at it", account="0xA") == 1
    assert leaves(reduces=False, account="0xA") == ""


def test_the_platforms_switch_holds_for_every_account(opened: RecordedClock) -> None:
    gate.kill("no_entries", by="guard", reason="one account", account="0xA")
    gate.kill("flatten", by="me", reason="everything")
    assert gate.kill_level("0xA") == gate.kill_level("0xB") == "flatten"


def test_flatten_of_one_account_closes_its_positions_alone(opened: RecordedClock) -> None:
    from positions.exits import sweep

    mine, other = (make.position(make.deployment(make.agent())) for _ in range(2))
    make.price("ETH", "2000")
    gate.kill("flatten", by="guard", reason="loss", account=mine.deployment.account)
    assert sweep.sweep() == 1
    for position in (mine, other):
        position.refresh_from_db()
    assert (mine.state, other.state) == ("closing", "open")


def test_the_owner_of_a_stopped_account_is_told_and_no_other_customer() -> None:
    owner, other, _ = (
        User.objects.create_user(name, is_staff=name == "staff") for name in ("owner", "other", "staff")
    )
    mine = make.deployment(make.agent(), owner=owner)
    make.deployment(make.agent(), owner=other)
    gate.kill("reduce_only", by="maxxit", reason="drawdown", account=mine.account)
    gate.kill("no_entries", by="ann", reason="drill")
    alerts.write()

    assert sorted(
        (row.user.username, row.event.data.get("account", "")) for row in Alert.objects.all()
    ) == [
        ("owner", mine.account), ("staff", ""), ("staff", mine.account),
    ]  # fmt: skip
    assert "owner_id" not in alerts.message_of(Alert.objects.filter(user=owner).get()).text
