"""The operators' commands: for people, for machines, and their exit codes."""

import hashlib
import json
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.test import Client
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agents.models import CtAccount
from maxxit.access.models import ApiKey
from maxxit.core import clock
from maxxit.core.commands import PACKAGES, CommandLine
from maxxit.core.reasons import Audience
from maxxit.embedded.template import connected_to
from maxxit.events.models import Event
from maxxit.market import candles, quotes
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.models import Candle, Quote
from maxxit.market.stream import status as stream_status
from maxxit.market.venues import venues
from maxxit.pipeline.models import CanaryMark, PipelineRun, StageRun
from maxxit.pipeline.stages import STAGES
from maxxit.reports import checks, status
from maxxit.reports.trades import reasons
from positions.models import PnlPart, PnlWatermark, Position
from signals_app.reasons import CandidateReason
from tests import builders
from tests.surface.conftest import World
from trading import gate, ledger, wiring
from trading.models import Approval, LedgerEntry, LimitsInForce, Order, PaperBalance
from trading.reasons import Reason
from trading.risk import limits_in_force
from trading.venues.safe.address_check import ChainCheck

COMMANDS = (
    "status", "doctor", "chain", "why", "pipeline", "paper", "approve", "revoke", "kill", "resume", "pnl", "trades",
    "portfolio", "dlq", "apikey", "reconcile", "exits", "statement", "billing", "invoice",
)  # fmt: skip


def said(*words: str) -> str:
    """What a command prints for people."""
    out = StringIO()
    call_command(*words, stdout=out, no_color=True)
    return out.getvalue()


def told(*words: str) -> Any:
    """What it prints for machines: exactly one line of JSON."""
    text = said(*words, "--json")
    assert text.count("\n") == 1, text
    return json.loads(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_help_and_json(name: str) -> None:
    command = load_command_class(get_commands()[name], name)
    assert len(command.help) > 20
    subs = getattr(command, "subcommands", {})
    assert all(len(text) > 5 for text in subs.values())
    for sub in subs or [""]:
        parser = command.create_parser("manage.py", name)
        with pytest.raises((SystemExit, CommandError)):
            parser.parse_args([*([sub] if sub else []), "--help"])


def test_status(world: World) -> None:
    text = said("status")
    for word in (
        "last run (UTC)",
        "monitor",
        "classify",
        "general@maxxit",
        "3 in, 2 out",
        "in each pipeline run",
    ):
        assert word in text
    jobs = {job["name"]: job for job in told("status")["jobs"]}
    assert jobs["classify"]["last_run"].endswith("Z")
    assert jobs["monitor"]["next_run"] is not None


def test_status_shows_the_limits_that_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("status")["waiting_limits"] == []
    limits_in_force.risk_limits()
    looser = limits_in_force.policy().model_copy(update={"max_trade_usd": Decimal(9_000)})
    monkeypatch.setattr(limits_in_force, "policy", lambda: looser)
    assert "pending limit: max_trade_usd 9000 from " in said("status")
    waiting = {one["limit"]: one for one in told("status")["waiting_limits"]}["max_trade_usd"]
    assert (waiting["value"], waiting["from"][-1]) == ("9000", "Z")


def test_status_says_that_the_limits_cannot_be_read(world: World) -> None:
    limits_in_force.risk_limits()
    LimitsInForce.objects.update(limits={"max_trade_usd": {}}, waiting=[7])
    assert "limits: cannot be read" in said("status")
    assert told("status")["waiting_limits"] is None
    assert told("status")["jobs"]


def test_a_job_that_did_not_run_is_late(world: World) -> None:
    StageRun.objects.create(
        stage="monitor", started_at=timezone.now() - timedelta(minutes=10), error="a\nValueError: x"
    )
    job = next(job for job in status.jobs() if job.name == "monitor")
    assert 530 < job.lag_seconds < 545
    assert job.result == "ValueError: x"


def test_queues_follow_the_routes() -> None:
    assert status.queue_of("trading.tasks.settle") == "execute"
    assert status.queue_of("trading.tasks.execute") == "execute"
    assert status.queue_of("maxxit.market.tasks.refresh_quotes") == "market"
    assert status.queue_of("somebody.else") == "default"


def test_doctor_is_content(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "feeds", lambda: checks.Check("feeds", True, "fresh"))
    monkeypatch.setattr(checks, "models", lambda: iter([checks.Check("model:classify", True, "asks rules")]))
    monkeypatch.setattr(checks, "post_sources", lambda: ("x", "jsonl"))
    Candle.objects.all().delete()
    text = said("doctor")
    assert "checks passed" in text
    assert "config/risk.yaml" in text
    assert told("doctor")["ok"] is True


def test_doctor_names_the_fix_and_fails(world: World) -> None:
    CanaryMark.objects.filter(queue="execute").delete()
    gate.kill("flatten", by="test", reason="drill")
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--json", stdout=out)
    assert ended.value.code == 1
    found = {check["name"]: check for check in json.loads(out.getvalue())["checks"]}
    assert found["worker:execute"]["fix"].startswith("start a worker")
    assert "resume" in found["kill switch"]["fix"]
    assert found["beat"]["ok"]
    assert all(check["fix"] for check in found.values() if not check["ok"])

    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", "--quiet", stdout=out, no_color=True)
    assert "BAD  kill switch" in out.getvalue()
    assert "\nok " not in out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_doctor_names_every_check_while_postgres_is_down() -> None:
    out = StringIO()
    with connected_to(HOST="/nowhere"), pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=out)
    found = {check["name"]: check for check in json.loads(out.getvalue())["checks"]}
    assert not found["postgres"]["ok"]
    for name in ("backup", "audit log", "gate", "books", "results", "safes"):
        assert not found[name]["ok"]
        assert "/nowhere" in found[name]["detail"]
    assert found["config/backups.yaml"]["ok"]


def test_doctor_tells_holes_in_the_bars_and_the_command_that_fills_them(
    db: None, time: builders.RecordedClock
) -> None:
    def bars(symbol: str, *missing: int) -> None:
        opened = (builders.T0 - BAR * back for back in range(288, 0, -1) if back not in missing)
        candles.store(symbol, [Bar(at, *[Decimal(1)] * 5) for at in opened])

    bars("BTC")
    assert checks.candle_gaps() == checks.Check("candles", True, "no gaps in the last day")
    bars("ETH", 100)  # nobody traded in it: the indicators bear it
    said = checks.candle_gaps()
    assert (said.ok, said.detail) == (True, "ETH lacks 1 bars, the last at 03-02 03:40")
    bars("SOL", 1, 2, 3)
    said = checks.candle_gaps()
    assert not said.ok
    assert said.fix.startswith("`manage.py backfill --symbols SOL --from 2026-03-02 --to 2026-03-03`")
    bars("LTC", *range(50, 100))
    assert "--symbols LTC,SOL" in checks.candle_gaps().fix


def test_doctor_tells_how_the_stream_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {"owner": "host-1", "ticks": 9, "quotes": 5, "dropped": 0}
    said["sources"] = [{"name": "coinbase", "error": ""}]
    monkeypatch.setattr(stream_status, "status", lambda: said)
    assert checks.stream().ok
    said["sources"].append({"name": "pyth", "error": "hermes answered 401"})
    told = checks.stream()
    assert not told.ok
    assert "pyth: hermes answered 401" in told.detail
    assert "config/feeds.yaml" in told.fix
    monkeypatch.setattr(stream_status, "status", lambda: None)
    told = checks.stream()
    assert (told.ok, "manage.py stream" in told.fix) == (True, True)


def test_money_on_the_local_chain_is_not_called_real() -> None:
    safe = venues()["safe"]
    assert wiring.money_at_stake(venues()["paper"]) == "paper"
    assert wiring.money_at_stake(safe) == "play money on the local chain"
    assert wiring.money_at_stake(safe.model_copy(update={"options": {}})) == "REAL MONEY"


def test_doctor_warns_of_followed_accounts_that_are_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    CtAccount.objects.update(source="x")
    monkeypatch.setattr(checks, "post_sources", lambda: ("x", "jsonl"))
    sound = checks.accounts()
    assert (sound.ok, sound.fix) == (True, "")
    agent = world.of_alice.agent
    builders.account(agent, username="protected", source="x")
    builders.account(agent, username="off", source="x", is_active=False)
    builders.account(username="nobody_follows", source="gone")
    now = clock.now()
    StageRun.objects.create(
        run=PipelineRun.objects.create(cause="schedule", started_at=now),
        stage="ingest",
        started_at=now,
        duration_ms=5,
        detail={"failed": {"protected": "403 protected"}},
    )
    StageRun.objects.create(stage="ingest", started_at=now, duration_ms=5, idle=True)  # of other sources
    warned = checks.accounts()
    assert warned.ok
    assert "followed accounts are not read: @off: switched off; @protected: 403 protected" in warned.detail
    assert "their followers see no signal" in warned.fix
    builders.account(agent, username="orphan", source="gone")
    red = checks.accounts()
    assert not red.ok
    assert "have a post source that is not configured: @orphan (gone)" in red.detail


def test_doctor_compares_the_addresses_of_each_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {
        "arbitrum-one": {"wrong": ("usdc: 0x5 answers decimals() with 18, expected 6",)},
        "arbitrum-sepolia": {"checked": 9, "incomplete": "it has no module"},
        "local": {"checked": 9, "incomplete": "it has no module"},
        "other": {"not_checked": "not checked: no endpoint answers"},
    }
    blank = ChainCheck("", 1, 0, ())
    results = [replace(blank, name=name, **facts) for name, facts in found.items()]
    monkeypatch.setattr(checks.address_check, "check_all", lambda: results)
    seen = {check.name: check for check in checks.chain_addresses()}
    assert not seen["chain:arbitrum-one"].ok
    assert "usdc: 0x5 answers decimals() with 18" in seen["chain:arbitrum-one"].detail
    assert seen["chain:arbitrum-sepolia"].ok  # no venue trades there
    assert not seen["chain:local"].ok
    assert seen["chain:local"].detail == "venue safe: it has no module"
    assert seen["chain:other"].ok
    assert seen["chain:other"].detail == "not checked: no endpoint answers; no venue trades there"


def test_doctor_reads_every_file_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {f"config/{path.name}" for path in Path("config").glob("*.yaml")}
    assert {check.name for check in checks.config()} == named


def test_chain_by_anything(world: World) -> None:
    made = world.of_alice
    for option, value in (
        ("--post", made.post.post_id), ("--post", made.post.pk), ("--corr", made.post.correlation_id),
        ("--signal", made.signal.pk), ("--order", made.exit.pk), ("--position", made.position.pk),
    ):  # fmt: skip
        assert told("chain", f"{option}={value}")["correlation_id"] == str(made.post.correlation_id)
    text = said("chain", f"--position={made.position.pk}")
    for word in ("POST", "LLM", "SIGNAL", "ORDER", "FILL", "LEDGER", "POSITION", "EVENT", "what does it say"):
        assert word in text
    assert "What the followed accounts say: +0.70, weight 100 of 100 in all, speaks for this long" in text
    assert "PnL +38.16 USDC" in text
    moments = [line[:24] for line in text.splitlines() if line.startswith("20")]
    assert moments == sorted(moments)
    assert all(moment.endswith("Z") for moment in moments)


def test_a_long_answer_is_cut_without_full(world: World) -> None:
    trace = world.of_alice.trace
    trace.request = {"user": "word " * 400 + "the end"}
    trace.save()
    option = f"--post={world.of_alice.post.pk}"
    assert "the end" not in said("chain", option)
    assert re.search(r"… \d+ more characters with --full", said("chain", option))
    assert "the end" in said("chain", option, "--full")
    assert "with --full" not in said("chain", option, "--full")


def test_chain_of_nothing_says_so(world: World) -> None:
    with pytest.raises(CommandError, match="no order '999999'"):
        said("chain", "--order=999999")
    with pytest.raises(CommandError, match="not a correlation id"):
        said("chain", "--corr=zebra")
    with pytest.raises(CommandError, match="name a row: --post"):
        said("chain")


def test_why(world: World) -> None:
    blocked = world.of_alice.blocked
    text = said("why", f"--order={blocked.pk}")
    assert "cooldown" in text
    assert "measured 10 s, limit 900 s" in text
    assert "account.cooldown_seconds_per_symbol in config/risk.yaml" in text
    (reason,) = told("why", f"--order={blocked.pk}")["reasons"]
    assert (reason["code"], reason["limit"]) == ("cooldown", "900 s")
    assert len(told("why", f"--signal={blocked.signal_id}")["reasons"]) == 2
    assert told("why", f"--order={world.of_alice.entry.pk}") == {"stopped": False, "reasons": []}


def test_why_a_symbol_is_not_traded(world: World) -> None:
    assert told("why", "--symbol", "ETH") == {"stopped": False, "reasons": []}
    assert "ETH is fresh and trusted" in said("why", "--symbol", "ETH")
    Quote.objects.filter(symbol="ETH").update(at=timezone.now() - timedelta(hours=1))
    first, *_ = told("why", "--symbol", "ETH")["reasons"]
    assert (first["code"], first["measured"][:2], first["limit"]) == (
        "quote:stale",
        "36",
        f"{quotes.policy().max_age_seconds} s",
    )
    Quote.objects.filter(symbol="ETH").delete()
    assert told("why", "--symbol", "ETH")["reasons"][0]["code"] == "quote:never"
    with pytest.raises(CommandError, match="no symbol 'DOGE'; known: "):
        said("why", "--symbol", "DOGE")


def test_why_a_post_became_no_trade(world: World) -> None:
    post = builders.candidate(world.of_alice.post.account, outcome="candidate:below_threshold")
    Event.objects.create(
        at=timezone.now(), name="signal.declined", subject=f"signals_app.ctpost/{post.pk}",
        data={"agent": "A", "token": "ETH", "reason": "below_threshold", "measured": "0.41", "limit": "0.5"},
    )  # fmt: skip
    first, second = told("why", f"--post={post.post_id}")["reasons"]
    assert first["code"] == second["code"] == "candidate:below_threshold"
    assert (second["what"], second["measured"], second["limit"]) == ("A on ETH", "0.41", "0.5")
    assert "min_confidence" in second["change"]


def test_every_reason_of_the_code_is_explained() -> None:
    listed = {one["code"]: one for one in told("why", "--list")["reasons"]}
    for code in (
        *Reason,
        *(f"candidate:{reason}" for reason in CandidateReason),
        "prefiltered:empty",
        "quote:stale",
    ):
        meaning, change, audience = reasons.explain(code)
        assert meaning
        assert change
        assert (listed[code]["meaning"], listed[code]["audience"]) == (meaning, audience)
    assert reasons.explain("unread:content_filter") == reasons.explain("unread")
    assert reasons.explain("halted by the exchange")[2] == "staff"


def test_a_customer_is_told_of_nothing_that_only_staff_reach() -> None:
    """Neither a command nor a file of config/ nor the admin: customers have pages and the API."""
    fixes = {code: one.fix for code, one in reasons.REASONS.items() if one.audience == Audience.CUSTOMER}
    assert len(fixes) > 20
    assert [code for code, fix in fixes.items() if re.search(r"manage\.py|config/|the admin", fix)] == []


def test_every_code_that_an_order_ends_with_is_explained() -> None:
    """Blocked, rejected, expired, canceled: codes that are no member of `Reason` where they are stored."""
    files = (
        *("execute", "settle", "chain/outbox", "venues/paper"),
        *(f"venues/safe/{name}" for name in ("venue", "verify", "trades", "pools", "entry_stops")),
    )
    text = "".join(Path(f"trading/{name}.py").read_text() for name in files)
    kinds = r'(?:code=|reason=|"refused": |drop\(tx, |UNNAMED = |reason or )"([a-z_]+)"'
    codes = set(re.findall(kinds, text)) | set(re.findall(r'    return "([a-z_]+)"', text))
    assert "rpc_fault" in codes
    never_stored = {
        "no_intent",
        "dropped",
    }  # a missing intent sets the order aside; a dropped one has its reason
    assert {code for code in codes - never_stored if code not in reasons.REASONS} == set()


def test_every_revert_of_the_module_is_explained() -> None:
    module = Path("trading/venues/safe/contract/TradingModule.vy").read_text()
    trading = module.partition("def open_position")[2].partition("def close_position")
    codes = {word.lower() for part in trading for word in re.findall(r'assert [^"]*"([A-Z_]+)"', part)}
    ours = {
        "token_call",
        "safe_call",
        "quantity",
        "allowance_left",
        "spend_not_exact",
        "payment_not_exact",
    }
    assert len(codes) > 15
    assert codes - ours <= set(Reason)


def test_paper_on_and_off(world: World) -> None:
    money = LedgerEntry.objects.count(), PaperBalance.objects.count()
    said("paper", "off", "--reason=lunch", "--by=me")
    assert told("paper", "status")["venues"][0]["orders_leave"] is False
    assert gate.open_venues() == []
    answer = told("paper", "on", "--by=me")
    assert answer["venues"][0] == {
        "venue": "paper", "paper": True, "money": "paper", "dry_run": False, "approved": True, "expired": False,
        "orders_leave": True, "exits_leave": True,
    }  # fmt: skip
    assert Approval.objects.latest("pk").approved_by == "me"
    assert "kill switch: not pulled" in said("paper", "status")
    assert (LedgerEntry.objects.count(), PaperBalance.objects.count()) == money


def test_approve_and_revoke(world: World) -> None:
    gate.revoke("paper", by="test", reason="test")
    answer = told("approve", "paper", "--hours=2", "--reason=watching", "--by=me")
    until = parse_datetime(answer["until"])
    assert until is not None
    assert abs(until - timezone.now() - timedelta(hours=2)) < timedelta(minutes=5)
    approval = Approval.objects.latest("pk")
    assert (approval.approved_by, approval.expires_at.replace(microsecond=0)) == (
        "me",
        until.replace(microsecond=0),
    )
    assert gate.is_approved("paper")
    with clock.frozen(until + timedelta(seconds=1)):
        assert not gate.is_approved("paper")
    assert told("revoke", "paper") == {"revoked": 1, "still_approved": False}
    with pytest.raises(CommandError, match=r"config/venues.yaml; known: .*paper"):
        said("approve", "moon", "--reason=x")
    with pytest.raises(CommandError, match="not a number above 0"):
        said("approve", "paper", "--hours=-1", "--reason=x")


def test_kill_and_resume(world: World) -> None:
    assert told("kill", "reduce_only", "--reason=odd fills")["level"] == "reduce_only"
    paper = told("paper", "status")["venues"][0]
    assert (paper["venue"], paper["orders_leave"], paper["exits_leave"]) == ("paper", False, True)
    with pytest.raises(CommandError, match="reason"):
        said("resume", "--reason= ")
    open_before = gate.open_venues()
    assert told("resume", "--reason=found it") == {"released": 1, "level": ""}
    assert told("paper", "status")["venues"][0]["orders_leave"] is True
    assert gate.open_venues() == open_before
    with pytest.raises(CommandError, match="invalid choice"):
        said("kill", "everything", "--reason=x")


def test_kill_flatten_page_and_doctor_name_what_cannot_be_closed(world: World) -> None:
    gate.set_dry_run("paper", True, by="test", reason="maintenance")
    held = Position.objects.filter(state="open").order_by("pk")
    assert held.count() == 2
    text = said("kill", "flatten", "--reason=out")
    page = world.logged_in(world.staff).get("/admin/stop").content.decode()
    for one in held:
        assert f"position {one.pk} ({one.symbol} at paper) is not closed: dry_run" in text
        assert f"position {one.pk}, {one.symbol} at paper: dry_run" in page
    found = {check.name: check for check in checks.gates()}["flatten"]
    assert (found.ok, found.detail) == (False, "2 positions are not closed: 2 × dry_run")

    gate.set_dry_run("paper", False, by="test", reason="done")
    assert told("kill", "flatten", "--reason=out")["unclosed"] == []
    assert "flatten" not in {check.name for check in checks.gates()}


def test_kill_and_resume_one_account(world: World) -> None:
    mine = world.of_alice.deployment.account
    assert told("kill", "flatten", "--reason=odd fills", f"--account={mine}")["level"] == "flatten"
    told("kill", "no_entries", "--reason=drill")
    assert gate.kill_level() == "no_entries"
    assert {(one["account"], one["level"]) for one in told("status")["kill_switches"]} == {
        ("", "no_entries"),
        (mine, "flatten"),
    }
    assert f"account {mine}: no position is opened, and every open one is closed" in said("status")

    out = said("resume", "--reason=found it", f"--account={mine}")
    assert "still latched: all accounts: no new position is opened" in out
    assert (gate.kill_level(mine), gate.kill_level()) == ("no_entries", "no_entries")
    with pytest.raises(CommandError, match="no deployment trades from the account 'nobody'"):
        said("kill", "flatten", "--reason=x", "--account=nobody")


def test_figures(world: World) -> None:
    ever = told("pnl")
    assert (ever["realised_usdc"], ever["closed"], ever["win_rate"], ever["best"]) == ("76.32", 2, "1", "ETH")
    assert (ever["buys"], ever["sells"], ever["volume_usd"]) == (2, 2, "3280")
    assert told("pnl", "--today")["realised_usdc"] == "76.32"
    for rolled_up in (PnlPart, PnlWatermark):  # the positions get other closing times below
        rolled_up.objects.all().delete()
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for made, closed in ((world.of_alice, midnight), (world.of_bob, midnight - timedelta(days=6))):
        Position.objects.filter(pk=made.position.pk).update(closed_at=closed - timedelta(seconds=1))
    assert [told("pnl", *span)["closed"] for span in ([], ["--week"], ["--today"])] == [2, 1, 0]
    Position.objects.filter(pk=world.of_alice.position.pk).update(closed_at=midnight)
    assert told("pnl", "--today")["realised_usdc"] == "38.16"
    Position.objects.filter(state="closed").update(closed_at=timezone.now())
    text = said("pnl", "--today")
    assert "UTC" in text
    assert "76.32 USDC" in text
    assert ever["cvar_95_pct"] is None  # two results have no tail


def test_a_statement_adds_up_to_what_the_ledger_holds(world: World) -> None:
    number = str(world.of_alice.deployment.pk)
    found = told("statement", number)
    held = {one["asset"]: Decimal(one["amount"]) for one in found["closing"] if one["book"] == "held"}
    kept = {asset: amount for asset, amount in ledger.balances(int(number)).items() if amount}

    assert held == kept
    assert found["opening"] == []
    last = {(line["book"], line["asset"]): line["balance"] for line in found["lines"]}
    assert {(one["book"], one["asset"]): one["amount"] for one in found["closing"]}.items() <= last.items()
    assert "open ETH" in {line["what"] for line in found["lines"]}
    after = told("statement", number, "--from", "2100-01-01")
    assert (after["opening"], after["lines"], after["closing"]) == (found["closing"], [], found["closing"])
    text = said("statement", number)
    assert "closing:" in text
    assert "0.4 ETH" in text or "USDC held" in text
    rows = said("statement", number, "--csv").splitlines()
    assert rows[0].startswith("at,book,kind,asset,order_id,what,amount,balance")
    assert len(rows) == len(found["lines"]) + 1
    for wrong in (("999",), (number, "--from", "soon"), (number, "--csv", "--json")):
        with pytest.raises(CommandError, match=r"portfolio|--from .soon. is no date|give one of them"):
            said("statement", *wrong)


def test_trades_and_portfolio(world: World) -> None:
    assert {row["status"] for row in told("trades", "--status=BLOCKED")["orders"]} == {"BLOCKED"}
    assert "cooldown" in said("trades")
    newest = [row["id"] for row in told("trades", "-n", "3")["orders"]]
    assert newest == list(Order.objects.order_by("-pk").values_list("pk", flat=True)[:3])
    with pytest.raises(CommandError, match="invalid choice"):
        said("trades", "--status=nonsense")
    folio = told("portfolio")
    assert len(folio["positions"]) == 2
    assert folio["positions"][0]["unrealised_pnl"] == "20"
    assert "unrealised (USDC)" in said("portfolio")


def test_dead_letters(world: World) -> None:
    post = builders.post(
        world.of_alice.post.account, state="quarantined", attempts=3, last_error="ValueError: odd"
    )
    order = builders.order(world.of_alice.deployment, attempts=3, last_error="Traceback\nKeyError: 'x'")
    names = [letter["name"] for letter in told("dlq", "list")["letters"]]
    assert names == [f"post:{post.pk}", f"order:{order.pk}"]
    assert "KeyError: 'x'" in said("dlq", "list")
    assert "Traceback" in said("dlq", "show", f"order:{order.pk}")
    assert told("dlq", "redrive", f"order:{order.pk}") == {"redriven": 1}
    assert told("dlq", "redrive", "--all") == {"redriven": 1}
    assert told("dlq", "list") == {"letters": []}
    for wrong in ("moon:1", "order:x", "order:0"):
        with pytest.raises(CommandError, match=r"dlq list|does not name a dead letter"):
            said("dlq", "show", wrong)


def test_the_help_of_dlq_names_each_kind_that_can_be_redriven(world: World) -> None:
    with pytest.raises(CommandError, match="does not name a dead letter") as refused:
        said("dlq", "redrive", "moon:1")
    kinds = re.findall(r"(\w+):\d", str(refused.value).partition(": give")[2])
    assert len(kinds) == 5
    assert all(kind in load_command_class("maxxit.ops", "dlq").help for kind in kinds)


def test_keys(world: World) -> None:
    key = told("apikey", "create", "alice", "--name=bot", "--days=7")["key"]
    assert key[:10] in said("apikey", "list")
    assert key not in said("apikey", "list")
    row = ApiKey.objects.get()
    assert (row.sha256, row.scopes) == (hashlib.sha256(key.encode()).hexdigest(), ["read"])
    assert key not in str(ApiKey.objects.values())
    assert row.expires_at is not None
    assert abs(row.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=5)

    def answered() -> int:
        return Client().get("/api/db/orders", headers={"X-API-Key": key}).status_code

    assert answered() == 200
    with clock.frozen(row.expires_at):
        assert answered() == 401
    assert told("apikey", "revoke", key[:10]) == {"revoked": 1}
    assert answered() == 401
    assert told("apikey", "list")["keys"][0]["state"] == "revoked"
    with pytest.raises(CommandError, match="no user 'nobody'"):
        said("apikey", "create", "nobody")
    with pytest.raises(CommandError, match="apikey list"):
        said("apikey", "revoke", "mxk_none")


def test_reconcile_fails_on_drift(world: World) -> None:
    for made in (world.of_alice, world.of_bob):
        from trading import ledger

        for asset, amount in ledger.balances(made.deployment.pk).items():
            PaperBalance.objects.update_or_create(
                account=made.deployment.account, asset=asset, defaults={"amount": amount}
            )
    assert told("reconcile") == {"ok": True, "ledger": {}, "venues": {}, "safes": [], "executors": []}
    PaperBalance.objects.filter(account=world.of_bob.deployment.account, asset="USDC").update(amount=1)
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", "--json", stdout=out)
    assert ended.value.code == 1
    assert list(json.loads(out.getvalue())["venues"]) == [f"{world.of_bob.deployment.account} USDC"]


def test_pipeline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from maxxit.pipeline import start

    sent: list[tuple[str, str]] = []

    class Sent:
        id, parent = "task-5", None

    def send_task(task: str, queue: str, **_: bool) -> Sent:
        sent.append((task, queue))
        return Sent()

    monkeypatch.setattr(start.current_app, "send_task", send_task)
    assert told("pipeline", "stage", "monitor") == {"stage": "monitor", "task_id": "task-5"}
    assert sent == [("positions.tasks.monitor", "monitor")]
    assert Event.objects.filter(name="stage.asked", subject="pipeline.stage/monitor").count() == 1
    (run,) = told("pipeline", "runs")["runs"]
    assert [stage["stage"] for stage in run["stages"]] == ["ingest", "classify"]
    assert "ingest 3→2" in said("pipeline", "runs")
    with pytest.raises(CommandError, match="invalid choice"):
        said("pipeline", "stage", "moon")

    def workflow(links: Any) -> Sent:
        sent.extend((link.task, link.options["queue"]) for link in links.tasks)
        return Sent()

    sent.clear()
    monkeypatch.setattr("celery.canvas._chain.apply_async", workflow)
    started = told("pipeline", "run", "--by", "me")
    assert sent == [(stage.task, stage.queue) for stage in STAGES]
    begun = PipelineRun.objects.get(pk=started["run_id"])
    assert (begun.cause, begun.asked_by, begun.root_task_id) == ("command", "me", started["root_task_id"])


def test_a_broker_that_is_away_is_one_clear_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from maxxit.pipeline import start

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(start.current_app, "send_task", away)
    with pytest.raises(CommandError, match=r"is Redis up\?"):
        said("pipeline", "stage", "monitor")


def test_help_says_in_one_line_what_each_command_does() -> None:
    shown = CommandLine(["manage.py", "help"]).main_help_text()
    lines = shown.partition("Django's own")[0].splitlines()[2:-1]

    ours = {name for name, app in get_commands().items() if str(app).split(".")[0] in PACKAGES}
    assert {line.split()[0] for line in lines} == ours
    assert [line for line in lines if len(line.split()) < 4 or len(line) > 130] == []
    assert "migrate" in shown
