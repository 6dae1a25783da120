"""Two tenants and a member of staff, each with rows of a whole trade."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import transaction
from django.db.models import Model
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from agents.models import Agent, Deployment
from maxxit.access.auth import create_key
from maxxit.access.models import IdempotentRequest, Invitation, LoginAttempts, WalletLogin
from maxxit.core import clock
from maxxit.events import wake
from maxxit.events.record import record
from maxxit.llm.models import LlmTrace
from maxxit.market.models import (
    BackfillMark,
    CalendarCoverage,
    FundingRate,
    MarketSession,
    MarketSnapshot,
    RefusedQuote,
    SourceQuote,
)
from maxxit.notify import alerts
from maxxit.notify.models import PriceRule, RuleDelivery, RuleMatch
from maxxit.pipeline import release
from maxxit.pipeline.models import CanaryMark, MetricCursor, MetricTotal, PipelineRun, StageRun
from maxxit.pipeline.stages import QUEUES
from maxxit.pipeline.sync import sync_schedule
from positions.exits import pauses
from positions.models import (
    BestPnl,
    DayEnd,
    PnlSnapshot,
    Position,
    ProfitMark,
    TwinDrift,
    TwinFill,
    TwinMark,
    UnreadAccount,
)
from positions.performance import identity, roll_up, summary
from signals_app.labels import sets
from signals_app.models import (
    AuthorRecord,
    Comparison,
    CtPost,
    InboundPost,
    LabelledPost,
    PostLabel,
    RejectedPost,
    ShadowReading,
    Signal,
    SocialMetric,
)
from tests import builders
from tests.browser import Browser, NotStarted, Page, find_program
from tests.shared_rows import SharedRows, in_transaction
from trading import gate, ledger
from trading.chain.models import ChainAttempt, ChainTransaction, SafePlan, Signer, WatchedAddress
from trading.models import (
    AccountCheck,
    BillingEvent,
    ChangeRequest,
    CredentialRequest,
    Fill,
    FundingPayment,
    GmxScan,
    GmxTransaction,
    HyperliquidAction,
    MarginPosition,
    Order,
    PaperFill,
    PaperFunding,
    PaperOrder,
    PaperPosition,
    VenueCredential,
    VenueHolding,
)
from trading.risk.limits_in_force import risk_limits
from trading.venues.safe import verify
from trading.venues.safe.contract import module as m

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def quiet(
    settings: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[set[str]]:
    """No wake leaves the test; no count of another test is left in the cache; passwords and files cost no time."""
    if "live_server" in request.fixturenames:  # its threads do not see what is collected
        monkeypatch.setattr(wake, "send", lambda task, shard=0: None)
    settings.WHITENOISE_AUTOREFRESH = True  # otherwise each Client scans the static files anew
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()
    with wake.collected() as names:
        yield names


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium for the session."""
    program = find_program()
    if not program:
        pytest.skip("no Chromium: install one (Debian: apt-get install chromium) or set MAXXIT_CHROMIUM")
    try:
        browser = Browser(program)
    except NotStarted as error:
        pytest.skip(f"{program}: {error}")
    yield browser
    browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A tab with no cookies; its console must stay free of errors."""
    page = Page(chromium)
    yield page
    problems = page.problems
    page.close()
    assert problems == []


@dataclass
class Trade:
    """Every row of one tenant's closed trade, and one order that was blocked."""

    owner: User | None
    agent: Agent
    deployment: Deployment
    post: CtPost
    signal: Signal
    entry: Order
    exit: Order
    blocked: Order
    fill: Fill
    position: Position
    open_position: Position
    trace: LlmTrace


def trade(owner: User | None = None, *, symbol: str = "ETH") -> Trade:
    """Build it."""
    agent = builders.agent(owner=owner)
    deployment = builders.deployment(agent, owner=owner)
    author = builders.account(agent)
    post = builders.candidate(author, outcome="traded", reasoning="says buy")
    signal = builders.signal(agent, correlation_id=post.correlation_id, state="executed", token=symbol)
    signal.risk_model = {"evidence": {"tweet": 0.7}, "weights": {"tweet": 100}}
    signal.save()
    signal.posts.set([post])
    done: dict[str, Any] = {"state": "filled", "quantity": Decimal("0.4"), "filled_quantity": Decimal("0.4")}
    entry_price: dict[str, Any] = {"average_price": Decimal(2000), "notional_usd": Decimal(800)}
    entry = builders.order(deployment, by=signal, booked_quantity=Decimal("0.4"), **done, **entry_price)
    leave: dict[str, Any] = {"purpose": "close", "side": "sell", "exit_reason": "take_profit"}
    exit_ = builders.order(deployment, by=signal, average_price=Decimal(2100), **done, **leave)
    fill = _fill(entry, "800")
    _fill(exit_, "840")
    position = Position.objects.create(
        deployment=deployment, signal=signal, entry_order=entry, exit_order=exit_, symbol=symbol, side="long",
        state="closed", quantity=Decimal("0.4"), closed_quantity=Decimal("0.4"), entry_price=Decimal(2000),
        exit_price=Decimal(2100), stop_loss=Decimal(1880), take_profit=Decimal(2100), exit_reason="take_profit",
        opened_at=timezone.now() - timedelta(hours=1), closed_at=timezone.now(), realised_pnl=Decimal("38.16"),
        fees=Decimal("1.84"), correlation_id=post.correlation_id,
    )  # fmt: skip
    record("position.closed", position, why="take_profit")
    record("order.planned", entry)
    later = builders.signal(agent, token=symbol, state="skipped", reason="cooldown")
    verdict = {"reason": "cooldown", "measured": "10 s", "limit": "900 s"}
    blocked = builders.order(deployment, by=later, state="blocked", reason="cooldown", verdict=verdict)
    open_position = builders.position(deployment, by=builders.signal(agent, token=symbol), symbol=symbol)
    trace = LlmTrace.objects.create(
        ts=timezone.now(), correlation_id=post.correlation_id, correlation_ids=[post.correlation_id],
        purpose="classify", provider="rules", model="rules-2", latency_ms=3, status="ok",
        request={"prompt": "what does it say"}, response={"answer": "buy"}, prompt_sha256="", schema_sha256="",
        request_sha256="",
    )  # fmt: skip
    PnlSnapshot.objects.create(
        deployment=deployment, day=timezone.now().date(), equity=Decimal(10_038), realised_pnl=Decimal("38.16"),
        unrealised_pnl=Decimal(0),
    )  # fmt: skip
    ProfitMark.objects.create(deployment=deployment)
    twin(exit_)
    AuthorRecord.objects.get_or_create(
        account=post.account, defaults={"at": timezone.now(), "figures": {}, "calls": 0}
    )
    compared, _ = Comparison.objects.get_or_create(
        name="of the world",
        defaults={"provider": "rules", "share": 1, "started_by": "root", "started_at": timezone.now()},
    )
    ShadowReading.objects.create(
        comparison=compared, post=post, latency_ms=5, cost_usd=0, batch=1, at=timezone.now()
    )
    BillingEvent.objects.create(
        deployment=deployment, reference="2026-03-02", amount=Decimal(20), created_at=timezone.now(),
        period_start=timezone.now(), period_end=timezone.now() + timedelta(days=30),
    )  # fmt: skip
    VenueCredential.objects.create(
        venue="alpaca", account=deployment.account, content=b"sealed", key_id="0" * 16, hint="1234",
        permissions=["trade"], stored_by=str(owner), stored_at=timezone.now(),
    )  # fmt: skip
    CredentialRequest.objects.create(
        venue="alpaca", account=deployment.account, asked_by=str(owner), asked_at=timezone.now(),
        finished_at=timezone.now(),
    )  # fmt: skip
    perps(deployment)
    return Trade(
        owner, agent, deployment, post, signal, entry, exit_, blocked, fill, position, open_position, trace
    )


def twin(order: Order) -> None:
    """A closing order beside its paper twin, and a test whose alarm is on."""
    TwinFill.objects.create(
        order=order, deployment=order.deployment, at=order.created_at, venue="safe", symbol=order.symbol,
        purpose=order.purpose, side=order.side, outcome="filled", ordered=order.filled_quantity,
        filled=order.filled_quantity, quote=Decimal(2100), quote_from="checks", slippage_bps=5, fee_bps=10,
        live_price=Decimal("2094.75"), twin_price=Decimal("2098.95"), live_fee=Decimal("0.8"),
        twin_fee=Decimal("0.84"), live_seconds=12.5, price_bps=20.0, excess_fee_bps=-0.5,
        live_pnl=Decimal("38.2"), twin_pnl=Decimal("39.8"), pnl_bps=20.1,
    )  # fmt: skip
    TwinDrift.objects.create(
        deployment=order.deployment, measure="price", count=30, noise=9.5, last=20.0, score=11.5, run=12,
        run_sum=240.0, alarm=True, alarm_at=timezone.now(), alarms=1,
    )  # fmt: skip


def perps(deployment: Deployment) -> None:
    """What is kept of a perps account: a nonce, the margin of a position, a funding payment of nothing."""
    now, of_account = timezone.now(), {"venue": "hyperliquid", "account": deployment.account}
    HyperliquidAction.objects.create(**of_account, name="mx-1", nonce=1, notional_usd=Decimal(10), at=now)
    MarginPosition.objects.create(
        **of_account, symbol="ETH", leverage=Decimal(3), isolated=True, margin=Decimal(10), seen_at=now
    )
    FundingPayment.objects.create(
        deployment=deployment, symbol="ETH", amount=Decimal(0), reference="1", at=now
    )
    account = f"paper_perps/{deployment.account}"
    PaperPosition.objects.create(
        account=account, symbol="ETH", opened_at=now, checked_until=now, funded_until=now
    )
    PaperFunding.objects.create(account=account, symbol="ETH", amount=Decimal(-1), at=now)
    of_safe = {"chain_id": 31337, "safe": f"0x{deployment.pk:040x}"}
    GmxScan.objects.create(**of_safe, scanned_to=1)
    GmxTransaction.objects.create(
        **of_safe, hash="0x1", block_number=1, at=now, keys=[], forced=False, logs=[]
    )


def sessions() -> None:
    """A session of the stock exchange, and for which days they are known."""
    now = timezone.now()
    MarketSession.objects.create(day=now.date(), opens_at=now, closes_at=now + timedelta(hours=6))
    CalendarCoverage.objects.create(first_day=now.date(), last_day=now.date(), read_at=now)


def _fill(order: Order, cash: str) -> Fill:
    quantity = order.filled_quantity
    made = Fill.objects.create(
        order=order, venue_fill_id=f"v{order.pk}", quantity=quantity, price=Decimal(cash) / quantity,
        cash=Decimal(cash), fee=Decimal("0.8"), at=timezone.now(),
    )  # fmt: skip
    platform = ledger.platform_fee_journal(order, Decimal("0.12"), collected=True)
    ledger.post_all([ledger.fill_journal(order, made.pk, made), platform])
    return made


@lru_cache(maxsize=1)
def schedule_rows() -> list[list[Model]]:
    """The rows of beat that `sync_schedule` makes, in the order of their references."""
    with transaction.atomic():
        sync_schedule()
        rows: list[list[Model]] = [
            list(model.objects.all()) for model in (IntervalSchedule, CrontabSchedule, PeriodicTask)
        ]
        transaction.set_rollback(True)
    return rows


def schedule_jobs() -> None:
    """Do what `sync_schedule` does to empty tables, in three statements instead of a hundred."""
    for rows in schedule_rows():
        type(rows[0])._default_manager.bulk_create(rows)
    PeriodicTasks.update_changed()


def machine() -> None:
    """Runs, proof of life, a schedule, an open gate, a price; and one of each row that nobody wants."""
    schedule_jobs()
    run = PipelineRun.objects.create(cause="command", started_at=timezone.now(), root_task_id="root-task-1")
    for name in ("ingest", "classify"):
        StageRun.objects.create(
            run=run, stage=name, task_id=f"task-{name}", worker="general@maxxit", started_at=timezone.now(),
            duration_ms=12, counted_in=3, counted_out=2,
        )  # fmt: skip
    alive()
    MetricCursor.objects.create(table="events", last_id=0)
    MetricTotal.objects.create(name="events_processed", labels={"event": "order.planned"})
    builders.open_gate()
    builders.price("ETH", "2050")
    builders.hourly_bars("ETH", builders.calm(bars=3), until=timezone.now())
    SocialMetric.objects.create(
        symbol="ETH", at=timezone.now(), galaxy_score=60, sentiment_pct=70, social_volume=900, price_change_pct=1,
        alt_rank=4,
    )  # fmt: skip
    InboundPost.objects.create(
        source="partner", ident="7", post_id="in7", username="alpha", item={}, received_at=timezone.now()
    )
    [labelled] = LabelledPost.objects.bulk_create(
        [
            LabelledPost(
                labelled_set=sets.create("of the world", by="root"), post_id="set7", username="alpha", text="ETH?",
                added_by="root", added_at=timezone.now(),
            )
        ]
    )  # fmt: skip
    PostLabel.objects.create(post=labelled, by="root", at=timezone.now())
    RejectedPost.objects.create(
        source="jsonl", place="posts.jsonl:7", reason="no text", raw="{}", seen_at=timezone.now()
    )
    risk_limits()
    ChangeRequest.objects.create(
        kind="raise_limit",
        content={"limit": "max_trade_usd", "value": "9000"},
        base={"in_force": "5000", "configured": "5000", "new": "9000"},
        sha256="0" * 64,
        reason="a calm week",
        state="withdrawn",
        asked_by="olga",
        asked_at=timezone.now(),
        expires_at=timezone.now(),
    )
    LoginAttempts.objects.create(subject="account:carol", failures=1, last_at=timezone.now())
    Invitation.objects.create(sha256="0" * 64, created_at=timezone.now(), expires_at=timezone.now())
    signer = Signer.objects.create(chain_id=31337, address="0x" + "1" * 40, next_nonce=1)
    sent = ChainTransaction.objects.create(
        idempotency_key="mx-chain-1", chain_id=31337, signer=signer, nonce=0, state="broadcast",
        deadline=timezone.now(), created_at=timezone.now(), terms={"safe": "0x" + "2" * 40},
    )  # fmt: skip
    someone = "0x" + "4" * 40
    terms = m.Policy(
        executor=someone, guardian=someone, fee_receiver=someone, profit_receiver=someone, profit_share_bps=2000,
        trade_fee=200_000, min_trade=10**7, max_trade=10**9, daily_notional=10**10, trades_per_day=24, cooldown=1,
        slippage_bps=100, loss_budget=50_000_000, total_loss_budget=500_000_000,
    )  # fmt: skip
    SafePlan.objects.create(
        chain_id=31337, safe="0x" + "2" * 40, module=someone, created_at=timezone.now(),
        **verify.as_plan(terms, [m.TokenRule(someone, someone, 3000, 3600)]),
    )  # fmt: skip
    WatchedAddress.objects.create(
        chain_id=31337, address="0x" + "5" * 40, label="Treasury", created_at=timezone.now()
    )
    ChainAttempt.objects.create(
        transaction=sent,
        number=1,
        hash="0x" + "3" * 64,
        raw="0x00",
        max_fee=1,
        tip=1,
        created_at=timezone.now(),
    )
    paper = PaperOrder.objects.create(
        client_order_id="mx-1",
        account="paper:1",
        symbol="ETH",
        side="buy",
        quantity=1,
        accepted_at=timezone.now(),
    )
    PaperFill.objects.create(order=paper, quantity=1, price=2000, cash=2000, fee=2, at=timezone.now())
    gate.kill("no_entries", by="test", reason="drill")
    gate.release(by="test", reason="over")
    pauses.pause(by="test", reason="drill")
    pauses.resume(by="test", reason="over")
    PeriodicTask.objects.filter(name="quotes").update(last_run_at=timezone.now())


def prices(user: User) -> None:
    """What sources said, what was refused, and a user's rule that matched."""
    now = timezone.now()
    SourceQuote.objects.create(symbol="ETH", source="a", price=2050, at=now, received_at=now)
    FundingRate.objects.create(symbol="ETH", source="a", rate_pct=Decimal("0.01"), at=now)
    RefusedQuote.objects.create(
        symbol="ETH", source="b", reason="stale", hour=now, price="1", first_at=now, last_at=now
    )
    MarketSnapshot.objects.create(
        symbol="ETH", window_start=now, until=now, terms="60 min x 60", figures={"rsi": 50}, made_at=now
    )
    BackfillMark.objects.create(feed="a", symbol="ETH", begins=now, ends=now, done_until=now)
    rule = PriceRule.objects.create(user=user, symbols=["ETH"], condition="gt", threshold=2000)
    match = RuleMatch.objects.create(rule=rule, symbol="ETH", price=2050, value=2050, at=now, bucket=now)
    RuleDelivery.objects.create(
        match=match, rule=rule, user=user, symbol="ETH", channel="inbox", bucket=now, at=now
    )


def alive() -> None:
    """Every queue has signed just now."""
    release.declare()
    for queue in QUEUES:
        CanaryMark.objects.update_or_create(
            queue=queue, defaults={"worker": "general@maxxit", "signed_at": timezone.now()}
        )


@dataclass
class World:
    """Who is there, with what."""

    staff: User
    alice: User
    bob: User
    of_alice: Trade
    of_bob: Trade

    def logged_in(self, who: User | None) -> Client:
        """A browser."""
        browser = Client()
        if who is not None:
            browser.force_login(who)
        return browser

    def key(self, who: User, *scopes: str) -> dict[str, Any]:
        """Headers with a key of theirs."""
        return {"x-api-key": create_key(who, "test", scopes or ["read"], by="test")}


def build_world() -> World:
    """Two tenants with a trade each, staff, and a machine that runs."""
    machine()
    staff = User.objects.create_superuser("root", password="not a secret at all 1")
    alice, bob = (User.objects.create_user(name, password="nor is this one 2") for name in ("alice", "bob"))
    IdempotentRequest.objects.create(owner=staff, key="k", fingerprint="f", created_at=timezone.now())
    prices(alice)
    WalletLogin.objects.create(user=alice, address="0x" + "7" * 40, linked_at=clock.now())
    alerts.write()
    UnreadAccount.objects.create(venue="safe", account="0xA", since=clock.now())
    AccountCheck.objects.create(
        venue="safe", account="0xA", kind="orders", due_at=clock.now(), last_error="no node"
    )
    held = {"since": clock.now(), "seen_at": clock.now(), "quantity": 1, "booked": 1}
    VenueHolding.objects.create(venue="safe", account="0xA", asset="ETH", **held)
    sessions()
    DayEnd.objects.create(
        market="crypto", day="2026-01-31", closed_at=clock.now(), ok=True, finished_at=clock.now()
    )
    TwinMark.objects.create(pk=1, order=0)
    BestPnl.objects.get_or_create(account="0xA", defaults={"pnl": 5})
    made = World(staff, alice, bob, trade(alice), trade(bob))
    with clock.frozen(clock.now() + timedelta(hours=1)):
        roll_up.roll_up()
    summary.save_summary(clock.now().date())
    identity.check_books()
    return made


SHARED = SharedRows(build_world)
"""The world of the tests that begin with it in a transaction."""


def shares_world(item: pytest.Item) -> bool:
    """Return whether a test may begin with the rows that other tests began with."""
    return item.path.is_relative_to(HERE) and "world" in item.fixturenames and in_transaction(item)  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """Roll the shared world back where the next test does not begin with it, or when it is old."""
    result = yield
    if nextitem is None or not shares_world(nextitem) or SHARED.old:
        SHARED.end()
    return result


@pytest.fixture(scope="session")
def world_is_gone_at_the_end(django_db_setup: None) -> Iterator[None]:
    """The shared world rolled back before the database is dropped."""
    yield
    SHARED.end()


@pytest.fixture
def world_of_others(
    request: pytest.FixtureRequest, world_is_gone_at_the_end: None, django_db_blocker: Any
) -> World | None:
    """The shared world, if the test may begin with it."""
    return SHARED.begin(django_db_blocker) if shares_world(request.node) else None


@pytest.fixture
def _django_db_helper(world_of_others: World | None, _django_db_helper: None) -> None:
    """pytest-django's, which begins the test's transaction, after the shared world."""


@pytest.fixture
def world(world_of_others: World | None, db: None) -> World:
    """Two tenants with a trade each, staff, and a machine that runs."""
    return world_of_others or build_world()
