"""Pages of stored backtests for staff: list, one run with its plots and trades, two runs side by side, save as agent.

They show what the commands computed, and load none of the code that runs a backtest.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods

from maxxit.backtest import as_agent, plots, runs
from maxxit.backtest.models import BacktestRun, Kind
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.reports.trades.reasons import explain
from maxxit.web.once import first_time
from maxxit.web.operators import SENT_BEFORE, operator_page, require
from maxxit.web.sentences import sentence

PAGE = "operator-backtests"
ADD_AGENT = "agents.add_agent"
LISTED, TRADES, SETTINGS = 25, 25, 25
"""Rows of a page: of runs, trades and settings of a sweep."""
DIFFERENCES = 25
"""Trades of each kind on the page that compares."""
STATISTICS = (
    ("Profit factor", "profit_factor"), ("Expectancy (USDC)", "expectancy"), ("Average win (USDC)", "average_win"),
    ("Average loss (USDC)", "average_loss"), ("Payoff", "payoff"),
)  # fmt: skip


class Filters(forms.Form):
    """What the list is narrowed to."""

    kind = forms.ChoiceField(
        choices=[("", "all kinds"), *((kind.value, kind.value) for kind in Kind)], required=False
    )
    text = forms.CharField(max_length=100, required=False)
    by = forms.CharField(max_length=100, required=False)
    tape = forms.RegexField(r"[0-9a-fA-F]{1,64}", required=False)
    before = forms.IntegerField(min_value=1, max_value=2**62, required=False)


@require_http_methods(["GET", "HEAD"])
@operator_page(PAGE)
def backtests_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """List the stored runs in pages, the newest first."""
    form = Filters(request.GET)
    valid = form.is_valid()
    given = {name: form.cleaned_data.get(name) or "" for name in form.fields}
    before = given.pop("before")
    rows = runs.stored_runs(**given)
    if before:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: LISTED + 1])
    query = {name: value for name, value in given.items() if value}
    older = urlencode(query | {"before": str(found[LISTED - 1].pk)}) if len(found) > LISTED else ""
    context |= {
        "form": form,
        "given": given,
        "rows": [_row(one) for one in found[:LISTED]],
        "older": older,
        "newest": urlencode(query) if before else None,
        "filtered": bool(query or before),
    }
    return render(request, "web/operator_backtests.html", context, status=200 if valid else 422)


def _row(run: BacktestRun) -> dict[str, Any]:
    """Return a run as the list shows it."""
    figures = {title: runs.written(run.figures.get(name), how) for title, name, how in runs.FIGURES[:6]}
    return {
        "run": run,
        "what": runs.what_of(run),
        "figures": figures,
        "single": run.kind == Kind.RUN and not run.error,
    }


def _run(run_id: int) -> BacktestRun:
    try:
        return runs.run_of(run_id)
    except Rejected as error:
        raise Http404(str(error)) from error


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page(PAGE)
def backtest_page(request: HttpRequest, context: dict[str, Any], run_id: int) -> HttpResponse:
    """Show one run; a POST shows an agent of its settings (`do=check`), or creates it as a draft (`do=save`)."""
    run, status = _run(run_id), 200
    agent = {"agents": as_agent.agents_of(run), "may": request.user.has_perm(ADD_AGENT)}
    if request.method == "POST":
        require(request, ADD_AGENT)
        saved, status = _save_agent(request, run)
        if isinstance(saved, HttpResponse):
            return saved
        agent |= saved
    context |= {
        "title": f"Backtest {run.pk}",
        "run": run,
        "what": runs.what_of(run),
        "agent": agent,
        "figures": [
            (title, runs.written(run.figures[name], how))
            for title, name, how in runs.FIGURES
            if name in run.figures
        ],
        "more": _more(run.figures),
        **_OF_KIND[Kind(run.kind)](request, run, runs.details_of(run)),
    }
    return render(request, "web/operator_backtest.html", context, status=status)


def _save_agent(request: HttpRequest, run: BacktestRun) -> tuple[dict[str, Any] | HttpResponse, int]:
    """Take a step of "save as agent"; return what the page shows, or where to go, and the status."""
    person: Any = request.user
    name, of, number = (request.POST.get(key, "") for key in ("name", "agent", "number"))
    shown: dict[str, Any] = {"name": name, "of": of, "number": number}
    place = _whole(number) - 1
    try:
        draft = as_agent.draft_of(run, of, place)
        shown |= {"draft": draft, "name": name or as_agent.name_of(run, draft), "number": place + 1}
        if request.POST.get("do") != "save":
            return shown, 200
        if not first_time(request):
            messages.info(request, SENT_BEFORE)
            return redirect("operator-backtest", run.pk), 302
        agent = as_agent.save_as_agent(run, draft, shown["name"], person, by=person.get_username())
    except InvalidInput as error:
        return shown | {"problems": [sentence(text) for text in error.problems.values()]}, 422
    except Rejected as error:
        return shown | {"problems": [sentence(error)]}, 422
    messages.success(
        request,
        f"{agent.name} is a draft: it trades nothing until it is activated. Let it follow accounts first.",
    )
    return redirect("admin:agents_agent_change", agent.pk), 302


def _more(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the figures that are nested in those of a single run, as texts."""
    statistics, fall, risk = (figures.get(name) or {} for name in ("statistics", "drawdown", "risk"))
    rows = [(title, _plain(statistics[name])) for title, name in STATISTICS if name in statistics]
    rows += [
        (f"{name.capitalize()} ratio, 95 %", _interval(risk[name]))
        for name in ("sharpe", "sortino", "calmar")
        if name in risk
    ]
    if fall.get("peak_at"):
        rows.append(("Max drawdown from, to", f"{fall['peak_at'][:10]} to {fall['trough_at'][:10]}"))
    if (held := figures.get("median_held_seconds")) is not None:
        rows.append(("Median holding time (hours)", f"{float(held) / 3600:.1f}"))
    if (share := figures.get("time_in_market")) is not None:
        rows.append(("Time in market", runs.written(share, "rate")))
    if "apr" in figures:
        rows.append(("APR", _interval(figures["apr"], "rate")))
    if figures.get("turnover"):
        rows.append(("Turnover", figures["turnover"]))
    if (low := figures.get("win_rate_low")) is not None:
        rows.append(("Win rate, 95 %", f"{low:.1%} to {figures['win_rate_high']:.1%}"))
    return rows


def _plain(value: Any) -> str:
    return "–" if value is None else f"{Decimal(value):,.2f}"


def _interval(value: Any, how: str = "ratio") -> str:
    """Return a ratio with its interval, or which history it needs: `12 of 30 days`."""
    if not isinstance(value, Mapping):
        return runs.written(value, how)
    if "need" in value:
        return f"{value['have']} of {value['need']} {value['unit']}"
    ends = (runs.written(value[name], how) for name in ("low", "high"))
    return f"{runs.written(value['value'], how)} ({' to '.join(ends)})"


def _whole(text: str) -> int:
    """Return a whole number from 1; 1 for another text."""
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _of_run(request: HttpRequest, run: BacktestRun, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a single run: equity, parts, and the trades of a token on its candles."""
    trades = details.get("trades", [])
    tokens = sorted({trade["symbol"] for trade in trades})
    token = request.GET.get("token", "")
    token = token if token in tokens else ""
    of_token = [trade for trade in trades if not token or trade["symbol"] == token]
    last = max(-(-len(of_token) // TRADES), 1)
    page = min(_whole(request.GET.get("page", "")), last)
    parts = {
        name: [row | {"net": Decimal(row["net"])} for row in rows]
        for name, rows in details.get("parts", {}).items()
    }
    drawn = details.get("monte_carlo", {})
    svg = plots.equity([(f"run {run.pk}", details.get("equity", []))])
    return {
        "plots": [("Equity at the end of each UTC day, USDC", _safe(svg))] if svg else [],
        "blocked": [
            (reason, count, explain(reason)[0]) for reason, count in run.figures.get("blocked", {}).items()
        ],
        "parts": parts,
        "trades": [_trade(trade) for trade in of_token[(page - 1) * TRADES : page * TRADES]],
        "trades_total": len(of_token),
        "trades_left_out": details.get("trades_left_out", 0),
        "tokens": tokens,
        "token": token or (tokens[0] if tokens else ""),
        "only_token": token,
        "page_number": page,
        "pages": last,
        "chart": _chart(run, trades, token or tokens[0]) if tokens else None,
        "monte_carlo": _monte_carlo(drawn),
    }


def _safe(svg: str) -> SafeString:
    """Mark a plot of `maxxit.backtest.plots`, which escapes every text, as HTML."""
    return SafeString(svg)


def _trade(trade: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: datetime.fromisoformat(trade[name]) for name in ("opened_at", "closed_at")}
    amounts = {name: Decimal(trade[name]) for name in ("entry_price", "exit_price", "fees", "quantity")}
    return {**trade, **times, **amounts, "net": runs.net_of(trade)}


def _chart(run: BacktestRun, trades: Sequence[Mapping[str, Any]], token: str) -> dict[str, Any]:
    """Return what the script draws: candles of the tape's quotes, entries and exits of one token."""
    stored = runs.bars_of(run.tape_id)
    marks = []
    for trade in trades:
        if trade["symbol"] == token:
            for what, name in (("ENTRY", "opened_at"), ("EXIT", "closed_at")):
                at = int(datetime.fromisoformat(trade[name]).timestamp())
                marks.append([at, what, trade["side"], trade["reason"], f"{runs.net_of(trade):+.2f}"])
    return {
        "token": token,
        "seconds": stored["seconds"],
        "bars": stored["bars"].get(token, []),
        "marks": sorted(marks),
    }


def _monte_carlo(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return both tests with amounts in USDC."""
    if not drawn:
        return {}
    order, slipped = drawn["order"], drawn["slippage"]
    return {
        "order": order | {name: _usdc(order[name]) for name in ("drawdown",)},
        "falls": {name: _usdc(value) for name, value in order["shuffled"].items()},
        "slippage": slipped | {"net": _usdc(slipped["net"])},
        "nets": {name: _usdc(value) for name, value in slipped["slipped"].items()},
    }


def _usdc(units: int) -> Decimal:
    return Decimal(units) / plots.UNITS


def _of_sweep(request: HttpRequest, run: BacktestRun, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a sweep: the map of two keys with its luck, and the best settings."""
    across, down = request.GET.get("across", ""), request.GET.get("down", "")
    keys = list(run.varied)
    try:
        across, down = runs.keys_of_map(run, across, down)
    except Rejected:
        across, down = runs.keys_of_map(run)
    tried = details.get("tried", [])
    luck = run.figures.get("best_of_luck")
    svg = plots.sweep(tried, across, down, luck)
    label = plots.measure_of(tried).label if tried else ""
    names = ("closed", "net", "twr", "max_drawdown", "sharpe")
    how = ("count", "usd", "rate", "rate", "ratio")
    return {
        "plots": [(f"{label[:1].upper()}{label[1:]} of each setting", _safe(svg))] if svg else [],
        "keys": keys,
        "across": across,
        "down": down,
        "luck": luck,
        "verdict": run.figures.get("verdict", ""),
        "tried": [
            (number, runs.settings_text(one["changes"]) or runs.AS_RECORDED,
             [runs.written(one[name], form) for name, form in zip(names, how, strict=True)])
            for number, one in enumerate(tried[:SETTINGS], start=1)
        ],
        "tried_total": run.figures.get("tried", 0),
        "refused": details.get("refused", {}).items(),
    }  # fmt: skip


def _of_walk_forward(request: HttpRequest, run: BacktestRun, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a walk-forward: each window with the return before and after."""
    windows = details.get("windows", [])
    svg = plots.windows(windows)
    return {
        "plots": [("Return on the training days and on the test days of each window, %", _safe(svg))] if svg else [],
        "windows": [
            (*(one[name][:10] for name in ("train_from", "test_from", "test_to")),
             runs.settings_text(one["changes"]) or runs.AS_RECORDED,
             *(runs.written(one[name], "rate") for name in ("train_return", "test_return")))
            for one in windows
        ],
        "tried_total": run.figures.get("tried", 0),
    }  # fmt: skip


_OF_KIND = {
    Kind.RUN: _of_run,
    Kind.SWEEP: _of_sweep,
    Kind.OPTIMISE: _of_sweep,
    Kind.WALK_FORWARD: _of_walk_forward,
}


@require_http_methods(["GET", "HEAD"])
@operator_page(PAGE)
def compare_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show two single runs side by side: settings, figures, equity, and the trades that differ."""
    given = request.GET.getlist("run")
    numbers = [int(one) for one in given if one.isdecimal() and len(one) < 19]
    problem, found = "", None
    if len(numbers) == 2:
        try:
            found = runs.compare_runs(*(runs.run_of(one) for one in numbers))
        except Rejected as error:
            problem = sentence(error)
    elif given:
        problem = "Choose two runs to compare."
    context |= {"title": "Compare two backtests", "problem": problem, "given": numbers, "found": found}
    if found:
        context |= _compared(found)
    return render(request, "web/operator_backtests_compare.html", context, status=422 if problem else 200)


def _compared(found: runs.Comparison) -> dict[str, Any]:
    pair = (found.first, found.second)
    trades = found.trades
    curves = [(f"run {run.pk}", rows) for run, rows in zip(pair, found.equity, strict=True)]
    return {
        "plot": _safe(plots.equity(curves)),
        "figures": [
            (title, *(runs.written(run.figures.get(name), how) for run in pair))
            for title, name, how in runs.FIGURES
        ],
        "whats": [runs.what_of(run) for run in pair],
        "alone": [
            (run, len(rows), [_trade(runs.trade_of(one) | {"fees": "0"}) for one in rows[:DIFFERENCES]])
            for run, rows in zip(pair, (trades.only_first, trades.only_second), strict=True)
        ],
        "differing": [
            [_trade(runs.trade_of(one) | {"fees": "0"}) for one in both]
            for both in trades.differing[:DIFFERENCES]
        ],
        "differing_total": len(trades.differing),
    }
