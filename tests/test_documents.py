"""Lists in the pages are those of the code: tests, jobs, states, reasons, events, adapters."""

import argparse
import json
import re
import tomllib
from enum import StrEnum
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class

from maxxit.access import attempts, auth
from maxxit.core import egress
from maxxit.evm import rpc
from maxxit.knowledge import policy as knowledge
from maxxit.knowledge.models import DIMENSIONS
from maxxit.llm import policy as llm
from maxxit.llm.providers.wire import MAX_ANSWER
from maxxit.market import quotes
from maxxit.market.feeds import FEEDS
from maxxit.market.models import RefusedQuote
from maxxit.market.reasons import QuoteReason
from maxxit.market.stream.lease import LEASE_SECONDS
from maxxit.market.validation import CLOCK_SKEW
from maxxit.notify import policy as notify
from maxxit.notify.channels import CHANNELS
from maxxit.notify.policy import SEND_SECONDS
from maxxit.ops import verbs
from maxxit.ops.devchain.local import STEP_SECONDS
from maxxit.ops.devchain.world import DEMO_USDC, USDC_UNIT
from maxxit.ops.local import SOFT_SHUTDOWN_SECONDS, WORKER_PATIENCE, WORKERS
from maxxit.ops.supervisor import Child, Server
from maxxit.paging import COUNTED, SKIPPED
from maxxit.pipeline.models import FRESH
from maxxit.pipeline.schedule import schedule
from maxxit.pipeline.stages import ROUTES, SWEEPS
from maxxit.reports.trades import reasons
from positions.states import PositionState
from signals_app import policy as signals
from signals_app.authors.backtest import LONGEST_WAIT
from signals_app.authors.impact import HIGHEST, NEUTRAL
from signals_app.authors.measure import BENCHMARK_STEP, HORIZONS, IMPACT_HORIZON, REPEAT
from signals_app.authors.plots import short_text
from signals_app.authors.statistics import MIN_CLUSTERS
from signals_app.states import PostState, SignalState
from signals_app.verify import MAX_TOKENS
from tests.chain import mutants as chain_mutants
from tests.chaos import mutants as chaos_mutants
from tests.llm.attacks import attacks
from tests.llm.canaries import KNOWN
from tests.surface.test_access import ALLOWED
from tests.time_limit import DEFAULT_SECONDS
from tests.tree import LAYERS, PACKAGES
from trading import passes
from trading.chain import outbox, signer
from trading.chain.states import TxState
from trading.quarantine import TRIES
from trading.states import OrderState

ROOT = Path(__file__).parents[1]
MAKE = (ROOT / "Makefile").read_text() + (ROOT / "verbs.mk").read_text()
PAGES = sorted((ROOT / "docs").glob("*.md"))
MODULE = (ROOT / "trading/venues/safe/contract/TradingModule.vy").read_text()
NUMBERS = {
    1: "an",
    3: "three",
    4: "four",
    5: "five",
    6: "six",
    7: "seven",
    8: "eight",
    9: "nine",
    11: "eleven",
    20: "twenty",
}
AUTHORS, STREAM = signals.policy().authors, quotes.policy().stream
KNOWLEDGE = knowledge.policy()
CHUNKING, INGEST = KNOWLEDGE.chunking, KNOWLEDGE.ingest
LOGIN = attempts.policy()
REVERTS = int(re.findall(r"reverts_before_stop: (\d+)", (ROOT / "config/chains.yaml").read_text())[0])
TIPS = [tip // outbox.GWEI for tip in outbox.TIP_LADDER]
EVERY = {name: job.every for name, job in schedule().items() if job.every}
CRON = {name: job.cron.split() for name, job in schedule().items() if job.cron}
DAYS = {"2 * DAY": 2, "30 * DAY": 30}
VYPER = {
    name: DAYS.get(value) or int(value.replace("10 * 10**6", str(10**7)).replace("_", ""))
    for name, value in re.findall(
        r"^(MIN_TRADE|MAX_[A-Z_]+|BUCKETS): constant\(uint256\) = (.+)$", MODULE, re.M
    )
    if "**1" not in value
}
"""Constants of the module; those that are a time in days."""
LEAST, BEYOND = re.findall(
    r"3\.(\d+)", re.findall(r"requires-python.*", (ROOT / "pyproject.toml").read_text())[0]
)
PYTHONS = f"Python 3.{LEAST} to 3.{int(BEYOND) - 1}"
EXITS, QUARANTINE = passes.policy().exits, passes.policy().quarantine
PER_AUTHOR = signals.policy().generate.max_signals_per_author_per_day
APPROVAL_WARNINGS, NOTIFY = passes.policy().approval_warning_hours, notify.policy()


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def section(name: str, heading: str) -> str:
    """What stands under a heading of a page, up to the next one."""
    return page(name).partition(f"## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in `text`, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


EVERY_PAGE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = "|".join((*PACKAGES, "tests", "config", "docs", "deploy"))


@pytest.mark.parametrize("path", EVERY_PAGE, ids=lambda path: path.stem)
def test_modules_targets_files_and_links_that_a_page_names_exist(path: Path) -> None:
    text = path.read_text()
    modules = set(re.findall(r"python -m ([a-z_]+(?:\.[a-z_0-9]+)*)", text))
    targets = set(re.findall(r"(?:`|^    )(?:\w+=\S+ )?make ([a-z][\w-]*)", text, re.M))
    files = set(re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]+\.[a-z]+)\b", text))
    links = {link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")}
    assert {name for name in modules if find_spec(name) is None} == set()
    assert targets <= set(re.findall(r"^([a-z][\w-]*):", MAKE, re.M))
    assert {name for name in files if not (ROOT / name).exists()} == set()
    assert {link for link in links if not (path.parent / link).exists()} == set()


@cache
def every_name() -> frozenset[str]:
    """The names of all test functions and test files."""
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests/conformance").glob("*.py")]
    found = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    return frozenset(found | {file.stem for file in files})


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_each_file_that_a_page_names_exists(path: Path) -> None:
    top = "agents|config|deploy|docs|maxxit|positions|signals_app|tests|trading"
    named = re.findall(rf"`((?:{top})/[^`\s]+)`", path.read_text())
    files = [one for name in named for one in _written_out(name.partition("::")[0]) if not {*"<…"} & {*one}]
    assert [one for one in files if not list(ROOT.glob(one.rstrip("/")))] == []


def _written_out(name: str) -> list[str]:
    """`a/{b,c}.py` as `a/b.py` and `a/c.py`."""
    before, brace, rest = name.partition("{")
    inside, _, after = rest.partition("}")
    return [f"{before}{one}{after}" for one in inside.split(",")] if brace else [name]


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_each_test_that_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(r"\btest_[a-z0-9_]+", path.read_text()))
    assert named - every_name() == set()


def test_the_operators_book_lists_jobs_with_their_rhythm() -> None:
    table = section("runbook", "Start, look, stop").partition("| job |")
    listed = {name.split(" ")[0]: rhythm for name, rhythm, _ in rows(table[1] + table[2])}
    seconds = {"s": 1, "min": 60}
    configured = schedule()
    assert len(listed) == 11
    for name, rhythm in listed.items():
        number, unit = rhythm.split()
        job = configured[name]
        if unit == "h":
            assert job.cron is not None, name
            assert job.cron.split()[1] == f"*/{number}", name
        else:
            assert job.every == int(number) * seconds[unit], name


def test_the_runbook_lists_every_reason_as_the_code_does() -> None:
    assert reasons.markdown() in section("runbook", "Why did it not trade?"), (
        "write it again with `manage.py why --list`"
    )


def test_the_runbook_and_verbs_mk_list_the_verbs_as_the_code_does() -> None:
    assert verbs.markdown() in page("runbook"), "write it again with `manage.py verbs --markdown`"
    assert verbs.makefile() == (ROOT / "verbs.mk").read_text(), "write it again with `manage.py verbs --make`"


@pytest.mark.parametrize(
    ("path", "states"),
    [
        ("/api/db/posts", PostState), ("/api/db/signals", SignalState), ("/api/db/orders", OrderState),
        ("/api/db/positions", PositionState),
    ],
)  # fmt: skip
def test_the_states_that_the_api_filters_by(path: str, states: type[StrEnum]) -> None:
    (line,) = [row[1] for row in rows(page("api")) if path in row[0]]
    assert re.findall(r"\b[A-Z_]{3,}\b", line) == [str(one).upper() for one in states]


def test_the_reasons_of_a_revert() -> None:
    text = section("contract", "Reasons of a revert")
    plain = {word for part in re.findall(r"`([A-Z_ \n]+)`", text) for word in part.split()}
    listed = {f"POLICY{word}" if word.startswith("_") else word for word in plain}
    listed -= {"STF"}  # the router's own
    assert listed == set(re.findall(r'assert [^\n]*"([A-Z_]+)"', MODULE))


def test_the_events_of_the_module() -> None:
    listed = re.findall(r"`([A-Z]\w+)`", section("contract", "Events"))
    assert sorted(listed) == sorted(re.findall(r"^event (\w+):", MODULE, re.M))


def test_events_that_pages_name_are_recorded_somewhere() -> None:
    code = "".join(path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    kinds = "api|execution|exits|flatten|gate|limits|login|order|position|reconcile|rule|safe|transaction"
    text = "".join(path.read_text() for path in PAGES)
    named = set(re.findall(rf"`((?:{kinds})\.[a-z_]+)`", text)) - {"exits.py", "exits.levels"}
    named = {name for name in named if not name.endswith(".py")}
    machines = {"order": OrderState, "position": PositionState, "transaction": TxState}
    moves = {f"{kind}.{state}" for kind, states in machines.items() for state in states}  # made by `advance`
    assert len(named) > 15
    assert [name for name in sorted(named - moves) if f'"{name}"' not in code] == []


def test_each_command_that_reports_takes_json() -> None:
    servers_and_setup = {
        "backfill",
        "chat",
        "demo",
        "localchain",
        "mcp",
        "monitoring",
        "orderstream",
        "roles",
        "setup",
        "stream",
        "sync_schedule",
        "up",
    }
    without = set()
    for name, app in get_commands().items():
        if str(app).split(".")[0] not in PACKAGES:
            continue
        parser = load_command_class(app, name).create_parser("manage.py", name)
        groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        for one in groups[0].choices.values() if groups else [parser]:
            if "--json" not in one._option_string_actions:
                without.add(name)
    assert without == servers_and_setup


def test_the_reasons_of_a_refused_price_are_those_that_its_field_names() -> None:
    judge = (ROOT / "maxxit/market/validation.py").read_text()
    names = re.findall(r"(?:return |_refusal\(\s*tick, )QuoteReason\.(\w+)", judge)
    found = {QuoteReason[name].value for name in names}
    named = set(re.findall(r"\w+", str(RefusedQuote._meta.get_field("reason").help_text))) - {"or"}
    assert len(named) == 7
    assert named == found


def test_every_feed_and_channel_has_its_row() -> None:
    first = {row[0].strip("`") for row in rows(page("market"))}
    assert set(FEEDS) | set(CHANNELS) <= first


def test_the_planted_bugs_that_the_pages_list_are_those_that_are_planted() -> None:
    text = section("reliability", "Planted bugs")
    assert {row[0] for row in rows(text)} == {one.name for one in chaos_mutants.MUTANTS if one.listed}
    found = re.search(r"\*\*(\d+) of (\d+) are found\*\*", text)
    assert found
    assert int(found[1]) <= int(found[2]) <= len(chaos_mutants.MUTANTS)
    contract = [(row[0], row[1].strip("`")) for row in rows(section("contract", "Planted bugs (I29)"))]
    assert sorted(contract) == sorted((one.bug, one.hint) for one in chain_mutants.MUTANTS)


def test_the_table_of_who_wakes_whom() -> None:
    listed = {
        (event, woken)
        for named, woken in rows(section("architecture", "Who wakes whom"))
        for event in re.findall(r"`([a-z_]+\.[a-z_]+)`", named)
    }
    assert listed == {(event, one.name) for one in SWEEPS for event in one.wakes_on} | {
        ("quotes.accepted", "match"),
        ("rule.matched", "deliver"),
        ("feeds.waiting", "ingest_unmetered"),
        ("posts.arrived", "ingest_arrived"),
    }


def test_the_layers_are_those_that_are_enforced() -> None:
    text = [" ".join(row) for row in rows(section("architecture", "Layers"))]
    for layer in LAYERS:
        for package in layer:
            name = package.removesuffix("_app")
            assert any(re.search(rf"\b{name}\b", line) for line in text), package


def test_the_kernels_that_the_page_names_are_held_to_be_pure() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (pure,) = (one["source_modules"] for one in contracts if one["name"] == "Kernels are pure")
    text = (
        section("architecture", "A step")
        .partition("* **Decide** is pure")[2]
        .partition("are such kernels")[0]
    )
    named = re.findall(r"`([\w.]+)`", text)
    assert len(named) == 8
    assert [name for name in named if not any(module.endswith(f".{name}") for module in pure)] == []


def test_the_recorded_answers_of_nodes_are_as_many_as_the_pages_say() -> None:
    entries = [
        entry
        for path in (ROOT / "tests/chain/zoo").glob("*.json")
        for entry in json.loads(path.read_text())["entries"]
    ]
    assert all(entry["source"] for entry in entries)
    clients = {
        re.sub(r" \(.*|, in gwei", "", name)
        for entry in entries
        for name in re.split(r", (?!in gwei)", entry["client"])
    } - {"any"}
    assert f"{len(entries)} answers of {len(clients)} clients and gateways" in page("reliability")
    assert f"answers of {len(clients)} clients and gateways" in page("chain")


def test_each_file_of_conformance_that_has_tests_is_run() -> None:
    folder = ROOT / "tests/conformance"
    run = re.search(r"^python_files = (.+)$", (folder / "pytest.ini").read_text(), re.M)
    with_tests = {path.name for path in folder.glob("*.py") if "\ndef test_" in path.read_text()}
    assert run
    assert with_tests == set(run[1].split())


def test_the_versions_that_conformance_states_are_those_that_are_pinned() -> None:
    pins = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements-conformance.txt").read_text(), re.M)
    )
    pins |= json.loads((ROOT / "tests/conformance/package.json").read_text())["dependencies"]
    agree = {row[0]: row[2:] for row in rows(page("conformance").partition("## What was found")[0])}
    for provider, *names in (
        ("X API v2", "tweepy", "xdk"),
        ("OpenAI-compatible", "openai"),
        ("Anthropic", "anthropic"),
        ("Coinbase market data, HTTP and WebSocket", "coinbase-advanced-py"),
        ("Alpaca paper trading", "alpaca-py"),
        ("Hyperliquid", "hyperliquid-python-sdk"),
        ("Coinbase Advanced, trading", "coinbase-advanced-py"),
        ("CoinGecko", "coingecko-sdk"),
        ("Slack's incoming webhooks", "slack-sdk"),
        ("Discord's webhooks", "discord-py"),
        ("Teams' workflow webhooks", "adaptivecards"),
        ("none: services by apprise", "apprise"),
        ("Pyth Hermes", "@pythnetwork/hermes-client"),
        ("Chainlink", "web3"),
        ("nodes (JSON-RPC)", "web3", "@metamask/api-specs"),
        ("Telegram's Bot API", "python-telegram-bot"),
        ("Telegram's Bot API, updates of a channel", "python-telegram-bot"),
        ("none: our MCP server (`tests/chat/scenes.py`)", "mcp"),
        ("push services", "pywebpush", "http-ece", "py-vapid"),
        ("Langfuse", "langfuse"),
        ("OTLP over HTTP", "opentelemetry-proto", "opentelemetry-exporter-otlp-json-http"),
        ("AWS KMS", "boto3", "moto"),
        ("Kubernetes, KEDA", "kubernetes-validate", "@kubernetes-models/keda"),
        ("performance figures", "empyrical-reloaded"),
    ):
        stated = re.findall(r"\d[\w.]*\.\d\w*", agree.pop(provider)[1])
        assert stated == [pins[name] for name in names], provider
    assert agree == {}


def test_the_horizons_that_the_page_about_authors_lists() -> None:
    (line,) = re.findall(r"\*\*Horizons\*\* (.+?)\. A call", page("authors"))
    assert line == ", ".join(re.sub(r"(?<=\d)(?=[a-z])", " ", short_text(horizon)) for horizon in HORIZONS)


def test_the_keys_that_the_chain_page_names_are_configured() -> None:
    configured = (ROOT / "config/chains.yaml").read_text()
    for key in (
        "finality_depth",
        "max_fee_wei",
        "signatures_per_minute",
        "max_price_impact_bps",
        "reverts_before_stop",
    ):
        assert f"`{key}`" in page("chain")
        assert f"{key}:" in configured


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("../README", PYTHONS),
        ("operations-platform", PYTHONS),
        ("api", f"`count` stops at {COUNTED:,}"),
        ("api", f"`offset` at {SKIPPED:,}"),
        ("api", f"429 more than {auth.PER_MINUTE} calls a minute"),
        ("api", f"or {LOGIN.free_refused_keys_per_address} refused keys"),
        ("api", f"signed within {NUMBERS[FRESH.seconds // 60]} minutes"),
        ("authors", f"stop {AUTHORS.stop_loss_pct} %, target {AUTHORS.take_profit_pct} %"),
        ("authors", f"{AUTHORS.cost_bps} bps of costs"),
        ("authors", f"The same author, token and side again within the same {NUMBERS[REPEAT.seconds // 3600]} hours"),
        ("authors", f"the same side every {NUMBERS[BENCHMARK_STEP.seconds // 3600]} hours"),
        ("authors", f"Under {NUMBERS[MIN_CLUSTERS]} such periods no interval is given"),
        ("authors", f"No bar within {NUMBERS[LONGEST_WAIT // 3600]} hour: no trade"),
        ("authors", f"points of each call over {NUMBERS[IMPACT_HORIZON.days]} days"),
        ("authors", f"from [−{HIGHEST}, {HIGHEST}] to [0, 1], shrunk to {NEUTRAL} by "
         f"{NUMBERS[AUTHORS.prior_calls]} neutral calls"),
        ("authors", f"every night at {CRON['authors'][1]:0>2}:{CRON['authors'][0]} UTC"),
        ("adr/0012-exits-worker", f"at most {EXITS.lanes} threads for each venue"),
        ("adr/0012-exits-worker", f"looks for new exits every {EXITS.sweep_milliseconds} ms while it works"),
        ("adr/0012-exits-worker", f"every {EVERY['exits']} s"),
        ("chain", f"A refusal about fees raises both by {outbox.BUMP_NUMERATOR - outbox.BUMP_DENOMINATOR} % or more"),
        ("chain", "the tip climbs to {}, {} and {} gwei and doubles".format(*TIPS)),
        ("chain", f"after {NUMBERS[outbox.ALERT_AFTER_REFUSALS]} refusals"),
        ("chain", f"more than {outbox.NONCE_GAP} ahead of ours"),
        ("chain", f"Multicall3 reads, {rpc.MULTICALL_SIZE} in one"),
        ("chain", f"doubled again after {rpc.GROWS_AFTER} spans"),
        ("chain", f"a password below {signer.MIN_PASSWORD_LENGTH} characters"),
        ("chain", f"Both comparisons run every {EVERY['reconcile'] // 60} minutes"),
        ("chain", "follow the demo's quotes, looked at every second" if STEP_SECONDS == 1 else "another rhythm"),
        ("chain", f"a demo user's Safe with {DEMO_USDC // USDC_UNIT:,} USDC"),
        ("contract", f"min (≥ {VYPER['MIN_TRADE'] // 10**6} USDC)"),
        ("contract", f"slippage (≤ {VYPER['MAX_SLIPPAGE_BPS'] // 100} %)"),
        ("contract", f"profit share (≤ {VYPER['MAX_SHARE_BPS'] // 100} %), fee (≤ {VYPER['MAX_FEE'] / 10**6:g} USDC)"),
        ("contract", f"the delay of a loosening (≤ {VYPER['MAX_LOOSEN_DELAY']} days)"),
        ("contract", f"{NUMBERS[VYPER['BUCKETS']]} buckets of a quarter day"),
        ("knowledge", f"at most {CHUNKING.chars} characters that overlap by up to {CHUNKING.overlap}"),
        ("knowledge", f"read every {NUMBERS[EVERY['knowledge'] // 60]} minutes on the queue "
         f"`{ROUTES['maxxit.knowledge.*']['queue']}`"),
        ("knowledge", f"**Vectors** of {DIMENSIONS} numbers"),
        ("knowledge", f"The {NUMBERS[KNOWLEDGE.search.passages]} nearest passages"),
        ("knowledge", f"after {INGEST.retry_minutes}, {2 * INGEST.retry_minutes}, {4 * INGEST.retry_minutes} … "
         f"minutes; after {NUMBERS[INGEST.max_attempts]} failures in a row it is quarantined"),
        ("knowledge", f"{egress.Rules().schemes[0]} on port {egress.Rules().ports[0]} only"),
        ("knowledge", f"({NUMBERS[egress.Rules().max_redirects]} at most); no proxy, cookies or credentials; at most "
         f"{egress.Rules().max_bytes // 10**6} MB after decompression and {egress.Rules().max_seconds:.0f} seconds"),
        ("market", f"by a lease in Redis of {LEASE_SECONDS:.0f} s"),
        ("market", f"Ticks of {STREAM.flush_milliseconds} ms become one quote"),
        ("market", f"anew after {STREAM.silence_seconds} s of silence"),
        ("market", f"not more than {CLOCK_SKEW.seconds} s ahead of our clock"),
        ("market", f"woken by the event and by a sweep each {EVERY['deliver']} s"),
        ("market", f"a sweep each {EVERY['match']} s makes up for a lost wake"),
        ("market", f"A send takes {SEND_SECONDS:.0f} s at most"),
        ("market", f"rests ({NOTIFY.breaker_first_seconds} s, doubled by each failed probe up to an hour)"),
        ("reading", f"an answer has {MAX_ANSWER // 10**6} MB"),
        ("reading", f"traces go after {llm.policy().traces.keep_days} days"),
        ("reading", f"{NUMBERS[PER_AUTHOR]} a day at most"),
        ("reading", f"a post that calls more than {NUMBERS[MAX_TOKENS]} tokens calls none"),
        ("operations-platform", f"starts web, {NUMBERS[len(WORKERS)]} workers, beat"),
        ("operations-platform", f"may go on for {SOFT_SHUTDOWN_SECONDS} s, then it is handed back"),
        ("operations-platform", f"web, beat and Flower ({Child.patience} s at most), workers "
         f"({WORKER_PATIENCE:.0f} s), databases ({Server.patience} s)"),
        ("operations-platform", f"Each test has {DEFAULT_SECONDS:.0f} seconds"),
        ("operations-platform", f"`visibility_timeout` {settings.VISIBILITY_TIMEOUT} s; the hard time limit "
         f"({settings.CELERY_TASK_TIME_LIMIT} s)"),
        ("operations-platform", f"The soft limit ({settings.CELERY_TASK_SOFT_TIME_LIMIT} s)"),
        ("performance", f"every {EXITS.sweep_milliseconds} ms (`config/passes.yaml`)"),
        ("security", f"by account ({LOGIN.free_failures_per_account}) and by address "
         f"({LOGIN.free_failures_per_address};"),
        ("security", f"up to {NUMBERS[LOGIN.longest_block_seconds // 3600]} hour"),
        ("security", f"{LOGIN.free_refused_keys_per_address} refused keys of an address, then 429"),
        ("security", f"{NUMBERS[len([one for one in ALLOWED if not one.startswith('/api')])]} paths stand on the list"),
        ("security", f"{len(list(attacks()))} attacks against a model that obeys"),
        ("security", f"({len(KNOWN)} canaries"),
        ("security", f"checked again every {EVERY['reconcile'] // 60} minutes; "
         f"{NUMBERS[REVERTS]} reverts in a row"),
        ("runbook", "warns staff {} h and {} h before an approval expires".format(*APPROVAL_WARNINGS)),
        ("runbook", f"fails unexpectedly {NUMBERS[TRIES]} times is quarantined"),
        ("runbook", f"after {QUARANTINE.first_rest_seconds} s, 20 s … "
         f"{QUARANTINE.longest_rest_seconds // 60} min"),
    ],
)  # fmt: skip
def test_a_figure_that_a_page_states_is_the_one_in_force(name: str, text: str) -> None:
    assert " ".join(text.split()) in " ".join(page(name).split())
