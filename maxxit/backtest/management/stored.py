"""Subcommands of `manage.py backtest` that read stored runs: list, show, plot, delete; and compare of two of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, by_option, confirm, count, operator, person_named, whole
from maxxit.core.errors import Misconfigured

SUBCOMMANDS = {
    "list": "list the stored runs, the newest first",
    "show": "show a stored run: settings, figures, results by part",
    "plot": "write a stored run (or two) as an SVG or HTML file",
    "delete": "delete stored runs",
    "save-agent": "create an agent's draft with the settings of a stored run",
}
KINDS = ("run", "sweep", "optimise", "walk-forward")
MOST_DIFFERENCES = 10
"""Trades of each kind that `compare` prints."""


def options(parser: CommandParser, action: str) -> None:
    """Declare the options of a subcommand."""
    if action == "list":
        parser.add_argument("--kind", choices=KINDS, default="", help="only these")
        parser.add_argument("--tape", default="", metavar="SHA256", help="only of this tape (its beginning)")
        parser.add_argument("--text", default="", help="only with this in settings or note")
        parser.add_argument("--by", default="", help="only those of this person")
        parser.add_argument("--limit", type=count, default=20, help="runs shown at most (default 20)")
        parser.add_argument("--before", type=count, help="only runs with a smaller number: the next page")
    elif action == "show":
        parser.add_argument("run_id", type=count, metavar="RUN", help="its number")
        parser.add_argument("--trades", action="store_true", help="list the closed positions as well")
    elif action == "plot":
        parser.add_argument(
            "run_ids", type=count, nargs="+", metavar="RUN", help="one run, or two single runs"
        )
        parser.add_argument("--out", type=Path, required=True, help="file to write: NAME.svg or NAME.html")
        parser.add_argument("--across", default="", metavar="KEY", help="key of the columns of a heat map")
        parser.add_argument("--down", default="", metavar="KEY", help="key of its rows")
    elif action == "save-agent":
        parser.add_argument("run_id", type=count, metavar="RUN", help="its number")
        parser.add_argument("--owner", required=True, help="user name of who gets the agent")
        parser.add_argument("--agent", default="", help="the agent of the tape, where it has several")
        parser.add_argument("--name", default="", help="of the new agent")
        parser.add_argument(
            "--number", type=count, default=1, help="setting of a sweep, 1 the best (default 1)"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")
        by_option(parser)
    else:
        parser.add_argument("run_ids", type=count, nargs="*", metavar="RUN", help="their numbers")
        parser.add_argument("--older-than-days", type=whole, help="all runs that were started earlier")
        parser.add_argument("--yes", action="store_true", help="do not ask")


def run(command: OpsCommand, given: Mapping[str, Any]) -> Any:
    """Run a subcommand and return its data."""
    steps = {"list": _list, "show": _show, "plot": _plot, "delete": _delete, "save-agent": _save_agent}
    return steps[given["action"]](command, given)


def _list(command: OpsCommand, given: Mapping[str, Any]) -> dict[str, Any]:
    from maxxit.backtest import runs

    rows = runs.stored_runs(given["kind"], given["tape"], given["text"], given["by"])
    if given["before"]:
        rows = rows.filter(pk__lt=given["before"])
    found = list(rows[: given["limit"] + 1])
    shown_rows, more = found[: given["limit"]], len(found) > given["limit"]
    command.table(
        ["run", "kind", "days", "what", "closed", "net", "TWR", "max drawdown", "Sharpe", "started", "by"],
        [
            (
                one.pk, one.kind, f"{one.tape.start:%Y-%m-%d} to {one.tape.end:%Y-%m-%d}",
                f"{runs.what_of(one)}{f' ({one.note})' if one.note else ''}", one.figures.get("closed"),
                "refused" if one.error else None if one.net is None else f"{one.net:.2f}",
                *(shown(one.figures.get(name)) for name in ("twr", "max_drawdown", "sharpe")),
                one.started_at, one.by,
            )
            for one in shown_rows
        ],
    )  # fmt: skip
    if not found:
        command.say(
            "No stored run: `manage.py backtest run --tape FILE` stores one where a database answers."
        )
    before = shown_rows[-1].pk if more else None
    if before:
        command.say(f"more: --before {before}")
    return {"runs": [runs.run_json(one) for one in shown_rows], "next_before": before}


def _show(command: OpsCommand, given: Mapping[str, Any]) -> dict[str, Any]:
    from maxxit.backtest import runs

    one = runs.run_of(given["run_id"])
    details = runs.details_of(one)
    command.say(f"run {one.pk}: {one.kind} of {one.by}, {one.started_at:%Y-%m-%d %H:%M} UTC")
    command.say(f"tape {one.tape.digest[:12]}, {one.tape.start:%Y-%m-%d} to {one.tape.end:%Y-%m-%d}")
    for name, text in (
        ("settings", runs.what_of(one)), ("seed", one.seed), ("commit", one.commit), ("note", one.note),
        ("refused", one.error),
    ):  # fmt: skip
        if text not in (None, ""):
            command.say(f"{name}: {text}")
    command.say()
    if one.figures:
        figure_table(command, one.figures)
    _show_details(command, details, trades=given["trades"])
    return runs.run_json(one, whole=True)


def _show_details(command: OpsCommand, details: Mapping[str, Any], *, trades: bool) -> None:
    for name, rows in details.get("parts", {}).items():
        command.say()
        command.table(
            [name, "closed", "winners", "net"],
            [(row["name"], row["closed"], row["winners"], row["net"]) for row in rows],
        )
    if trades and "trades" in details:
        command.say()
        trade_table(command, details["trades"])
    if details.get("tried"):
        command.say()
        command.table(
            ["setting", "closed", "net", "TWR", "max drawdown", "Sharpe"],
            [
                (settings(row["changes"]), *(shown(row[name]) for name in ("closed", "net", "twr", "max_drawdown",
                                                                           "sharpe")))
                for row in details["tried"][:MOST_DIFFERENCES]
            ],
        )  # fmt: skip
    if details.get("windows"):
        command.say()
        command.table(
            ["train from", "test from", "test to", "setting", "return before", "return after"],
            [
                (*(row[name][:10] for name in ("train_from", "test_from", "test_to")), settings(row["changes"]),
                 f"{row['train_return']:+.2%}", f"{row['test_return']:+.2%}")
                for row in details["windows"]
            ],
        )  # fmt: skip
    for text in monte_carlo_texts(details.get("monte_carlo", {})):
        command.say(text)


def compare(command: OpsCommand, first_id: int, second_id: int) -> dict[str, Any]:
    """Print how two stored single runs differ, and return it."""
    from maxxit.backtest import runs

    found = runs.compare_runs(runs.run_of(first_id), runs.run_of(second_id))
    heads = [f"run {first_id}", f"run {second_id}"]
    for note in found.notes:
        command.say(note, "WARNING")
    if found.settings:
        command.table(["setting", *heads], [(one.key, one.first, one.second) for one in found.settings])
    else:
        command.say("the settings are equal")
    command.say()
    figure_table(command, found.first.figures, found.second.figures, heads=heads)
    trades = found.trades
    command.say()
    command.say(f"{trades.equal} closed positions are equal, of {trades.replayed} and {trades.backtested}")
    for head, rows in zip(heads, (trades.only_first, trades.only_second), strict=True):
        if rows:
            command.say(f"only in {head}: {len(rows)}")
            trade_table(command, [runs.trade_of(one) for one in rows[:MOST_DIFFERENCES]])
    if trades.difference:
        command.say(f"first difference: {trades.difference}")
    return found.as_json()


def _plot(command: OpsCommand, given: Mapping[str, Any]) -> dict[str, Any]:
    from maxxit.backtest import runs

    out: Path = given["out"]
    if out.suffix not in (".svg", ".html"):
        raise Misconfigured(f"--out {out}: the name ends with .svg or .html")
    if len(given["run_ids"]) > 2:
        raise Misconfigured("plot takes one run, or two of `manage.py backtest run`")
    text = runs.plot_file(
        [runs.run_of(one) for one in given["run_ids"]],
        given["across"],
        given["down"],
        html=out.suffix == ".html",
    )
    try:
        out.write_text(text)
    except OSError as error:
        raise Misconfigured(f"--out {out} cannot be written: {error.strerror or error}") from None
    command.say(f"written: {out}")
    return {"file": str(out), "bytes": len(text.encode())}


def _delete(command: OpsCommand, given: Mapping[str, Any]) -> dict[str, Any]:
    from maxxit.backtest import runs

    days, ids = given["older_than_days"], given["run_ids"]
    if (days is None) == (not ids):
        raise Misconfigured("give numbers of `manage.py backtest list`, or --older-than-days")
    for one in ids:
        runs.run_of(one)
    what = f"runs {', '.join(map(str, ids))}" if ids else f"all runs older than {days} days"
    if not given["yes"] and not confirm(f"Delete {what}?"):
        raise Misconfigured("nothing was deleted: answer yes, or give --yes")
    deleted = runs.delete_runs(ids) if ids else runs.delete_old(days)
    command.say(f"{deleted} deleted")
    return {"deleted": deleted}


def _save_agent(command: OpsCommand, given: Mapping[str, Any]) -> dict[str, Any]:
    from maxxit.backtest import as_agent, runs

    one, owner = runs.run_of(given["run_id"]), person_named(given["owner"])
    draft = as_agent.draft_of(one, given["agent"], given["number"] - 1)
    command.table(["setting", "value"], draft.rows())
    if draft.left_out:
        command.say()
        command.table(["left out", "value", "why"], [(o.key, o.value, o.why) for o in draft.left_out])
    command.say()
    for note in draft.notes:
        command.say(note)
    if not given["yes"] and not confirm(f"Create this agent of {owner} as a draft?"):
        raise Misconfigured("no agent was created: answer yes, or give --yes")
    agent = as_agent.save_as_agent(one, draft, given["name"], owner, by=operator(given["by"]))
    command.say(f"agent {agent.pk} ({agent.name}) is a draft: it trades nothing until it is activated")
    return draft.as_json() | {"agent": agent.pk, "name": agent.name, "state": agent.state}


def figure_table(command: OpsCommand, *figures: Mapping[str, Any], heads: Sequence[str] = ()) -> None:
    """Print figures of one or two runs, one a line."""
    places = {name: place for place, name in enumerate(FIRST)}
    names = [name for name in figures[0] if not isinstance(figures[0][name], Mapping) or name in COUNTED]
    names.sort(key=lambda name: places.get(name, len(places)))
    titles = heads or (["value"] if len(figures) == 1 else ["first", "second"])
    command.table(
        ["figure", *titles],
        [(name.replace("_", " "), *(shown(run.get(name)) for run in figures)) for name in names],
    )


FIRST = (
    "signals",
    "orders",
    "blocked",
    "closed",
    "open",
    "by_reason",
    "pnl",
    "fees",
    "profit_share",
    "net",
    "win_rate",
)
"""The order of the first figures: the database keeps none."""
COUNTED = ("blocked", "by_reason", "best")
"""Figures that are maps, and printed."""


def trade_table(command: OpsCommand, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print closed positions."""
    command.table(
        ["account", "token", "side", "opened", "closed", "reason", "PnL"],
        [
            (row["account"], row["symbol"], row["side"], row["opened_at"][:16], row["closed_at"][:16], row["reason"],
             row["pnl"])
            for row in rows
        ],
    )  # fmt: skip


def monte_carlo_texts(drawn: Mapping[str, Any]) -> list[str]:
    """Return the Monte Carlo tests of a run as sentences, with what they do not show; empty without trades."""
    if not drawn:
        return []
    order, slipped = drawn["order"], drawn["slippage"]
    falls, sums = order["shuffled"], slipped["slipped"]
    return [
        f"Monte Carlo, the same {order['trades']} trades in {order['draws']:,} random orders: max drawdown of the "
        f"realised PnL {_usd(falls['low'])} to {_usd(falls['high'])} USDC (5 to 95 %), in the real order "
        f"{_usd(order['drawdown'])}. {order['does_not_show']}",
        f"Monte Carlo, fills worse by 0 to {slipped['most_bps']} bps: net of the closed positions "
        f"{_usd(sums['low'])} to {_usd(sums['high'])} USDC (5 to 95 %), as recorded {_usd(slipped['net'])}. "
        f"{slipped['does_not_show']}",
    ]


def _usd(units: int) -> str:
    return f"{units / 1_000_000:,.2f}"


def settings(changes: Mapping[str, str]) -> str:
    """Return changed settings in one line."""
    return " ".join(f"{key}={value}" for key, value in changes.items()) or "as recorded"


def shown(value: Any) -> str:
    """Return a figure for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number}" for name, number in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.4f}"
    return "–" if value is None else str(value)
