"""`manage.py authors backtest|update`: backtest each author's calls, and update the impact factors."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, whole
from maxxit.core.errors import Misconfigured
from signals_app.authors import plots
from signals_app.authors import record as records
from signals_app.authors.measure import HEADLINE, Record, measure, pooled
from signals_app.authors.statistics import Estimate
from signals_app.inputs import Inputs, check_folder, read_inputs, wrong_input
from signals_app.plotting import require_matplotlib
from signals_app.policy import policy


class Command(OpsCommand):
    help = "Measure what each author's calls would have returned: returns, intervals, impact factors."
    subcommands = {
        "backtest": "backtest a file of posts on a folder of candles; writes nothing and needs no database",
        "update": "backtest the stored posts, and write today's impact factor of every account",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action != "backtest":
            return
        parser.add_argument(
            "--posts", type=Path, required=True, help="JSON lines: id, username, created_at, text"
        )
        parser.add_argument(
            "--candles", type=Path, required=True, help="folder of candles-<SYMBOL>-USD-5m.csv[.gz]"
        )
        parser.add_argument("--from", dest="start", help="first day or moment of posts, UTC (default: all)")
        parser.add_argument(
            "--to",
            dest="end",
            help="last day (included) or moment of posts and of bars, UTC (default: all)",
        )
        parser.add_argument(
            "--provider",
            default="rules",
            help="reader of the posts: rules (the lexical reader, default) or a provider of config/llm.yaml",
        )
        parser.add_argument(
            "--delay-minutes",
            type=whole,
            help="minutes from the time of writing until the post is stored "
            "(default: authors.ingest_delay_minutes in config/signals.yaml)",
        )
        parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write the plots there (PNG)")

    def run(self, **options: Any) -> Any:
        if options["action"] == "update":
            changed = records.update(policy().authors)
            self.say(f"{changed} impact factors changed")
            return {"changed": changed}
        return self._backtest(options)

    def _backtest(self, options: dict[str, Any]) -> dict[str, Any]:
        with wrong_input():
            start, end = self._span(options)
            check_folder(options["plot"])
            if options["plot"]:
                require_matplotlib()
            inputs = read_inputs(options["posts"], options["candles"], start, end)
        self._report_inputs(inputs)
        settings = policy().authors
        given = options["delay_minutes"]
        delay = timedelta(minutes=settings.ingest_delay_minutes if given is None else given)
        posts = records.first_versions(inputs.posts)
        series = {symbol: records.series(bars) for symbol, bars in inputs.bars.items()}
        if end:
            series = {token: bars.known_by(int(end.timestamp())) for token, bars in series.items()}
        calls = records.read_calls(posts, options["provider"], delay, series)
        by = records.measure_settings(settings)
        results = measure(calls, series, by)
        all_authors = pooled(calls, series, by)
        if options["plot"]:
            for path in plots.draw(results, all_authors, options["plot"]):
                self.say(f"wrote {path}")
        self._show(results)
        accounts = sorted({post.username for post in posts})
        silent = sorted(set(accounts) - {result.author for result in results})
        self.say(
            f"{len(posts):,} posts of {len(accounts)} accounts, {len(calls)} calls; none by: {', '.join(silent)}"
        )
        return {
            "posts": len(posts),
            "accounts": len(accounts),
            "calls": len(calls),
            "inputs": inputs.as_json(),
            "without_calls": silent,
            "authors": [records.as_json(result) for result in results],
            "all": {
                plots.short_text(horizon): records.figures_json(figures)
                for horizon, figures in all_authors.items()
            },
        }

    def _span(self, options: dict[str, Any]) -> tuple[datetime | None, datetime | None]:
        if not options["posts"].is_file() or not options["candles"].is_dir():
            raise Misconfigured(
                f"--posts {options['posts']} must be a file, --candles {options['candles']} a folder"
            )
        try:
            start = clock.day(options["start"]) if options["start"] else None
            end = clock.day(options["end"], after=True) if options["end"] else None
        except ValueError as error:
            raise Misconfigured(f"--from and --to take a date or an ISO time: {error}") from error
        if start and end and start >= end:
            raise Misconfigured(f"--from {options['start']} is not before --to {options['end']}")
        return start, end

    def _report_inputs(self, inputs: Inputs) -> None:
        for reason, times in inputs.refused.most_common():
            self.say(f"refused: {times:,} × {reason}", "WARNING")
        for place in inputs.refused_at:
            self.say(f"  {place}")
        for warning in inputs.warnings:
            self.say(f"warning: {warning}", "WARNING")

    def _show(self, results: list[Record]) -> None:
        heads = (
            "author",
            "calls",
            "hit",
            "95 %",
            "mean %",
            "95 %",
            "excess %",
            "95 %",
            "q",
            "impact",
            "of",
            "pumps",
        )
        ordered = sorted(results, key=lambda result: (-result.calls, result.author))
        self.table(heads, map(_row, ordered))
        self.say(
            f"hit, mean and excess: held for at most {plots.short_text(HEADLINE)}, after costs; "
            "excess: minus the benchmark's return"
        )


def _row(result: Record) -> list[str]:
    figures = result.horizons.get(HEADLINE)
    q_value = "–" if result.q_value is None else f"{result.q_value:.2f}"
    tail = [
        q_value,
        f"{result.impact_factor:.3f}",
        str(result.impact_calls),
        f"{result.pumps}{' !' if result.pump_flag else ''}",
    ]
    if figures is None:
        return [result.author, str(result.calls), *["–"] * 6, *tail]
    hit = figures.hit_rate
    shown = [f"{hit.mean:.0%}", _span_of(hit, 100, 0)]
    for estimate in (figures.mean, figures.excess):
        shown += [f"{estimate.mean:+.2f}", _span_of(estimate, 1, 2)]
    return [result.author, str(result.calls), *shown, *tail]


def _span_of(estimate: Estimate, scale: int, digits: int) -> str:
    if estimate.low is None or estimate.high is None:
        return "too few days"
    return f"{estimate.low * scale:.{digits}f} … {estimate.high * scale:.{digits}f}"
