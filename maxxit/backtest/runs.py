"""Stored runs: list, read, compare and delete them. It loads no numpy: the pages read what the commands computed."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from maxxit.backtest import plots
from maxxit.backtest.equal import Compared, compare
from maxxit.backtest.models import BacktestRun, Kind, StoredTape
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.replay.tape import TapedPosition
from maxxit.reports.backtest_policy import policy

AS_RECORDED = "as recorded"
"""Instead of a value that a run did not change."""
FIGURES = (
    ("TWR", "twr", "rate"), ("Net (USDC)", "net", "usd"), ("Max drawdown", "max_drawdown", "rate"),
    ("Sharpe ratio", "sharpe", "ratio"), ("Win rate", "win_rate", "rate"), ("Closed positions", "closed", "count"),
    ("Fees (USDC)", "fees", "usd"), ("Profit share (USDC)", "profit_share", "usd"),
    ("Equity at the end (USDC)", "equity", "usd"), ("Days", "days", "count"),
)  # fmt: skip
"""(title, name, how it is written) of the figures that pages and files show, in their order."""
LISTED = (
    "id", "kind", "tape_id", "changes", "varied", "options", "seed", "commit", "release", "figures", "net", "note",
    "by", "started_at", "finished_at", "error", "tape__digest", "tape__start", "tape__end",
)  # fmt: skip
"""Columns of a list: all but the large ones."""


def packed(values: Any) -> bytes:
    """Return JSON as compressed bytes."""
    return zlib.compress(json.dumps(values, sort_keys=True, separators=(",", ":"), default=str).encode())


def unpacked(content: bytes) -> Any:
    """Return what `packed` was given; an empty object for no bytes."""
    return json.loads(zlib.decompress(content)) if content else {}


def stored_runs(kind: str = "", tape: str = "", text: str = "", by: str = "") -> QuerySet[BacktestRun]:
    """Return stored runs without their details, the newest first.

    Args:
        tape: the beginning of its digest.
        text: in a changed key or in the note.
    """
    rows = BacktestRun.objects.select_related("tape").only(*LISTED)
    if kind:
        rows = rows.filter(kind=kind)
    if tape:
        rows = rows.filter(tape__digest__startswith=tape.lower())
    if by:
        rows = rows.filter(by__icontains=by)
    if text:
        of_text = rows.filter(note__icontains=text) | rows.filter(changes__icontains=text)
        rows = of_text | rows.filter(varied__icontains=text)
    return rows


def run_of(run_id: int) -> BacktestRun:
    """Return a stored run. Raises Rejected (`no_run`)."""
    run = BacktestRun.objects.select_related("tape").defer("tape__bars").filter(pk=run_id).first()
    if run is None:
        raise Rejected(
            f"no stored run {run_id}: `manage.py backtest list` shows those there are", code="no_run"
        )
    return run


def details_of(run: BacktestRun) -> dict[str, Any]:
    """Return equity, trades, settings or windows of a run."""
    details: dict[str, Any] = unpacked(bytes(run.details))
    return details


def bars_of(tape_id: int) -> dict[str, Any]:
    """Return the candles of a stored tape: {seconds, bars: symbol -> [[begin, open, high, low, close], ...]}."""
    content = StoredTape.objects.values_list("bars", flat=True).get(pk=tape_id)
    found: dict[str, Any] = unpacked(bytes(content))
    return found


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings in one line."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def what_of(run: BacktestRun) -> str:
    """Return in one line what a run tried."""
    parts = [settings_text(run.changes), settings_text(run.varied)]
    return " · ".join(part for part in parts if part) or AS_RECORDED


def written(value: Any, how: str) -> str:
    """Return a stored figure for people. `how`: rate, usd, ratio or count."""
    if value is None or value == "":
        return "–"
    if how == "rate":
        return f"{float(value):.2%}".replace("%", " %")
    if how == "usd":
        return f"{Decimal(value):,.2f}"
    return f"{float(value):.2f}" if how == "ratio" else f"{value:,}"


def run_json(run: BacktestRun, *, whole: bool = False) -> dict[str, Any]:
    """Return a run for programs; `whole` with its details."""
    return {
        "id": run.pk,
        "kind": run.kind,
        "tape": run.tape.digest,
        "from": iso_utc(run.tape.start),
        "to": iso_utc(run.tape.end),
        "changes": run.changes,
        "varied": run.varied,
        "options": run.options,
        "seed": run.seed,
        "commit": run.commit,
        "release": run.release,
        "figures": run.figures,
        "note": run.note,
        "by": run.by,
        "started_at": iso_utc(run.started_at),
        "finished_at": iso_utc(run.finished_at),
        "error": run.error,
        **({"inputs": run.tape.inputs, "details": details_of(run)} if whole else {}),
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting in which two runs differ."""

    key: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two stored runs side by side."""

    first: BacktestRun
    second: BacktestRun
    settings: list[Difference]
    trades: Compared
    notes: list[str]
    """What makes the comparison less than whole, each a sentence."""
    equity: tuple[list[list[int]], list[list[int]]]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        trades = self.trades
        return {
            "first": run_json(self.first),
            "second": run_json(self.second),
            "settings": [{"key": one.key, "first": one.first, "second": one.second} for one in self.settings],
            "equal": trades.equal,
            "only_first": [vars(one) for one in trades.only_first],
            "only_second": [vars(one) for one in trades.only_second],
            "differing": [[vars(one), vars(other)] for one, other in trades.differing],
            "first_difference": trades.difference,
            "notes": self.notes,
        }


def compare_runs(first: BacktestRun, second: BacktestRun) -> Comparison:
    """Compare two stored single runs. Raises Rejected (`not_comparable`) for another kind, or a run without result."""
    for run in (first, second):
        if run.kind != Kind.RUN or run.error:
            what = f"has no result ({run.error})" if run.error else f"is a {run.kind}, which has no trades"
            raise Rejected(
                f"run {run.pk} {what}: compare two runs of `manage.py backtest run`", code="not_comparable"
            )
    details = details_of(first), details_of(second)
    notes = []
    if first.tape_id != second.tape_id:
        notes.append("The runs are of different tapes: differences may come from their prices and posts.")
    for run, of in zip((first, second), details, strict=True):
        if left_out := of["trades_left_out"]:
            notes.append(f"Run {run.pk} has {left_out} more trades than are stored: those are not compared.")
    if first.release != second.release:
        notes.append("The runs are of different releases of code and configuration.")
    one, other = ([_position(row) for row in of["trades"]] for of in details)
    trades = compare(one, other, (f"run {first.pk}", f"run {second.pk}"))
    return Comparison(
        first,
        second,
        _differences(first, second),
        trades,
        notes,
        (details[0]["equity"], details[1]["equity"]),
    )


def _differences(first: BacktestRun, second: BacktestRun) -> list[Difference]:
    keys = sorted({*first.changes, *second.changes})
    pairs = [(key, first.changes.get(key, AS_RECORDED), second.changes.get(key, AS_RECORDED)) for key in keys]
    return [Difference(key, one, other) for key, one, other in pairs if one != other]


def _position(row: Mapping[str, Any]) -> TapedPosition:
    opened, closed = (
        int(datetime.fromisoformat(row[name]).timestamp()) for name in ("opened_at", "closed_at")
    )
    return TapedPosition(
        row["account"], row["symbol"], row["side"], opened, closed, row["reason"], row["pnl"], row["quantity"],
        row["entry_price"], row["exit_price"], row["profit_share"],
    )  # fmt: skip


def net_of(trade: Mapping[str, Any]) -> Decimal:
    """Return what a stored trade earned after all costs, USDC."""
    return Decimal(trade["pnl"]) - Decimal(trade["profit_share"])


LOCK = 20_261_131
"""Advisory lock of what stores and deletes runs: a tape is not deleted while a run of it is stored."""


def take_turns() -> None:
    """Wait until no other transaction stores or deletes runs; inside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def delete_runs(run_ids: Iterable[int]) -> int:
    """Delete runs, and the tapes that no run is left of; return how many runs."""
    with transaction.atomic():
        take_turns()
        _, by_model = BacktestRun.objects.filter(pk__in=list(run_ids)).delete()
        StoredTape.objects.filter(runs=None).delete()
    return int(by_model.get(BacktestRun._meta.label, 0))


def delete_old(days: int | None = None) -> int:
    """Delete runs that are older than `days`, or than is configured, and those beyond the number kept."""
    rules = policy()
    before = clock.now() - timedelta(days=rules.keep_days if days is None else days)
    old = set(BacktestRun.objects.filter(started_at__lt=before).values_list("pk", flat=True))
    if days is None:
        old |= set(BacktestRun.objects.order_by("-pk").values_list("pk", flat=True)[rules.keep_runs :])
    return delete_runs(old) if old else 0


def trade_of(position: TapedPosition) -> dict[str, Any]:
    """Return a compared position as a stored trade."""
    times = {
        name: datetime.fromtimestamp(getattr(position, name), UTC).isoformat()
        for name in ("opened_at", "closed_at")
    }
    return vars(position) | times


def keys_of_map(run: BacktestRun, across: str = "", down: str = "") -> tuple[str, str]:
    """Return the keys of columns and rows of a sweep's map; rows empty where one key was varied.

    Raises Rejected (`no_key`) for a key that was not varied.
    """
    varied = list(run.varied)
    for key in filter(None, (across, down)):
        if key not in varied:
            raise Rejected(f"{key} was not varied in run {run.pk}: {', '.join(varied)}", code="no_key")
    across = across or next((key for key in varied if key != down), "")
    down = down or next((key for key in varied if key != across), "")
    return across, "" if down == across else down


def plots_of(run: BacktestRun, across: str = "", down: str = "") -> list[str]:
    """Return the plots of a run as SVG; empty where there is nothing to draw."""
    details = details_of(run)
    if run.kind == Kind.RUN:
        found = [plots.equity([(f"run {run.pk}", details.get("equity", []))])]
    elif run.kind == Kind.WALK_FORWARD:
        found = [plots.windows(details.get("windows", []))]
    else:
        luck = run.figures.get("best_of_luck")
        found = [plots.sweep(details.get("tried", []), *keys_of_map(run, across, down), luck)]
    return [svg for svg in found if svg]


def plot_file(some: Sequence[BacktestRun], across: str, down: str, *, html: bool) -> str:
    """Return the contents of a file with the plots of one run, or of two single runs.

    Raises Rejected (`nothing_to_plot`, `not_comparable`, `no_key`).
    """
    if len(some) == 2:
        found = compare_runs(*some)
        svgs = [plots.equity([(f"run {one.pk}", rows) for one, rows in zip(some, found.equity, strict=True)])]
    else:
        svgs = plots_of(some[0], across, down)
    if not any(svgs):
        raise Rejected(f"run {some[0].pk} has nothing to plot", code="nothing_to_plot")
    if not html:
        return plots.standalone(svgs[0])
    rows = [
        [title, *(written(run.figures.get(name), how) for run in some)]
        for title, name, how in FIGURES
        if name in some[0].figures
    ]
    heads = ["figure", *(f"run {run.pk}: {what_of(run)}" for run in some)]
    title = f"Backtest {' and '.join(str(run.pk) for run in some)}"
    return plots.page(title, [*svgs, plots.table(heads, rows)])
