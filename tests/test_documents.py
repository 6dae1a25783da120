"""Lists in the pages are those of the code: tests, jobs, states, reasons, events, adapters."""

import argparse
import re
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class

from maxxit.access import attempts, auth
from maxxit.knowledge import policy as knowledge
from maxxit.market import quotes
from maxxit.market.feeds import FEEDS
from maxxit.market.models import RefusedQuote
from maxxit.market.reasons import QuoteReason
from maxxit.market.stream.lease import LEASE_SECONDS
from maxxit.notify.channels import CHANNELS
from maxxit.pipeline.models import FRESH
from maxxit.pipeline.schedule import schedule
from maxxit.reports import reasons
from positions.states import PositionState
from signals_app import policy as signals
from signals_app.states import PostState, SignalState
from tests.tree import PACKAGES
from trading import passes
from trading.states import OrderState

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
MODULE = (ROOT / "trading/venues/safe/contract/TradingModule.vy").read_text()
WORDS = {3: "three"}
AUTHORS, CHUNKING, STREAM = signals.policy().authors, knowledge.policy().chunking, quotes.policy().stream
EXITS, QUARANTINE = passes.policy().exits, passes.policy().quarantine


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def section(name: str, heading: str) -> str:
    """What stands under a heading of a page, up to the next one."""
    return page(name).partition(f"## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in `text`, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


@cache
def every_name() -> frozenset[str]:
    """The names of all test functions and test files."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    found = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    return frozenset(found | {file.stem for file in files})


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_each_test_that_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(r"\btest_[a-z0-9_]+", path.read_text()))
    assert named - every_name() == set()


def test_the_operators_book_lists_jobs_with_their_rhythm() -> None:
    table = section("runbook", "Start, look, stop").partition("| job |")
    listed = {name.split(" ")[0]: rhythm for name, rhythm, _ in rows(table[1] + table[2])}
    seconds = {"s": 1, "min": 60}
    configured = schedule()
    assert len(listed) == 9
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
    moves = ("order.", "position.", "transaction.")  # `advance` names them by their state
    assert len(named) > 15
    assert [name for name in sorted(named) if f'"{name}"' not in code and not name.startswith(moves)] == []


def test_each_command_that_reports_takes_json() -> None:
    servers_and_setup = {"backfill", "demo", "localchain", "roles", "setup", "stream", "sync_schedule", "up"}
    without = set()
    for name, app in get_commands().items():
        if not str(app).startswith("maxxit."):
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
        ("api", f"429 more than {auth.PER_MINUTE} calls a minute"),
        ("api", f"or {attempts.policy().free_refused_keys_per_address} refused keys"),
        ("api", f"signed within {WORDS[FRESH.seconds // 60]} minutes"),
        ("authors", f"stop {AUTHORS.stop_loss_pct} %, target {AUTHORS.take_profit_pct} %"),
        ("authors", f"{AUTHORS.cost_bps} bps of costs"),
        ("knowledge", f"at most {CHUNKING.chars} characters that overlap by up to {CHUNKING.overlap}"),
        ("market", f"by a lease in Redis of {LEASE_SECONDS:.0f} s"),
        ("market", f"Ticks of {STREAM.flush_milliseconds} ms become one quote"),
        ("market", f"anew after {STREAM.silence_seconds} s of silence"),
        ("operations-platform", f"`visibility_timeout` {settings.VISIBILITY_TIMEOUT} s; the hard time limit "
         f"({settings.CELERY_TASK_TIME_LIMIT} s)"),
        ("operations-platform", f"The soft limit ({settings.CELERY_TASK_SOFT_TIME_LIMIT} s)"),
        ("performance", f"every {EXITS.sweep_milliseconds} ms (`config/passes.yaml`)"),
        ("runbook", f"after {QUARANTINE.first_rest_seconds} s, 20 s … "
         f"{QUARANTINE.longest_rest_seconds // 60} min"),
    ],
)  # fmt: skip
def test_a_figure_that_a_page_states_is_the_one_in_force(name: str, text: str) -> None:
    assert " ".join(text.split()) in " ".join(page(name).split())
