"""`manage.py pnl [today|week|watch|save|eod|explain|rebuild]`: the PnL, its daily summaries, and why it is zero."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, clock_text, confirm, count
from maxxit.core.errors import Rejected
from maxxit.core.money import plain, usdc
from maxxit.ops.scopes import scope_given, scope_options
from maxxit.ops.watch import every_option, watch
from maxxit.reports import pnl, pnl_explain
from positions.performance import end_of_day, figures, roll_up, summary

UNITS = {"usdc": "USDC", "usd": "USD", "pct": "%", "": ""}


class Command(OpsCommand):
    help = (
        "Show today's PnL, the saved days, or why it is zero; save a day, or end it. Amounts are USD, days are UTC "
        "days. Without a subcommand: the figures of all time, as name and value."
    )
    epilog = """examples:
  manage.py pnl today --deployment 7          results since midnight UTC
  manage.py pnl week --json                   the last seven saved days
  manage.py pnl watch --every 10              today's report, refreshed every 10 s until Ctrl-C
  manage.py pnl save                          save today's figures so far; the nightly job saves each ended day
  manage.py pnl eod                           settle, book, reconcile, compute and save yesterday; safe to repeat
  manage.py pnl explain 7                     why is it 0? each cause with what to do, and the books"""
    subcommands = {
        "today": "results since midnight UTC: PnL, trades, win rate, drawdown, best and worst token",
        "week": "the saved summaries of the last seven days (`pnl save`, or the nightly job)",
        "watch": "today's report, refreshed every --every seconds until Ctrl-C",
        "save": "save the summaries of a UTC day (today: its figures so far), replacing saved ones",
        "eod": "end a UTC day: settle orders, book fills, reconcile with the venues, compute, save; exit code 1 when a "
        "step fails",
        "explain": "each cause of a PnL of zero with what to do, and whether positions and ledger agree",
        "rebuild": "sum all closed positions up again (`pnl_parts`), where doctor says that the stored sums differ",
    }
    bare = "the figures of all time"

    def options(self, parser: CommandParser, action: str) -> None:
        if not action:
            span = parser.add_mutually_exclusive_group()
            span.add_argument("--today", action="store_true", help="the figures since midnight UTC")
            span.add_argument("--explain", action="store_true", help="why it is zero, as `pnl explain`")
            span.add_argument(
                "--week", action="store_true", help="the figures of the last seven days, today included"
            )
        if action in ("today", "week", "watch"):
            scope_options(parser)
        if action == "explain":
            parser.add_argument(
                "deployment", type=count, nargs="?", help="number; `manage.py portfolio` lists them"
            )
        if action == "week":
            parser.add_argument("--days", type=count, default=pnl.WEEK, help="how many days (default 7)")
        if action == "watch":
            every_option(parser)
        if action in ("save", "eod"):
            default = "today" if action == "save" else "yesterday"
            parser.add_argument("--day", metavar="DATE", help=f"UTC date as 2026-01-31 (default: {default})")

        if action == "rebuild":
            parser.add_argument("--yes", action="store_true", help="do not ask")

    def run(self, **options: Any) -> Any:
        if not options.get("action"):
            return self._explain(options) if options["explain"] else self._figures(options)
        actions: dict[str, Callable[[dict[str, Any]], Any]] = {
            "today": self._today,
            "week": self._week,
            "watch": self._watch,
            "save": self._save,
            "eod": self._eod,
            "explain": self._explain,
            "rebuild": self._rebuild,
        }
        return actions[options["action"]](options)

    def _figures(self, options: dict[str, Any]) -> Any:
        """Print the figures of all time, of today or of a week, one a line."""
        midnight = figures.midnight(clock.now())
        since = midnight if options["today"] else midnight - timedelta(days=6) if options["week"] else None
        results = figures.figures(since).as_json() | figures.volume(since)
        results["equity_usd"] = plain(usdc(figures.equity()))
        self.say(f"since {clock_text(since)} UTC" if since else "all time")
        for name, value in results.items():
            if name != "since":
                label, _, unit = (
                    name.rpartition("_") if name.endswith(("_usdc", "_usd", "_pct")) else (name, "", "")
                )
                self.say(
                    f"  {label.replace('_', ' '):<14} {'–' if value in ('', None) else value} {UNITS[unit]}".rstrip()
                )
        return results

    def _rebuild(self, options: dict[str, Any]) -> Any:
        """Delete the stored sums and add every closed position again; figures stay right meanwhile, only slower."""
        if not options["yes"] and not confirm("Delete the stored sums and add all closed positions again?"):
            raise Rejected("nothing was deleted: confirm with yes, or give --yes", code="not_confirmed")
        roll_up.start_over()
        added = roll_up.roll_up()
        self.say(f"{added:,} closed positions were added; newer ones follow with the next roll-up")
        return {"added": added}

    def _today(self, options: dict[str, Any]) -> Any:
        report = pnl.today(scope_given(options))
        self._print(report)
        return report.as_json()

    def _print(self, report: pnl.Today) -> None:
        """Print the report in sections, as the runbook shows it."""
        rate = f"{report.win_rate * 100:.1f} %" if report.win_rate is not None else "–"
        sections: dict[str, list[tuple[str, str, str]]] = {
            "PnL (USD)": [
                ("realised", _signed(report.realised), "positions closed today, after fees and profit share"),
                (
                    "unrealised",
                    _signed(report.unrealised),
                    "open positions at the newest quotes, before fees",
                ),
                ("total", _signed(report.total), ""),
                (
                    "equity",
                    f"{report.equity:,.2f}",
                    f"change today {_signed(report.day_pnl)} without deposits",
                ),
                ("deposits", _signed(report.deposits), "deposited less withdrawn today"),
            ],
            "Trades": [
                ("closed", str(report.closed), "positions"),
                ("fills", str(report.buys + report.sells), f"{report.buys} buys, {report.sells} sells"),
                ("volume", f"{report.volume:,.2f}", "USD"),
                (
                    "fees",
                    f"{report.fees:,.2f}",
                    f"and profit share {report.profit_share:,.2f}, of the closed positions",
                ),
            ],
            "Performance": [
                ("win rate", rate, f"{report.winners} won, {report.closed - report.winners} lost"),
                ("average win", _signed(report.average_win), ""),
                ("average loss", _signed(report.average_loss), ""),
                ("max drawdown", f"{report.drawdown:,.2f}", "of today's realised PnL"),
            ],
            "By token": [("best", report.best or "–", ""), ("worst", report.worst or "–", "")],
        }
        self.say(f"PnL of {report.since:%Y-%m-%d} to {report.at:%H:%M:%S} UTC, {report.label}")
        for title, lines in sections.items():
            self.say()
            self.say(title)
            for name, value, note in lines:
                self.say(f"  {name:<14} {value:>14}  {note}".rstrip())
        if not report.closed and not usdc(report.total):
            self.say()
            self.say("nothing earned or lost yet: `manage.py pnl explain` says why", "WARNING")

    def _week(self, options: dict[str, Any]) -> Any:
        scope = scope_given(options)
        days = pnl.week(scope, options["days"])
        self.say(f"{scope.label}, USD")
        self.table(
            ("day (UTC)", "realised", "unrealised", "total", "PnL of the day", "equity", "closed", "win rate",
             "best", "worst"),
            [
                (
                    day["report_date"],
                    *(
                        _signed(Decimal(day[name]))
                        for name in ("realized_pnl_usd", "unrealized_pnl_usd", "total_pnl_usd", "day_pnl_usd")
                    ),
                    f"{Decimal(day['equity_usd']):,.2f}",
                    day["num_trades"],
                    f"{Decimal(day['win_rate']) * 100:.1f} %" if day["win_rate"] is not None else None,
                    day["best_symbol"],
                    day["worst_symbol"],
                )
                for day in days
            ],
        )  # fmt: skip
        if not days:
            self.say(
                "no day is saved yet: the nightly job saves each ended day, `manage.py pnl save` saves today so far"
            )
        return {"about": scope.label, "days": days}

    def _watch(self, options: dict[str, Any]) -> Any:
        scope = scope_given(options)

        def show() -> dict[str, Any]:
            report = pnl.today(scope)
            self._print(report)
            return report.as_json()

        return watch(self, options | {"watch": True}, show)

    def _save(self, options: dict[str, Any]) -> Any:
        day = _day(options["day"]) or clock.now().date()
        if day > clock.now().date():
            raise Rejected(f"{day} has not begun in UTC: give an earlier day", code="no_date")
        rows = summary.save_summary(day)
        if not rows:
            self.say("nothing saved: no deployment had any equity on that day", "WARNING")
        else:
            total = rows[0]
            self.say(
                f"saved {len(rows) - 1} deployments and their total for {day}: PnL of the day "
                f"{_signed(total.day_pnl_usd)} USD, {total.num_trades} positions closed",
                "SUCCESS",
            )
        return {"day": day.isoformat(), "summaries": [summary.as_json(row) for row in rows]}

    def _eod(self, options: dict[str, Any]) -> Any:
        day = _day(options["day"]) or clock.now().date() - timedelta(days=1)
        steps = []
        self.say(f"end of {day} (UTC)")
        for number, step in enumerate(end_of_day.end_of_day(day), 1):
            self.say(
                f"{number}/5 {'ok ' if step.ok else 'BAD'}  {step.name}: {step.detail}",
                "SUCCESS" if step.ok else "ERROR",
            )
            if step.fix:
                self.say(f"         do: {step.fix}", "WARNING")
            steps.append(step)
        self.exit_code = 0 if all(step.ok for step in steps) else 1
        return {"day": day.isoformat(), "ok": not self.exit_code, "steps": [step.as_json() for step in steps]}

    def _explain(self, options: dict[str, Any]) -> Any:
        explanation = pnl_explain.explain(scope_given(options))
        self.say(
            f"PnL since {clock_text(explanation.since)} UTC, {explanation.label}: realised "
            f"{_signed(explanation.realised)}, unrealised {_signed(explanation.unrealised)} USD"
        )
        for finding in explanation.findings:
            colour = {pnl_explain.ACT: "ERROR", pnl_explain.WAIT: "WARNING"}.get(finding.urgency, "")
            self.say(f"- {finding.text}", colour)
            self.say(f"    do: {finding.fix}")
        if not explanation.findings:
            self.say("nothing stands in the way: `manage.py pnl today` shows the results", "SUCCESS")
        for books in explanation.books:
            self._print_books(books.as_json())
        return explanation.as_json()

    def _print_books(self, books: dict[str, Any]) -> None:
        """Print both sides of the identity, and whether they agree."""
        name = "all deployments" if books["deployment"] is None else f"deployment {books['deployment']}"
        self.say()
        self.say(f"books of {name}, all time (USD)")
        costs = ("venue_fees", "platform_fees", "profit_share", "gas")
        for part in ("realised", "unrealised", *costs):
            amount = Decimal(books[f"{part}_usd"])
            note = "" if part not in costs else "cost"
            self.say(
                f"  {part.replace('_', ' '):<14} {_exact(-amount if note else amount):>22}  {note}".rstrip()
            )
        self.say(f"  {'PnL':<14} {_exact(Decimal(books['pnl_usd'])):>22}  by positions")
        ledger = Decimal(books["equity_usd"]) - Decimal(books["deposits_usd"])
        self.say(f"  {'PnL':<14} {_exact(ledger):>22}  by the ledger: equity less deposits")
        agree = not Decimal(books["difference_usd"]) and not Decimal(books["fee_difference_usd"])
        self.say(
            "  positions and ledger agree to the USDC base unit"
            if agree
            else f"  they differ by {books['difference_usd']}, the fees by {books['fee_difference_usd']}",
            "SUCCESS" if agree else "ERROR",
        )


def _signed(amount: Decimal | None) -> str:
    return "–" if amount is None else f"{amount:+,.2f}"


def _exact(amount: Decimal) -> str:
    return f"{amount:+,.6f}"


def _day(text: str | None) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Rejected(f"{text!r} is not a date: give it as 2026-01-31", code="no_date") from None
