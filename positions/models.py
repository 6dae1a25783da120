"""Models of positions: position, exit pause, parts of the PnL, profit marks, PnL snapshots."""

from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.db.models import Case, F, Value, When
from django.db.models.functions import Coalesce, Greatest, Least, NullIf

from maxxit.core.money import COLUMN, ZERO
from maxxit.core.terms import Side, choices
from positions import states

if TYPE_CHECKING:
    from trading.perps.margin import MarginFacts

EXIT_REASONS = [
    (reason, reason)
    for reason in (
        "take_profit",
        "stop_loss",
        "trailing_stop",
        "time_exit",
        "kill_switch",
        "manual",
        "reconciled",
        "liquidated",
    )
]


class Position(models.Model):
    """What one deployment holds of one token because of one signal."""

    MOVES = states.POSITION
    margin: "MarginFacts | None" = None
    """Set by `positions.margins.attach`; None at a venue without margin."""

    deployment = models.ForeignKey("agents.Deployment", models.PROTECT, related_name="positions")
    signal = models.ForeignKey("signals_app.Signal", models.PROTECT, null=True, related_name="positions")
    entry_order = models.OneToOneField("trading.Order", models.PROTECT, related_name="+")
    exit_order = models.OneToOneField("trading.Order", models.PROTECT, null=True, related_name="+")
    symbol = models.CharField(max_length=20)
    side = models.CharField(max_length=5, choices=choices(Side))
    state = models.CharField(
        max_length=8,
        default=states.PositionState.OPEN,
        db_default=states.PositionState.OPEN,
        choices=[(s, s) for s in states.PositionState],
        editable=False,
    )
    quantity = models.DecimalField(**COLUMN, help_text="quantity opened, in tokens")
    closed_quantity = models.DecimalField(**COLUMN, default=0, db_default=0)
    taken_value = models.DecimalField(
        **COLUMN,
        default=0,
        db_default=0,
        help_text="USD value of tokens that the owner of the Safe withdrew, at the quotes of that time",
    )
    entry_price = models.DecimalField(**COLUMN, help_text="average of the entry fills, USD")
    exit_price = models.DecimalField(
        **COLUMN, null=True, help_text="average of exit fills and withdrawals, USD"
    )
    stop_loss = models.DecimalField(**COLUMN, help_text="price in USD")
    take_profit = models.DecimalField(**COLUMN, help_text="price in USD")
    trailing_activation = models.DecimalField(
        **COLUMN, null=True, help_text="price at which the trailing stop is set, USD"
    )
    trailing_pct = models.DecimalField(
        max_digits=9, decimal_places=6, null=True, help_text="percent from the best price"
    )
    trailing_stop = models.DecimalField(**COLUMN, null=True, help_text="price in USD; unset until activated")
    exit_below = models.GeneratedField(
        expression=Case(
            When(side=Side.LONG.value, then=Greatest("stop_loss", "trailing_stop")), default=F("take_profit")
        ),
        output_field=models.DecimalField(**COLUMN),
        db_persist=True,
        help_text="at this price or below one of its exits is reached",
    )
    exit_above = models.GeneratedField(
        expression=Case(
            When(side=Side.LONG.value, then=F("take_profit")), default=Least("stop_loss", "trailing_stop")
        ),
        output_field=models.DecimalField(**COLUMN),
        db_persist=True,
        help_text="at this price or above one of its exits is reached",
    )
    trailing_next = models.GeneratedField(
        expression=Coalesce(
            F("trailing_stop")
            / NullIf(
                1 - Case(When(side=Side.LONG.value, then=1), default=-1) * F("trailing_pct") / 100, Value(0)
            ),
            F("trailing_activation"),
        ),
        output_field=models.DecimalField(**COLUMN, null=True),
        db_persist=True,
        help_text="the stop moves when the price gets past this: where it wakes, then the best price so far",
    )
    time_exit_at = models.DateTimeField(null=True)
    exits = models.PositiveIntegerField(default=0, db_default=0, help_text="closing orders so far")
    exit_refusals = models.PositiveIntegerField(
        default=0, db_default=0, help_text="refused closing orders in a row"
    )
    exit_retry_at = models.DateTimeField(
        null=True, help_text="after a refused closing order: when the sweep tries again"
    )
    exit_reason = models.CharField(max_length=20, blank=True, default="", db_default="", choices=EXIT_REASONS)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    fees = models.DecimalField(
        **COLUMN, default=0, db_default=0, help_text="venue fees and platform fee, USDC"
    )
    realised_pnl = models.DecimalField(
        **COLUMN, default=0, db_default=0, help_text="USDC after fees, before the profit share"
    )
    profit_share = models.DecimalField(**COLUMN, default=0, db_default=0, help_text="USDC")
    correlation_id = models.UUIDField(db_index=True)

    class Meta:
        db_table = "positions"
        ordering = ("-id",)
        indexes = (
            models.Index(
                fields=["symbol", "exit_below"], name="positions_below", condition=models.Q(state="open")
            ),
            models.Index(
                fields=["symbol", "exit_above"], name="positions_above", condition=models.Q(state="open")
            ),
            models.Index(
                fields=["symbol", "side", "trailing_next"],
                name="positions_ratchet",
                condition=models.Q(state="open", trailing_pct__isnull=False),
            ),
            models.Index(fields=["time_exit_at"], name="positions_held", condition=~models.Q(state="closed")),
            models.Index(
                fields=["exit_order"], name="positions_closing", condition=models.Q(state="closing")
            ),
            models.Index(
                fields=["deployment", "closed_at"],
                include=["symbol", "realised_pnl", "fees", "profit_share"],
                name="positions_results",
                condition=models.Q(state="closed"),
            ),
            models.Index(fields=["symbol", "opened_at"], name="positions_opened"),
            models.Index(fields=["closed_at"], name="positions_closed", condition=models.Q(state="closed")),
            models.Index(
                fields=["symbol", "closed_at"],
                name="positions_symbol_closed",
                condition=models.Q(state="closed"),
            ),
        )

    def __str__(self) -> str:
        return f"{self.side} {self.symbol} #{self.pk} ({self.state})"

    @property
    def net(self) -> Decimal:
        """Return the result of a closed position in USDC, after fees and profit share: the sum of these is the PnL."""
        return self.realised_pnl - self.profit_share

    @property
    def net_with_funding(self) -> Decimal:
        """Return `net` and the funding of a closed position in USDC; needs `positions.margins.attach`."""
        return self.net + (self.margin.funding if self.margin else ZERO)


class ExitPause(models.Model):
    """An operator paused the exits; while a row is not resumed, stops, targets and time exits close nothing.

    Flatten and manual closing go on. At most one row is open.
    """

    paused_at = models.DateTimeField()
    paused_by = models.CharField(max_length=80)
    reason = models.CharField(max_length=300)
    resumed_at = models.DateTimeField(null=True, blank=True)
    resumed_by = models.CharField(max_length=80, blank=True)

    class Meta:
        db_table = "exit_pauses"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                models.Value(1), name="one_exit_pause", condition=models.Q(resumed_at=None)
            )
        ]

    def __str__(self) -> str:
        return f"exits paused {self.paused_at:%Y-%m-%d %H:%M} UTC by {self.paused_by}"


class UnreadAccount(models.Model):
    """An account whose balances cannot be read at its venue; deleted once they can. Only the guard writes it."""

    venue = models.CharField(max_length=20)
    account = models.CharField(max_length=80)
    since = models.DateTimeField()

    class Meta:
        db_table = "unread_accounts"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["venue", "account"], name="unread_account_once")
        ]

    def __str__(self) -> str:
        return f"{self.account} at {self.venue} since {self.since:%Y-%m-%d %H:%M} UTC"


class PnlPart(models.Model):
    """Cumulated results of the closed positions before the watermark, by deployment, dimension and key.

    Rows without a deployment are the sums of the whole platform, of all time and of each day. Only
    `performance.roll_up` writes it; `performance.parts` reads it, and adds the positions that closed since. Realised
    PnL (after fees, before the profit share) = won + lost + profit share.
    """

    deployment = models.ForeignKey(
        "agents.Deployment",
        models.PROTECT,
        null=True,
        db_index=False,
        related_name="pnl_parts",
        help_text="empty: the whole platform",
    )
    day = models.DateField(
        null=True, help_text="UTC day of the close, of sums of the whole platform; empty: all time"
    )
    dimension = models.CharField(
        max_length=12, help_text="total, day, token, side, exit_reason, hour, author, posts"
    )
    key = models.CharField(
        max_length=40,
        help_text="of the dimension: 2026-03-02, ETH …; hour: UTC hour of the entry; author: id of the account",
    )
    closed = models.DecimalField(
        **COLUMN, help_text="closed positions; one on posts of several authors counts for each by their share"
    )
    winners = models.DecimalField(
        **COLUMN, help_text="of them those with a profit after all costs, the profit share included"
    )
    trades = models.BigIntegerField(help_text="closed positions, each as one, whatever the author's share")
    won = models.DecimalField(**COLUMN, help_text="PnL of the winners after all costs, USDC")
    lost = models.DecimalField(
        **COLUMN, help_text="PnL of the others after all costs, USDC, zero or negative"
    )
    venue_fees = models.DecimalField(**COLUMN, help_text="USDC")
    platform_fees = models.DecimalField(**COLUMN, help_text="USDC")
    profit_share = models.DecimalField(**COLUMN, help_text="USDC")
    gas_usd = models.DecimalField(**COLUMN, help_text="USD, paid by the platform; in no PnL")
    slippage_usd = models.DecimalField(
        **COLUMN,
        help_text="USD lost (positive) between the quotes of the decisions and the fills; in the PnL",
    )
    turnover_usd = models.DecimalField(**COLUMN, help_text="USD traded, entries and exits")
    held_seconds = models.DecimalField(**COLUMN, help_text="seconds from entry to close")

    class Meta:
        db_table = "pnl_parts"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["dimension", "deployment", "day", "key"],
                name="one_part_of_the_pnl",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.dimension} {self.key} of {self.deployment or 'all'}, {self.day or 'all time'}"


class PnlWatermark(models.Model):
    """The single row that says up to when closed positions are in `pnl_parts`. Its lock orders the roll-ups."""

    until = models.DateTimeField(help_text="positions that closed before this are in the parts")

    class Meta:
        db_table = "pnl_watermarks"

    def __str__(self) -> str:
        return f"rolled up until {self.until:%Y-%m-%d %H:%M} UTC"


class ProfitMark(models.Model):
    """The loss carry-forward of a deployment: winners earn it back before a profit share is due."""

    deployment = models.OneToOneField("agents.Deployment", models.PROTECT, related_name="profit_mark")
    carried_loss = models.DecimalField(**COLUMN, default=0, help_text="USDC, zero or positive")

    class Meta:
        db_table = "profit_marks"

    def __str__(self) -> str:
        return f"{self.deployment}: {self.carried_loss} to earn back"


class PnlSnapshot(models.Model):
    """A deployment's figures at the end of one UTC day."""

    deployment = models.ForeignKey("agents.Deployment", models.PROTECT, related_name="pnl_snapshots")
    day = models.DateField()
    equity = models.DecimalField(**COLUMN)
    deposits = models.DecimalField(**COLUMN, default=0, help_text="net deposits so far, USDC")
    realised_pnl = models.DecimalField(**COLUMN)
    unrealised_pnl = models.DecimalField(**COLUMN)

    class Meta:
        db_table = "pnl_snapshots"
        ordering = ("-day",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "day"], name="one_snapshot_a_day")
        ]
        indexes = (models.Index(fields=["day"], name="pnl_snapshots_day"),)

    def __str__(self) -> str:
        return f"{self.deployment} {self.day}"


class EquityPoint(models.Model):
    """A deployment's equity at a moment, open positions at the newest quotes included. Only `points` writes it."""

    deployment = models.ForeignKey(
        "agents.Deployment", models.PROTECT, related_name="equity_points", db_index=False
    )
    at = models.DateTimeField()
    equity = models.DecimalField(
        **COLUMN, help_text="USD, without tokens that the owner moved in, less what is owed to the platform"
    )
    deposits = models.DecimalField(**COLUMN, help_text="USDC: deposits less withdrawals up to this moment")

    class Meta:
        db_table = "equity_points"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "at"], name="one_equity_point_a_moment")
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id} {self.at:%Y-%m-%d %H:%M} UTC: {self.equity}"


class DailySummary(models.Model):
    """The PnL of one UTC day, of a deployment or of all together (checklist C58). Only `summary` writes it."""

    report_date = models.DateField()
    deployment = models.ForeignKey(
        "agents.Deployment",
        models.PROTECT,
        null=True,
        related_name="daily_summaries",
        help_text="empty: all deployments together",
    )
    realized_pnl_usd = models.DecimalField(
        **COLUMN, help_text="positions closed on the day, after fees and profit share"
    )
    unrealized_pnl_usd = models.DecimalField(**COLUMN, help_text="open positions when saved, before fees")
    total_pnl_usd = models.DecimalField(**COLUMN, help_text="realized plus unrealized")
    win_rate = models.DecimalField(
        max_digits=5, decimal_places=4, null=True, help_text="fraction of the positions closed on the day"
    )
    num_trades = models.IntegerField(help_text="positions closed on the day")
    best_symbol = models.CharField(max_length=20, blank=True)
    worst_symbol = models.CharField(max_length=20, blank=True)
    equity_usd = models.DecimalField(**COLUMN, help_text="at the end of the day")
    deposits_usd = models.DecimalField(
        **COLUMN, help_text="deposits less withdrawals up to the end of the day"
    )
    day_pnl_usd = models.DecimalField(
        **COLUMN, help_text="change of equity over the day less the day's deposits"
    )
    saved_at = models.DateTimeField()

    class Meta:
        db_table = "daily_pnl_summary"
        ordering = ("-report_date", "deployment_id")
        verbose_name_plural = "daily summaries"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["report_date", "deployment"], name="one_summary_a_day", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.report_date} {self.deployment_id or 'all'}: {self.day_pnl_usd}"


class BooksCheck(models.Model):
    """The newest comparison of positions and ledger: one row. Only `identity.check_books` writes it."""

    checked_at = models.DateTimeField()
    deployments = models.IntegerField(help_text="number of deployments compared")
    wrong = models.JSONField(default=list, help_text="ids of those whose figures differ")

    class Meta:
        db_table = "books_checks"

    def __str__(self) -> str:
        return f"{self.checked_at:%Y-%m-%d %H:%M} UTC: {len(self.wrong)} of {self.deployments} differ"


class BestPnl(models.Model):
    """The highest PnL of an account at any midnight (UTC). Only `equity.take_snapshots` writes it."""

    account = models.CharField(max_length=80, primary_key=True)
    pnl = models.DecimalField(**COLUMN, help_text="USD: equity less net deposits, of all its deployments")

    class Meta:
        db_table = "best_pnls"

    def __str__(self) -> str:
        return f"{self.account}: {self.pnl}"


class DayEnd(models.Model):
    """The end of one day of one market: the exchange's session, or crypto's UTC day. Only `day_ends` writes it."""

    class Market(models.TextChoices):
        """Whose day it is."""

        STOCKS = "stocks", "stocks: the session of the New York exchange"
        CRYPTO = "crypto", "crypto: the UTC day"

    market = models.CharField(max_length=6, choices=Market)
    day = models.DateField(help_text="in New York for stocks, in UTC for crypto")
    closed_at = models.DateTimeField(help_text="when the market's day was over")
    summarised_at = models.DateTimeField(null=True, help_text="when the summary of the session was recorded")
    steps = models.JSONField(default=dict, help_text="step -> whether it succeeded, and what it did")
    attempts = models.PositiveSmallIntegerField(default=0)
    finished_at = models.DateTimeField(null=True, help_text="when the event end_of_day was recorded")
    ok = models.BooleanField(null=True, help_text="whether every step succeeded")

    class Meta:
        db_table = "day_ends"
        ordering = ("-closed_at", "market")
        constraints: ClassVar = [models.UniqueConstraint(fields=["market", "day"], name="a_day_ends_once")]

    def __str__(self) -> str:
        return f"{self.market} {self.day}"


from positions.twin.models import TwinDrift, TwinFill, TwinMark  # noqa: E402, F401 (Django finds them here)
