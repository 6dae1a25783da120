"""The activity feed, on its page, by the API and the command: what each agent did with each post, and the reasons."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agents.models import Agent
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.market.models import RefusedQuote
from maxxit.reports.activity import feed, rows, search
from maxxit.reports.activity.feed import Filters, Scope
from maxxit.reports.trades import reasons, why
from signals_app.models import CtPost
from tests import builders
from tests.builders import T0, RecordedClock
from tests.surface.conftest import World
from trading.models import Order

HOUR = timedelta(hours=1)


@pytest.fixture
def alice(db: None, time: RecordedClock) -> User:
    """A customer with an agent on ETH and SOL that follows one author."""
    return User.objects.create_user("alice")


@pytest.fixture
def agent(alice: User) -> Agent:
    made = builders.agent(owner=alice, name="Swing", tokens=["ETH", "SOL"])
    builders.deployment(made, owner=alice)
    return made


def author(agent: Agent) -> Any:
    return builders.account(agent, username="satoshi")


def declined(post: CtPost, agent: Agent, reason: str, token: str = "ETH", **data: str) -> None:
    post.outcome = f"candidate:{reason}"
    post.processed_for_signals = True
    post.save()
    values = {"measured": "", "limit": ""} | data
    record("signal.declined", post, agent=agent.name, agent_id=agent.pk, token=token, reason=reason, **values)


def blocked(agent: Agent, by: Any, code: str, state: str = "blocked", **fields: Any) -> Order:
    post = builders.candidate(by, outcome="signal")
    signal = builders.signal(
        agent, state="skipped", created_at=clock.now(), correlation_id=post.correlation_id
    )
    signal.posts.set([post])
    verdict = {"reason": code, "measured": "7", "limit": "5"}
    return builders.order(
        agent.deployments.get(), by=signal, state=state, reason=code, verdict=verdict, **fields
    )


def page(person: Any, **filters: Any) -> list[rows.Row]:
    return rows.activity(person, Filters(**filters)).rows


def lines(found: list[rows.Row]) -> list[rows.Line]:
    return [line for row in found for line in row.lines]


def test_one_feed_holds_trades_blocked_orders_declined_calls_and_unread_posts(
    alice: User, agent: Agent
) -> None:
    by = author(agent)
    signal = builders.signal(agent, state="executed")
    builders.position(agent.deployments.get(), by=signal)
    blocked(agent, by, "cooldown")
    declined(builders.candidate(by), agent, "below_threshold", measured="0.41", limit="0.5")
    builders.post(by, "gm", state="prefiltered", outcome="prefiltered:chatter")
    builders.post(by, "what a day", state="classified", is_signal_candidate=False, outcome="not_candidate")
    builders.post(by, "ETH?", state="quarantined", attempts=3, last_error="the answer is no JSON")
    builders.candidate(by)
    found = page(alice)
    assert {row.outcome for row in found} == {"traded", "blocked", "declined", "no_call", "unread", "waiting"}
    assert len(found) == 7
    low = next(line for line in lines(found) if line.code == "candidate:below_threshold")
    assert (low.text, low.measured, low.limit, low.audience) == (
        "the confidence is below the agent's minimum",
        "0.41",
        "0.5",
        "customer",
    )
    assert {row.outcome: row.lines[0].code for row in found if row.outcome == "unread"} == {
        "unread": "quarantined"
    }


@pytest.mark.parametrize("outcome", feed.OUTCOMES)
def test_each_outcome_can_be_chosen_alone(alice: User, agent: Agent, outcome: str) -> None:
    by = author(agent)
    builders.position(agent.deployments.get(), by=builders.signal(agent, state="executed"))
    blocked(agent, by, "cooldown")
    builders.signal(agent)
    declined(builders.candidate(by), agent, "below_threshold")
    builders.post(by, state="classified", is_signal_candidate=False, outcome="not_candidate")
    builders.post(by, state="new")
    builders.candidate(by)
    found = page(alice, outcome=outcome)
    assert found
    assert {row.outcome for row in found} == {outcome}


def test_a_post_with_a_signal_of_one_agent_is_listed_for_the_one_that_declined_it(
    alice: User, agent: Agent
) -> None:
    by, other = author(agent), builders.agent(owner=alice, name="Careful")
    other.subscriptions.create(account=by)
    post = builders.candidate(by, outcome="signal", processed_for_signals=True)
    signal = builders.signal(agent)
    signal.posts.set([post])
    declined(post, other, "below_threshold")
    CtPost.objects.filter(pk=post.pk).update(outcome="signal")
    assert [(row.key.kind, row.agent) for row in page(alice)] == [("signal", "Swing"), ("post", "Careful")]
    assert [row.key.kind for row in page(alice, agent=agent)] == ["signal"]
    assert [row.lines[0].code for row in page(alice, agent=other)] == ["candidate:below_threshold"]


def test_the_reason_of_another_owners_agent_is_not_shown(alice: User, agent: Agent) -> None:
    """The outcome of a post is the reason of the agent nearest a trade, whosever it is."""
    by, other = author(agent), builders.agent(name="Careful")
    other.subscriptions.create(account=by)
    declined(builders.candidate(by), other, "bucket_taken")
    builders.candidate(by, outcome="candidate:too_old", processed_for_signals=True)
    assert {line.code for line in lines(page(alice))} == {"not_followed", "candidate:too_old"}
    assert {line.code for line in lines(page(alice, agent=agent))} == {"not_followed", "candidate:too_old"}
    assert {line.code for line in lines(page(None))} == {"candidate:bucket_taken", "candidate:too_old"}


def test_the_decisions_of_an_agent_of_the_same_name_are_not_shown(alice: User, agent: Agent) -> None:
    """Another owner may give an agent the same name; its reason is theirs."""
    bob = User.objects.create_user("bob")
    by, other = author(agent), builders.agent(owner=bob, name=agent.name)
    other.subscriptions.create(account=by)
    post = builders.candidate(by, outcome="candidate:bucket_taken", processed_for_signals=True)
    values = {"token": "ETH", "measured": "", "limit": "", "agent": agent.name}
    record("signal.declined", post, agent_id=other.pk, reason="bucket_taken", **values)
    assert {line.code for line in lines(page(alice))} == {"not_followed"}
    assert {line.code for line in lines(page(bob))} == {"candidate:bucket_taken"}
    assert page(alice, outcome="declined")[0].lines[0].code == "not_followed"
    record("signal.declined", post, agent_id=agent.pk, reason="below_threshold", **values)
    assert {line.code for line in lines(page(alice))} == {"candidate:below_threshold"}
    assert {line.code for line in lines(page(None))} == {
        "candidate:bucket_taken",
        "candidate:below_threshold",
    }
    assert feed.agent_named(agent.name, alice) == agent
    with pytest.raises(Rejected, match="2 agents are named"):
        feed.agent_named(agent.name, None)


def test_filters_narrow_by_agent_token_account_and_time(
    alice: User, agent: Agent, time: RecordedClock
) -> None:
    by = author(agent)
    declined(builders.candidate(by, {"SOL": "long"}, text="long $SOL"), agent, "below_threshold", "SOL")
    builders.post(
        by, "solana looks weak", state="classified", is_signal_candidate=False, outcome="not_candidate"
    )
    builders.post(by, "gm", state="prefiltered", outcome="prefiltered:chatter")
    time.move(hours=2)
    builders.signal(agent, token="ETH", created_at=clock.now())
    assert len(page(alice)) == 4
    assert [row.posts[0].text for row in page(alice, token="SOL")] == ["solana looks weak", "long $SOL"]
    assert [row.token for row in page(alice, token="ETH")] == ["ETH"]
    assert len(page(alice, since=T0 + HOUR)) == 1
    assert len(page(alice, until=T0 + HOUR)) == 3
    assert len(page(alice, account=by)) == 3
    assert page(alice, account=builders.account(username="stranger")) == []


def test_pages_continue_where_the_page_before_ended(alice: User, agent: Agent, time: RecordedClock) -> None:
    by = author(agent)
    for number in range(23):
        builders.post(
            by, f"post {number}", state="classified", is_signal_candidate=False, outcome="not_candidate"
        )
        builders.signal(agent, created_at=clock.now())  # at the same moment
        if number % 3:
            time.move(seconds=1)
    whole = [row.key for row in rows.activity(alice, limit=100).rows]
    walked, before = [], None
    while True:
        part = rows.activity(alice, before=before, limit=7)
        walked += [row.key for row in part.rows]
        before = part.next_before
        if before is None:
            break
        before = feed.Key.parse(str(before))
    assert walked == whole
    assert len(set(whole)) == 46


def test_a_stranger_sees_nothing_and_other_customers_rows_do_not_count(world: World) -> None:
    assert page(User.objects.create_user("new")) == []
    mine = page(world.alice)
    assert {line.account for line in lines(mine)} <= {world.of_alice.deployment.account, ""}
    assert not {row.signal_id for row in mine} & {row.signal_id for row in page(world.bob)}
    assert len(page(world.staff)) == len(mine) + len(page(world.bob))
    with pytest.raises(Rejected, match="no agent"):
        feed.read_filters({"agent": world.of_bob.agent.name}, world.alice)


def test_the_number_of_queries_does_not_grow_with_the_rows(alice: User, agent: Agent) -> None:
    by = author(agent)

    def queries() -> int:
        with CaptureQueriesContext(connection) as done:
            rows.activity(alice)
        return len(done.captured_queries)

    for _ in range(2):
        blocked(agent, by, "cooldown")
        declined(builders.candidate(by), agent, "below_threshold")
        builders.position(agent.deployments.get(), by=builders.signal(agent, state="executed"))
    few = queries()
    for _ in range(8):
        blocked(agent, by, "cooldown")
        declined(builders.candidate(by), agent, "below_threshold")
        builders.position(agent.deployments.get(), by=builders.signal(agent, state="executed"))
    assert queries() == few <= 20


# -- the reason why an agent did not trade


def ask(agent: Agent, person: Any = None, at: Any = None, token: str = "ETH") -> why.Answer:
    return why.not_traded(agent.name, token, at or clock.now(), person)


@pytest.mark.parametrize("code", reasons.POSTS)
def test_why_an_agent_did_not_trade_names_each_reason_of_a_post(alice: User, agent: Agent, code: str) -> None:
    by, stage = author(agent), code.partition(":")[0]
    if stage == "candidate" and code != "candidate:waiting":
        declined(builders.candidate(by), agent, code.partition(":")[2], measured="3", limit="2")
    elif stage == "candidate":
        builders.candidate(by)
    else:
        state = {"pending": "new", "unread": "new", "prefiltered": "prefiltered"}.get(stage, "classified")
        builders.post(by, state=state, is_signal_candidate=None if state == "new" else False, outcome=code)
    answer = ask(agent, alice)
    assert code in [stop.code for stop in answer.reasons]
    assert answer.text.startswith("Swing did not trade ETH: ")
    assert reasons.explain(code)[0] in answer.text
    assert answer.outcome in feed.OUTCOMES


@pytest.mark.parametrize("code", reasons.ORDERS)
def test_why_an_agent_did_not_trade_names_each_reason_of_an_order(
    alice: User, agent: Agent, code: str
) -> None:
    blocked(agent, author(agent), code)
    answer = ask(agent, alice)
    (stop,) = answer.reasons
    assert (stop.code, stop.measured, stop.limit) == (code, "7", "5")
    assert answer.text.startswith(f"Swing did not trade ETH: {reasons.explain(code)[0]}")
    assert answer.outcome == "blocked"


@pytest.mark.parametrize("code", reasons.QUOTES)
def test_why_an_agent_did_not_trade_names_each_refused_price(alice: User, agent: Agent, code: str) -> None:
    now = clock.now()
    RefusedQuote.objects.create(
        symbol="ETH", source="a", reason=code.partition(":")[2], hour=clock.bucket(now, HOUR), price="1", value="9",
        limit="5", first_at=now, last_at=now,
    )  # fmt: skip
    declined(builders.candidate(author(agent)), agent, "no_price")
    assert [stop.code for stop in ask(agent, alice).reasons] == ["candidate:no_price", code]


def test_why_says_that_it_did_trade(alice: User, agent: Agent) -> None:
    builders.position(agent.deployments.get(), by=builders.signal(agent, state="executed"))
    answer = ask(agent, alice)
    assert (answer.outcome, answer.reasons) == ("traded", [])
    assert answer.text.startswith("Swing did trade ETH: bought 0.4 ETH at 2000 USD")


def test_why_says_that_nobody_wrote_about_the_token(alice: User, agent: Agent, time: RecordedClock) -> None:
    by = author(agent)
    builders.post(by, "gm", state="prefiltered", outcome="prefiltered:chatter")
    answer = ask(agent, alice)
    assert answer.outcome == "none"
    assert answer.text == "Swing did not trade ETH: no account that it follows wrote about ETH at that time"
    assert [stop.code for stop in answer.reasons] == ["prefiltered:chatter"]
    assert "not among the tokens" in ask(agent, alice, token="BTC").text
    time.move(days=2)
    assert ask(agent, alice).reasons == []
    agent.subscriptions.all().delete()
    assert "follows no account" in ask(agent, alice).text
    Agent.objects.update(state="paused")
    assert "the agent is paused" in ask(agent, alice).text


def test_why_by_page_api_and_command_is_one_answer(world: World) -> None:
    own = world.of_alice
    query = {"agent": own.agent.name, "token": "ETH", "at": f"{clock.now():%Y-%m-%dT%H:%M}"}
    answer = Client().get("/api/why", query, headers=world.key(world.alice)).json()
    out = StringIO()
    call_command(
        "why", f"--agent={own.agent.name}", "--token=ETH", f"--at={query['at']}", "--json", stdout=out
    )
    printed = json.loads(out.getvalue())
    assert answer["answer"] == printed["answer"]
    assert answer["outcome"] == "traded"
    shown = world.logged_in(world.alice).get("/activity", query).content.decode()
    assert answer["answer"] in shown.replace("&#x27;", "'")
    with pytest.raises(CommandError, match="--agent needs --token"):
        call_command("why", f"--agent={own.agent.name}", "--json", stdout=StringIO())


# -- page, API and command


def test_the_page_shows_what_happened_with_the_money_and_the_reason(world: World) -> None:
    shown = world.logged_in(world.alice).get("/activity").content.decode()
    for text in (
        "+38.16",
        "the last entry in this symbol is too recent",
        "measured 10 s, limit 900 s",
        "read as a call",
    ):
        assert text in shown
    assert f"/trades/{world.of_alice.position.pk}" in shown
    assert world.of_bob.deployment.account not in shown


def test_a_wrong_filter_is_refused_with_the_known_ones_and_keeps_what_was_typed(world: World) -> None:
    browser = world.logged_in(world.alice)
    for query, message in (
        ({"token": "DOGECOIN"}, "no token"),
        ({"outcome": "lost"}, "known: traded, waiting"),
        ({"colour": "red"}, "no filter colour; known: agent"),
        ({"since": "yesterday"}, "is no date or time"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "is not before"),
        ({"agent": world.of_bob.agent.name}, "no agent"),
        ({"before": "x"}, "no place"),
        ({"at": "2026-03-02"}, "choose an agent and a token"),
    ):
        answer = browser.get("/activity", query)
        shown = answer.content.decode()
        assert answer.status_code == 422, query
        assert message in shown, query
        assert all(value in shown for name, value in query.items() if name != "colour")
        assert Client().get("/api/activity", query, headers=world.key(world.alice)).status_code == 422


def test_the_api_pages_and_the_command_lists_the_same(world: World) -> None:
    headers = world.key(world.alice)
    first = Client().get("/api/activity?limit=1", headers=headers).json()
    second = (
        Client().get("/api/activity", {"limit": 50, "before": first["next_before"]}, headers=headers).json()
    )
    assert second["next_before"] is None
    assert len(first["items"] + second["items"]) == len(page(world.alice))
    out = StringIO()
    call_command("activity", f"--agent={world.of_alice.agent.name}", "--json", stdout=out)
    assert [row["id"] for row in json.loads(out.getvalue())["items"]] == [
        row["id"] for row in first["items"] + second["items"]
    ]
    out = StringIO()
    call_command("activity", "--outcome=blocked", "-n1", stdout=out)
    assert "too recent" in out.getvalue()
    assert re.search(r"older: --before \S+", out.getvalue())


def test_search_finds_by_token_account_agent_address_id_and_trace(world: World) -> None:
    own = world.of_alice

    def kinds(text: str, person: Any = world.alice) -> set[str]:
        return {hit.kind for hit in search.search(str(text), person)}

    assert kinds("$eth") == {"token"}
    assert kinds(f"@{own.post.account.x_username}") == {"account", "posts of"}
    assert kinds(own.agent.name) == {"agent"}
    assert kinds(own.deployment.account) == {"account of"}
    assert "trade" in kinds(str(own.position.pk))
    assert kinds(str(own.post.post_id)) == {"post"}
    assert kinds(str(own.post.correlation_id)) == {"trace"}
    assert kinds("nothing like this") == kinds("") == set()
    assert "trade" not in kinds(str(own.position.pk), world.bob)
    assert kinds(str(own.post.correlation_id), world.bob) == set()
    assert kinds(own.deployment.account, world.bob) == set()
    shown = world.logged_in(world.alice).get("/activity", {"q": own.deployment.account}).content.decode()
    assert own.deployment.account in shown


def test_a_refresh_of_the_rows_does_not_search_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = world.logged_in(world.alice)
    searched: list[str] = []

    def spy(text: str, person: Any) -> list[search.Hit]:
        searched.append(text)
        return []

    monkeypatch.setattr(search, "search", spy)
    assert "Nothing of yours has this name" in browser.get("/activity?q=ETH").content.decode()
    assert browser.get("/activity/rows?q=ETH").status_code == 200
    assert searched == ["ETH"]


def test_staff_of_many_accounts_see_counts(alice: User, agent: Agent) -> None:
    signal = builders.signal(agent, state="executed")
    for _ in range(7):
        builders.position(builders.deployment(agent, owner=alice), by=signal)
        builders.order(builders.deployment(agent), by=signal, state="blocked", reason="cooldown")
    (row,) = page(None)
    assert len(row.lines) == rows.LINES
    assert row.more == 3
    assert Scope.of(None).agents is None
    assert row.lines[0].pnl is None or row.lines[0].pnl == Decimal(0)
