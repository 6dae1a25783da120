"""`manage.py llm last|watch|follow|summary|prompts|agent`: list, follow and summarise LLM calls.

manage.py llm last -n 20 --status error        the newest calls, and what became of them
manage.py llm watch                            the newest calls, refreshed every few seconds
manage.py llm follow --corr ID                 each new call as it is written, prompt and answer included
manage.py llm summary --since 24h              calls, errors, p95, cost, by day; what became of the calls
manage.py llm prompts --since 7d               the versions of each prompt side by side
manage.py llm agent Follower                   the calls of one agent, and their summary
"""

import json
import re
import time
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime
from rich.table import Table

from maxxit.core import clock
from maxxit.core.commands import count, duration, whole
from maxxit.core.terminal import Console
from maxxit.llm import statistics
from maxxit.llm.models import LlmTrace
from maxxit.reports import model_calls
from maxxit.reports.model_calls import Became
from signals_app.screening.audit import audit

UNITS = {"m": "minutes", "h": "hours", "d": "days"}
COLUMNS = ("ts", "purpose", "provider", "model", "status", "latency_ms", "tokens", "usd", "agent", "error")
BECAME = ("24 h %", "PnL usd")
"""Columns of what became of calls: mean move to the called side, realised and open PnL."""


def moment(text: str) -> datetime:
    """argparse type: `90m`, `24h` or `7d` ago, or an ISO time with a time zone."""
    if match := re.fullmatch(r"(\d+)([mhd])", text):
        try:
            return clock.now() - timedelta(**{UNITS[match[2]]: int(match[1])})
        except OverflowError:
            raise ArgumentTypeError(f"{text!r} begins before the year 1") from None
    try:
        parsed = parse_datetime(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise ArgumentTypeError(f"{text!r}: use 90m, 24h, 7d, or a time like 2026-01-31T12:00:00Z")
    return parsed


def as_dict(row: LlmTrace) -> dict[str, Any]:
    """Return all fields of a trace, for JSON."""
    return {
        **{field.attname: getattr(row, field.attname) for field in row._meta.fields},
        "correlation_ids": [str(correlation_id) for correlation_id in row.correlation_ids],
    }


def _agent(text: str) -> dict[str, Any]:
    """Return the filter for the calls of an agent, by id or name."""
    return {"agent_id": int(text)} if text.isascii() and text.isdigit() else {"agent_name": text}


class Command(BaseCommand):
    help = "Show calls of language models: prompts, answers, latency, cost, and what became of them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the subcommands and their common filters."""
        parser.add_argument(
            "what",
            choices=["last", "watch", "follow", "summary", "prompts", "agent"],
            help="what to show (see above)",
        )
        parser.add_argument("name", nargs="?", default="", help="the agent, for `agent`: id or name")
        parser.add_argument("-n", type=count, default=20, help="how many calls (default 20)")
        parser.add_argument(
            "--agent", default="", help="only calls for this agent: id, or name of any owner's"
        )
        parser.add_argument("--model", default="", help="only calls of this model")
        parser.add_argument("--purpose", default="", help="only calls for this purpose")
        parser.add_argument("--status", choices=["ok", "error"], default="", help="only calls that ended so")
        parser.add_argument("--since", type=moment, default=None, help="90m, 24h, 7d, or an ISO time")
        parser.add_argument("--corr", type=UUID, default=None, help="only calls with this correlation id")
        parser.add_argument("--json", action="store_true", help="machine-readable, one object per line")
        parser.add_argument("--summary", action="store_true", help="print the summary too")
        parser.add_argument(
            "--every", type=duration, default=2.0, help="seconds between refreshes (watch, follow; default 2)"
        )
        parser.add_argument(
            "--rounds", type=whole, default=0, help="stop after this many refreshes (default 0: never)"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        self.as_json = options["json"]
        rows = statistics.traces(
            **_agent(options["name"] or options["agent"]),
            model=options["model"],
            purpose=options["purpose"],
            status=options["status"],
            since=options["since"],
            correlation_id=options["corr"],
        )
        what = options["what"]
        if what == "summary":
            self._summary(rows)
        elif what == "prompts":
            self._prompts(rows)
        elif what == "watch":
            self._repeat(options, lambda: self._calls(rows[: options["n"]]))
        elif what == "follow":
            self._follow(rows, options)
        else:
            self._calls(rows[: options["n"]])
            if options["summary"] or what == "agent":
                self._summary(rows)

    def _repeat(self, options: dict[str, Any], refresh: Any) -> None:
        rounds = 0
        while True:
            refresh()
            rounds += 1
            if rounds == options["rounds"]:
                return
            time.sleep(options["every"])

    def _follow(self, rows: QuerySet[LlmTrace], options: dict[str, Any]) -> None:
        newest = list(rows[: options["n"]])
        seen = newest[-1].pk - 1 if newest else 0

        def print_new() -> None:
            nonlocal seen
            for row in rows.filter(pk__gt=seen).order_by("pk"):
                seen = row.pk
                self._detail(row)

        self._repeat(options, print_new)

    def _detail(self, row: LlmTrace) -> None:
        if self.as_json:
            self._line(as_dict(row))
            return
        self._table([row], {})
        self.stdout.write(f"  prompt: {row.request.get('user', '')[:2000]}")
        self.stdout.write(f"  answer: {json.dumps(row.response, ensure_ascii=False)[:2000]}")

    def _calls(self, rows: QuerySet[LlmTrace]) -> None:
        """Print calls in order of time with what became of them."""
        shown = list(reversed(rows))
        became = model_calls.became_of([row.pk for row in shown])
        if not self.as_json:
            self._table(shown, became)
            return
        for row in shown:
            self._line(as_dict(row) | {"became": (became.get(row.pk) or Became()).as_json()})

    def _table(self, rows: Iterable[LlmTrace], became: Mapping[int, Became]) -> None:
        table = Table(*COLUMNS, *BECAME, box=None, pad_edge=False)
        for row in rows:
            tokens = "" if row.prompt_tokens is None else f"{row.prompt_tokens}+{row.completion_tokens or 0}"
            cells = (f"{row.ts:%Y-%m-%d %H:%M:%S}", row.purpose, row.provider, row.model, row.status)
            more = (
                str(row.latency_ms),
                tokens,
                f"{row.cost_usd:.5f}",
                row.agent_name,
                row.error_message[:60],
            )
            table.add_row(
                *cells, *more, *_became(became.get(row.pk)), style="red" if row.status == "error" else None
            )
        self._print(table)

    def _summary(self, rows: QuerySet[LlmTrace]) -> None:
        total, days = statistics.summary(rows), statistics.days(rows)
        became, screened = model_calls.by_version(rows), audit()
        if self.as_json:
            screening = screened.as_json() if screened else None
            self._line({**total, "days": days, "became": became, "screening": screening})
            return
        for name in ("calls", "errors", "error_pct", "repaired", "avg_ms", "p50_ms", "p95_ms", "cost_usd"):
            value = total[name]
            self.stdout.write(f"{name:10} {'-' if value is None else f'{value:g}'}")
        for kind in ("agents", "models", "purposes"):
            busiest = ", ".join(f"{row['name']} {row['calls']}" for row in total[kind]) or "-"
            self.stdout.write(f"{kind:10} {busiest}")
        table = Table("day", "calls", "errors", "avg ms", "p95 ms", "usd", box=None, pad_edge=False)
        for day in days:
            figures = (f"{day['avg_ms']:.0f}", f"{day['p95_ms']:.0f}", f"{day['cost_usd']:.5f}")
            table.add_row(str(day["day"]), str(day["calls"]), str(day["errors"]), *figures)
        self._print(table)
        self._became(became)
        if screened:
            self.stdout.write(f"screening  {screened}")

    def _became(self, rows: Iterable[dict[str, Any]]) -> None:
        """Print what became of the calls of each provider, model and version."""
        heads = ("calls", "known", "right", "mean_pct", "positions", "realised_usd", "open_usd", "fees_usd")
        table = Table(*model_calls.GROUP, *heads, box=None, pad_edge=False)
        for row in rows:
            table.add_row(
                *(str("-" if row[name] is None else row[name]) for name in (*model_calls.GROUP, *heads))
            )
        if table.row_count:
            self._print(table)

    def _prompts(self, rows: QuerySet[LlmTrace]) -> None:
        versions = statistics.prompts(rows)
        if self.as_json:
            for version in versions:
                self._line(version)
            return
        heads = (
            "purpose",
            "version",
            "provider",
            "model",
            "calls",
            "failed %",
            "avg ms",
            "p95 ms",
            "usd/1000",
            "last",
        )
        table = Table(*heads, box=None, pad_edge=False)
        for row in versions:
            names = (
                row["purpose"],
                row["version"] or "none",
                row["provider"],
                row["model"],
                str(row["calls"]),
            )
            figures = (f"{row['error_pct']:g}", f"{row['avg_ms']:.0f}", f"{row['p95_ms']:.0f}")
            table.add_row(*names, *figures, f"{row['usd_per_1000']:.4f}", f"{row['last']:%Y-%m-%d %H:%M}")
        self._print(table)

    def _print(self, table: Table) -> None:
        console = Console(file=self.stdout, width=180)  # type: ignore[arg-type]
        console.print(table)

    def _line(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, default=_text, ensure_ascii=False, sort_keys=True))


def _became(found: Became | None) -> tuple[str, str]:
    """Return the cells of what became of a call."""
    if found is None:
        return "", ""
    mean = found.figures()["mean_pct"]
    return "-" if mean is None else f"{mean:+.2f}", f"{found.pnl:+.2f}" if found.positions else ""


def _text(value: Any) -> str:
    """Return a value that JSON has no form for as text; a Decimal without exponent."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
