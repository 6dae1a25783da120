"""Changes that raise risk wait for a second person; what only reduces risk does not."""

import ast
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction

from agents.models import Deployment
from maxxit.access import groups
from maxxit.core import config
from maxxit.core.config import ROOT
from maxxit.core.errors import IllegalMove, Misconfigured, Rejected
from maxxit.events.models import Event
from maxxit.events.record import advance
from maxxit.market import venues
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.trading.test_race import at_once
from trading import gate, second_person
from trading.models import Approval, ChangeRequest, Gate
from trading.operations import change_requests, changes, limit_overrides
from trading.operations.change_requests import Asked, Asker
from trading.second_person import ApprovalPolicy, Kind

database = pytest.mark.django_db
REAL = "alpaca-live"


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> str:
    """A venue of real money beside the configured ones; its name."""
    stanza = venues.VenuePolicy(adapter="alpaca", shorts=False, max_leverage=Decimal(1), paper=False)
    both = venues.venues() | {REAL: stanza}
    for module in ("maxxit.market.venues", "trading.second_person", "trading.operations.changes"):
        monkeypatch.setattr(f"{module}.venues", lambda: both)
    return REAL


def person(name: str, group: str = groups.RISK_OFFICERS) -> User:
    made = User.objects.create_user(name, is_staff=True)
    made.groups.add(Group.objects.get(name=group))
    return made


def raise_trade(value: str = "9000", by: User | None = None) -> Asked:
    asker = Asker(by.username, by) if by else Asker("root on the command line")
    return change_requests.ask(
        Kind.RAISE_LIMIT, changes.set_limit("max_trade_usd", value), by=asker, reason="a calm week"
    )


def request_of(asked: Asked) -> ChangeRequest:
    assert asked.request is not None
    return asked.request


def approve(row: ChangeRequest, user: User) -> ChangeRequest:
    return change_requests.approve(row.pk, user=User.objects.get(pk=user.pk), sha256=row.sha256)


def state(row: ChangeRequest) -> str:
    return ChangeRequest.objects.get(pk=row.pk).state


def names() -> list[str]:
    found = Event.objects.filter(name__startswith="change_request.").order_by("pk")
    return [event.name.removeprefix("change_request.") for event in found]


@database
def test_a_looser_limit_waits_for_another_person_and_then_applies(time: RecordedClock) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    row = request_of(raise_trade(by=olga))
    assert limit_overrides.overrides() == {}
    [line] = change_requests.lines_of(row)
    assert (line.what, line.old, line.new) == ("max_trade_usd", "5000", "9000")
    done = approve(row, rita)
    assert (done.state, state(row), done.decided_by) == ("applied", "applied", "rita")
    override = limit_overrides.overrides()["max_trade_usd"]
    assert (override.value, override.by, override.reason) == (9000, "olga, approved by rita", "a calm week")
    assert names() == ["requested", "approved", "applied"]
    events = {event.name: event.data for event in Event.objects.filter(name__startswith="change_request.")}
    assert events["change_request.requested"]["by"] == "olga"
    assert events["change_request.approved"]["by"] == events["change_request.applied"]["by"] == "rita"
    assert "max_trade_usd: 5000 → 9000" in events["change_request.applied"]["what"]


@database
def test_nobody_approves_what_they_asked_for(time: RecordedClock) -> None:
    rita = person("rita")
    row = request_of(raise_trade(by=rita))
    with pytest.raises(Rejected, match="another person"):
        approve(row, rita)
    rita.is_superuser = True
    rita.save()
    with pytest.raises(Rejected, match="another person"):
        approve(row, rita)
    assert state(row) == "requested"
    assert limit_overrides.overrides() == {}


@database
@pytest.mark.parametrize(
    ("group", "attribute", "value"),
    [
        (groups.OPERATORS, "is_staff", True),  # may change limits, not approve
        (groups.SUPPORT, "is_staff", True),
        (groups.RISK_OFFICERS, "is_staff", False),
        (groups.RISK_OFFICERS, "is_active", False),
    ],
)
def test_only_staff_with_the_permission_approves(
    time: RecordedClock, group: str, attribute: str, value: bool
) -> None:
    row = request_of(raise_trade(by=person("olga", groups.OPERATORS)))
    other = person("other", group)
    setattr(other, attribute, value)
    other.save()
    with pytest.raises(Rejected, match="permission"):
        approve(row, other)
    assert state(row) == "requested"


@database
def test_what_the_command_line_asked_for_takes_two_people_who_are_logged_in(time: RecordedClock) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    row = request_of(raise_trade())
    with pytest.raises(Rejected, match="permission"):  # a risk officer alone may not ask for limits
        approve(row, rita)
    confirmed = approve(row, olga)
    assert (confirmed.state, confirmed.asked_user) == ("requested", olga)
    assert limit_overrides.overrides() == {}
    olga.groups.add(Group.objects.get(name=groups.RISK_OFFICERS))
    with pytest.raises(Rejected, match="another person"):
        approve(row, olga)
    assert approve(row, rita).state == "applied"
    assert names() == ["requested", "confirmed", "approved", "applied"]


@database
def test_a_request_expires(time: RecordedClock) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    row = request_of(raise_trade(by=olga))
    time.to(T0 + timedelta(hours=24) - timedelta(seconds=1))
    assert change_requests.expire_due() == 0
    assert change_requests.open_requests() == [row]
    time.to(T0 + timedelta(hours=24))
    assert change_requests.open_requests() == []
    with pytest.raises(Rejected, match="expired"):
        approve(row, rita)
    assert state(row) == "expired"
    second = request_of(raise_trade(by=olga))
    time.move(hours=25)
    assert (change_requests.expire_due(), change_requests.expire_due()) == (1, 0)
    assert state(second) == "expired"
    assert limit_overrides.overrides() == {}


@database
def test_a_changed_base_makes_a_request_stale(time: RecordedClock) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    row = request_of(raise_trade(by=olga))
    limit_overrides.set_override("max_trade_usd", "1000", by="pia", reason="thin books")
    with pytest.raises(Rejected, match=r"stale.*1000"):
        approve(row, rita)
    assert state(row) == "stale"
    assert limit_overrides.overrides()["max_trade_usd"].value == 1000
    with pytest.raises(Rejected, match="already"):
        approve(row, rita)


@database
def test_another_change_than_the_one_shown_is_not_approved(time: RecordedClock) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    row = request_of(raise_trade(by=olga))
    with pytest.raises(Rejected, match="not the change that was shown"):
        change_requests.approve(row.pk, user=rita, sha256="0" * 64)
    ChangeRequest.objects.filter(pk=row.pk).update(content={"limit": "max_trade_usd", "value": "4000000"})
    with pytest.raises(Rejected, match="not the change that was shown"):
        approve(row, rita)
    assert (state(row), limit_overrides.overrides()) == ("requested", {})


@database
def test_a_stricter_limit_and_one_that_is_no_limit_apply_at_once(time: RecordedClock) -> None:
    asked = raise_trade("1000")
    assert asked.request is None
    assert limit_overrides.overrides()["max_trade_usd"].value == 1000
    back = change_requests.ask(
        Kind.RAISE_LIMIT, changes.unset_limit("max_trade_usd"), by=Asker("olga"), reason="all clear"
    )
    assert request_of(back).state == "requested"  # returning to the file's 5000 is looser
    assert limit_overrides.overrides()["max_trade_usd"].value == 1000


@database
def test_the_same_change_is_asked_for_once(time: RecordedClock) -> None:
    olga = person("olga", groups.OPERATORS)
    row = request_of(raise_trade(by=olga))
    with pytest.raises(Rejected, match=f"request {row.pk} .* asks the same"):
        raise_trade()
    change_requests.withdraw(row.pk, by="olga", user=olga)
    again = request_of(raise_trade(by=olga))
    with pytest.raises(IntegrityError), transaction.atomic():
        ChangeRequest.objects.filter(pk=row.pk).update(state="requested")
    assert state(again) == "requested"


@database
def test_a_request_is_refused_with_a_reason_and_withdrawn_by_who_asked(time: RecordedClock) -> None:
    olga, pia, rita = person("olga", groups.OPERATORS), person("pia", groups.OPERATORS), person("rita")
    row = request_of(raise_trade(by=olga))
    with pytest.raises(Rejected, match="reason"):
        change_requests.refuse(row.pk, by="rita", user=rita, reason=" ")
    with pytest.raises(Rejected, match="refuse it instead"):
        change_requests.withdraw(row.pk, by="pia", user=pia)
    refused = change_requests.refuse(row.pk, by="rita", user=rita, reason="too much")
    assert (refused.state, refused.decision) == ("refused", "too much")
    with pytest.raises(Rejected, match="refused by rita already"):
        approve(row, rita)
    assert (
        change_requests.withdraw(request_of(raise_trade(by=olga)).pk, by="olga", user=olga).state
        == "withdrawn"
    )
    assert limit_overrides.overrides() == {}
    with pytest.raises(IllegalMove):
        advance(refused, "approved")


@database
def test_a_failure_while_applying_leaves_nothing_half(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    row = request_of(raise_trade(by=olga))
    real_advance = change_requests.advance

    def dies(one: Any, new: str, **rest: Any) -> None:
        if new == "applied":
            raise RuntimeError("killed between the change and its record")
        real_advance(one, new, **rest)

    monkeypatch.setattr(change_requests, "advance", dies)
    with pytest.raises(RuntimeError):
        approve(row, rita)
    assert state(row) == "requested"
    assert limit_overrides.overrides() == {}
    assert names() == ["requested"]
    monkeypatch.undo()
    assert approve(row, rita).state == "applied"


@database
def test_the_gate_of_real_money_needs_a_second_person_and_that_of_paper_does_not(
    time: RecordedClock, real: str
) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    by = Asker("olga", olga)
    paper = change_requests.ask(Kind.OPEN_GATE, changes.open_gate("paper"), by=by, reason="paper")
    assert paper.request is None
    row = request_of(change_requests.ask(Kind.OPEN_GATE, changes.open_gate(real), by=by, reason="go live"))
    until = T0 + timedelta(hours=8)
    orders = request_of(
        change_requests.ask(Kind.APPROVE_ORDERS, changes.approve_orders(real, until), by=by, reason="go live")
    )
    every = change_requests.ask(
        Kind.APPROVE_ORDERS, changes.approve_orders("*", until), by=by, reason="go live"
    )
    assert request_of(every).state == "requested"
    assert orders.expires_at == until
    assert (gate.read(real).dry_run, gate.is_approved(real)) == (True, False)
    approve(row, rita)
    approve(orders, rita)
    assert (gate.read(real).dry_run, gate.is_approved(real)) == (False, True)
    assert Approval.objects.get().approved_by == "olga, approved by rita"
    gate.set_dry_run(real, True, by="pia", reason="stop")  # closing never waits
    assert gate.read(real).dry_run


@database
def test_closing_or_revoking_makes_a_request_to_open_stale(time: RecordedClock, real: str) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    by, until = Asker("olga", olga), T0 + timedelta(hours=8)
    opening = request_of(change_requests.ask(Kind.OPEN_GATE, changes.open_gate(real), by=by, reason="live"))
    gate.approve(real, by="x", until=T0 + timedelta(hours=1), reason="renewed below")
    renewal = request_of(
        change_requests.ask(Kind.APPROVE_ORDERS, changes.approve_orders(real, until), by=by, reason="live")
    )
    time.move(hours=2)  # that an approval ends by itself is expected
    approve(renewal, rita)
    again = changes.approve_orders(real, until + timedelta(hours=1))
    third = request_of(change_requests.ask(Kind.APPROVE_ORDERS, again, by=by, reason="live"))
    gate.set_dry_run(real, True, by="pia", reason="news")
    gate.revoke(real, by="pia", reason="news")
    for row in (opening, third):
        with pytest.raises(Rejected, match="stale"):
            approve(row, rita)
    assert not gate.is_approved(real)
    assert Gate.objects.get(venue=real).dry_run


@database
def test_the_approval_file_covers_no_real_money_where_two_people_are_needed(
    time: RecordedClock, real: str, no_approval_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_approval_file.touch()
    for venue in (real, "paper"):
        gate.set_dry_run(venue, False, by="x", reason="test")
    assert gate.open_venues() == ["paper"]
    assert (gate.is_approved(real), gate.is_approved("paper")) == (False, True)
    use(monkeypatch, approve_orders={"one_person": "Ann runs this alone and decided so on 2026-11-30."})
    assert gate.is_approved(real)
    assert sorted(gate.open_venues()) == sorted([real, "paper"])


@database
def test_raising_a_customers_limit_for_them_needs_a_second_person_and_lowering_does_not(
    time: RecordedClock, real: str
) -> None:
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    deployment = make.deployment(make.agent(venue=real), funded=False)
    Deployment.objects.filter(pk=deployment.pk).update(max_daily_usd=100, max_open_positions=5)

    def ask(**given: Any) -> Asked:
        content = changes.owner_limits_of(deployment, given)
        return change_requests.ask(Kind.RAISE_OWNER_LIMIT, content, by=Asker("olga", olga), reason="by phone")

    assert ask(max_daily_usd=Decimal(50), max_open_positions=4).request is None
    deployment.refresh_from_db()
    assert (deployment.max_daily_usd, deployment.max_open_positions) == (50, 4)
    row = request_of(ask(max_daily_usd=None, max_open_positions=4))
    deployment.refresh_from_db()
    assert deployment.max_daily_usd == 50
    [line] = change_requests.lines_of(row)
    assert (line.old, line.new) == ("50", "none")
    approve(row, rita)
    deployment.refresh_from_db()
    assert (deployment.max_daily_usd, deployment.max_open_positions) == (None, 4)


def use(monkeypatch: pytest.MonkeyPatch, **rules: Any) -> None:
    given = second_person.policy().model_dump() | rules
    one = ApprovalPolicy.model_validate(given)
    monkeypatch.setattr(second_person, "policy", lambda: one)


@database
def test_one_person_suffices_only_where_the_configuration_says_why(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "Ann runs this alone and decided so on 2026-11-30."
    use(monkeypatch, raise_limit={"one_person": why})
    assert raise_trade().request is None
    assert limit_overrides.overrides()["max_trade_usd"].value == 9000
    row = ChangeRequest.objects.get()
    assert (row.state, row.decision, row.decided_by) == ("applied", why, "root on the command line")
    assert Event.objects.get(name="change_request.approved").data["one_person"] == why
    assert names() == ["approved", "applied"]


@pytest.mark.parametrize(
    "wrong", ["", "none", "one_person", {"one_person": ""}, {"one_person": "yes"}, None, {}]
)
def test_a_rule_that_is_no_written_decision_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="raise_limit"):
        ApprovalPolicy.model_validate(second_person.policy().model_dump() | {"raise_limit": wrong})


def test_production_needs_two_people_and_the_demo_states_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_read", config._read.__wrapped__)  # what is loaded is not kept
    found = {}
    for profile in ("", "production", "demo", "replay"):
        monkeypatch.setenv("MAXXIT_PROFILE", profile)
        loaded = second_person.policy.__wrapped__()
        found[profile] = {str(kind): getattr(loaded, kind) == "second_person" for kind in Kind}
    assert set(found["production"].values()) == set(found[""].values()) == {True}
    assert set(found["demo"].values()) == set(found["replay"].values()) == {False}


def test_a_venue_whose_money_cannot_be_told_counts_as_real(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: Any) -> str:
        raise Misconfigured("no chain")

    monkeypatch.setattr(second_person.wiring, "money_at_stake", unknown)
    assert second_person.trades_real_money(venues.venue_policy("paper"))


DIRECT = {
    "trading/operations/changes.py",  # behind the second person
    "trading/management/commands/paper.py",  # paper venues alone
    "trading/operations/admin.py",  # closes any gate, opens those of paper
    "maxxit/ops/demo.py",
    "maxxit/ops/devchain/follower.py",  # the local chain's play money
    "maxxit/ops/sweep_bench.py",
    "maxxit/replay/run.py",
    "trading/management/commands/gate.py",  # closes
}
OPENING = {("gate", "set_dry_run"), ("gate", "approve"), ("limit_overrides", "set_override"),
           ("limit_overrides", "remove_override")}  # fmt: skip
APPROVING = {("change_requests", "approve")}


def calls(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr


def test_nothing_opens_or_loosens_past_the_second_person_and_only_the_page_approves() -> None:
    opening, approving = set(), set()
    for package in ("maxxit", "agents", "signals_app", "trading", "positions"):
        for path in (ROOT / package).rglob("*.py"):
            if "node_modules" in path.parts:
                continue
            text = path.read_text()
            if not any(name in text for _, name in OPENING | APPROVING):
                continue
            found, name = set(calls(path)), str(path.relative_to(ROOT))
            opening |= {name} if found & OPENING else set()
            approving |= {name} if found & APPROVING else set()
    assert opening == DIRECT
    assert approving == {"maxxit/web/change_requests.py"}


# --- on real rows, in threads


def two(*works: Callable[[], Any]) -> list[Any]:
    assert threading.active_count() < 50
    return at_once(works)


@pytest.mark.django_db(transaction=True)
def test_two_approvals_at_once_apply_once(time: RecordedClock) -> None:
    groups_there()
    olga, rita, rolf = person("olga", groups.OPERATORS), person("rita"), person("rolf")
    row = request_of(raise_trade(by=olga))
    results = two(*(lambda user=user: approve(row, user) for user in (rita, rolf, rita, rolf)))
    winner = ChangeRequest.objects.get(pk=row.pk).decided_by
    losers = [one for one in results if isinstance(one, Rejected)]
    assert len(losers) == 2, results  # the other person; the winner's second click changes nothing
    assert all(f"applied by {winner} already" in str(one) for one in losers)
    assert names() == ["requested", "approved", "applied"]
    assert Event.objects.filter(name="limits.override_set").count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_approval_and_a_stricter_change_at_once_never_end_looser_than_what_was_approved(
    time: RecordedClock,
) -> None:
    groups_there()
    olga, rita = person("olga", groups.OPERATORS), person("rita")
    row = request_of(raise_trade(by=olga))
    results = two(
        lambda: approve(row, rita),
        lambda: limit_overrides.set_override("max_trade_usd", "1000", by="pia", reason="thin books"),
    )
    assert not isinstance(results[1], Exception)
    stale = isinstance(results[0], Rejected)
    assert state(row) == ("stale" if stale else "applied")
    assert limit_overrides.overrides()["max_trade_usd"].value == 1000


def groups_there() -> None:
    """The groups of `post_migrate`, which a test that empties the tables may have taken away."""
    from django.apps import apps

    for label in ("trading", "agents", "console"):
        groups.grant(apps.get_app_config(label))
