"""Positions from their first fill to their PnL, and the daily figures."""

from decimal import Decimal

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from maxxit.adminkit import (
    EMPTY,
    LargeTableAdmin,
    ReadOnlyAdmin,
    RecentValues,
    link,
    list_link,
    log_action,
    number_column,
    redirect_from_dialog,
    state_column,
)
from maxxit.core.money import brief, plain, usdc
from positions.exits import sweep
from positions.exits.levels import LEVELS
from positions.models import (
    BestPnl,
    BooksCheck,
    DailySummary,
    DayEnd,
    EquityPoint,
    ExitPause,
    PnlPart,
    PnlSnapshot,
    PnlWatermark,
    Position,
    ProfitMark,
    UnreadAccount,
)
from positions.performance.equity import with_unrealised

EXIT_COLUMNS = (*LEVELS, "trailing_stop")
"""Shown three in a row."""


def coloured(amount: Decimal) -> SafeString | str:
    """USDC with its sign, green or red."""
    colour = "text-green-700 dark:text-green-400" if amount > 0 else "text-red-700 dark:text-red-400"
    return format_html('<span class="{}">{}</span>', colour if amount else "", f"{amount:+,.2f}")


@admin.register(Position)
class PositionAdmin(LargeTableAdmin):
    list_display = (
        "id", "opened_at", "symbol", "side", "status", "amount", "entry", "unrealised", "realised", "left_by",
        "deployment_link", "signal_link", "trace",
    )  # fmt: skip
    list_filter = (
        "state",
        "side",
        ("symbol", RecentValues),
        "exit_reason",
        ("opened_at", admin.DateFieldListFilter),
        "deployment__agent",
    )
    owners = ("deployment__id__exact", "signal__id__exact")
    list_select_related = ("deployment__agent", "signal")
    search_fields = ("=id", "symbol__iexact", "deployment__account__exact", "deployment__agent__name")
    search_help_text = "correlation id, position id, symbol, account or agent"
    actions = ("close",)
    actions_detail = ("close_one",)
    status = state_column()
    amount = number_column("quantity", show=brief)
    entry = number_column("entry_price", "entry (USD)", show=brief)
    readonly_fields = (
        "status", "deployment_link", "signal_link", "entry_link", "exit_link", "trace", "events", "ledger",
        "unrealised",
    )  # fmt: skip
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("symbol", "side", "status"),
                    ("deployment_link", "exit_reason"),
                    ("opened_at", "closed_at"),
                )
            },
        ),
        ("PnL (USDC)", {"fields": (("unrealised", "realised_pnl"), ("fees", "profit_share"))}),
        (
            "Size and price",
            {"fields": (("quantity", "closed_quantity"), ("entry_price", "exit_price"), "taken_value")},
        ),
        (
            "Exits",
            {
                "fields": (
                    *(EXIT_COLUMNS[at : at + 3] for at in range(0, len(EXIT_COLUMNS), 3)),
                    "exits",
                )
            },
        ),
        (
            "Trace",
            {
                "fields": (
                    ("signal_link", "entry_link", "exit_link"),
                    ("ledger", "events", "trace"),
                    "correlation_id",
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Position]:
        """With what is left at the newest quote, in the same statement."""
        rows: QuerySet[Position] = super().get_queryset(request)
        return with_unrealised(rows)

    def has_close_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whether there is something to close, and this person may."""
        there = object_id is None or Position.objects.filter(pk=object_id, state="open").exists()
        return there and self.has_operate_permission(request)

    @action(description="Close now", permissions=["operate"])
    def close(self, request: HttpRequest, rows: QuerySet[Position]) -> None:
        """Write a closing order for each that is open; the gate of its venue must be open."""
        chosen = list(rows.filter(state="open"))
        count = sweep.close([row.pk for row in chosen])
        log_action(request, chosen, "Asked to close")
        if count < len(chosen):
            messages.warning(
                request,
                f"{len(chosen) - count} stay open: the gate of their venue is shut (`manage.py paper status`)",
            )
        messages.success(request, f"{count} of {rows.count()} are closing")

    @action(
        description="Close the position now",
        icon="logout",
        permissions=["close"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Close this position now?",
            "description": "A closing order is written at once if the gate of its venue is open; else the position "
            "stays open.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Close the position",
        },
    )
    def close_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        self.close(request, self.model.objects.filter(pk=object_id))
        return redirect_from_dialog("positions_position_change", object_id)

    @display(description="unrealised (USDC)", ordering="unrealised")
    def unrealised(self, row: Position) -> SafeString | str:
        worth: Decimal | None = getattr(row, "unrealised", None)
        return EMPTY if worth is None else coloured(worth)

    @display(description="realised (USDC)", ordering="realised_pnl")
    def realised(self, row: Position) -> SafeString | str:
        return coloured(row.realised_pnl) if row.state == "closed" else EMPTY

    @display(description="exit reason", ordering="exit_reason", label=True)
    def left_by(self, row: Position) -> str | None:
        return row.exit_reason.replace("_", " ") or None

    @display(description="deployment", ordering="deployment")
    def deployment_link(self, row: Position) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, row.deployment.account)

    @display(description="signal", ordering="signal")
    def signal_link(self, row: Position) -> SafeString | str:
        return link("signals_app.signal", row.signal_id)

    @display(description="entry order")
    def entry_link(self, row: Position) -> SafeString | str:
        return link("trading.order", row.entry_order_id)

    @display(description="exit order")
    def exit_link(self, row: Position) -> SafeString | str:
        return link("trading.order", row.exit_order_id)

    @display(description="ledger")
    def ledger(self, row: Position) -> SafeString | str:
        return list_link("trading.ledgerentry", "ledger", q=row.correlation_id)

    @display(description="events")
    def events(self, row: Position) -> SafeString | str:
        return list_link("events.event", "events", q=f"positions.position/{row.pk}")


@admin.register(PnlPart)
class PnlPartAdmin(LargeTableAdmin):
    """Sums of closed positions before the last roll-up. `manage.py performance` adds those that closed since."""

    list_display = (
        "dimension", "key", "day", "deployment_link", "trades", "won_usdc", "lost_usdc", "venue_fees_usdc",
        "platform_fees_usdc", "shared_usdc", "slippage",
    )  # fmt: skip
    list_filter = ("dimension",)
    list_select_related = ("deployment__agent",)
    ordering = ("-id",)
    won_usdc = number_column("won", "won (USDC)", places=2)
    lost_usdc = number_column("lost", "lost (USDC)", places=2)
    venue_fees_usdc = number_column("venue_fees", "venue fees (USDC)", places=2)
    platform_fees_usdc = number_column("platform_fees", "platform fees (USDC)", places=2)
    shared_usdc = number_column("profit_share", "profit share (USDC)", places=2)
    slippage = number_column("slippage_usd", "slippage (USD)", places=2)

    @display(description="deployment")
    def deployment_link(self, row: PnlPart) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, str(row.deployment)) if row.deployment else "all"


@admin.register(PnlWatermark)
class PnlWatermarkAdmin(ReadOnlyAdmin):
    """Up to when closed positions are in the parts of the PnL."""

    list_display = ("until",)


@admin.register(ProfitMark)
class ProfitMarkAdmin(ReadOnlyAdmin):
    list_display = ("deployment", "to_earn_back")
    list_select_related = ("deployment__agent",)
    search_fields = ("deployment__account", "deployment__agent__name")
    to_earn_back = number_column("carried_loss", "to earn back (USDC)")


@admin.register(ExitPause)
class ExitPauseAdmin(ReadOnlyAdmin):
    """When stops and targets were not acted on. `manage.py exits off|on` pauses and resumes."""

    list_display = ("paused_at", "paused_by", "reason", "resumed_at", "resumed_by")
    list_filter = (("resumed_at", admin.EmptyFieldListFilter),)
    search_fields = ("reason", "paused_by")
    date_hierarchy = "paused_at"


@admin.register(UnreadAccount)
class UnreadAccountAdmin(ReadOnlyAdmin):
    """Accounts whose venue does not say what they hold; after a while the guard stops their entries."""

    list_display = ("account", "venue", "since")
    list_filter = ("venue",)
    search_fields = ("account",)


@admin.register(DayEnd)
class DayEndAdmin(ReadOnlyAdmin):
    """The end of each market's day: the exchange's session, or crypto's UTC day (`manage.py reconcile --eod`)."""

    list_display = ("day", "market", "closed_at", "summarised_at", "finished_at", "ok", "attempts")
    list_filter = ("market", "ok")
    date_hierarchy = "day"


@admin.register(BestPnl)
class BestPnlAdmin(ReadOnlyAdmin):
    """The highest PnL of each account, from which its drawdown is measured."""

    list_display = ("account", "best")
    search_fields = ("account",)
    best = number_column("pnl", "PnL (USD)")


@admin.register(DailySummary)
class DailySummaryAdmin(LargeTableAdmin):
    list_display = (
        "report_date",
        "scope",
        "day_pnl",
        "realised",
        "num_trades",
        "best_symbol",
        "worst_symbol",
        "equity",
    )
    list_filter = (("report_date", admin.DateFieldListFilter),)
    list_select_related = ("deployment",)
    search_fields = ("deployment__account", "deployment__agent__name")

    @display(description="deployment", ordering="deployment")
    def scope(self, row: DailySummary) -> SafeString | str:
        return (
            link("agents.deployment", row.deployment_id, row.deployment.account) if row.deployment else "all"
        )

    @display(description="PnL of the day (USD)", ordering="day_pnl_usd")
    def day_pnl(self, row: DailySummary) -> SafeString | str:
        return coloured(row.day_pnl_usd)

    @display(description="realised (USD)", ordering="realized_pnl_usd")
    def realised(self, row: DailySummary) -> SafeString | str:
        return coloured(row.realized_pnl_usd)

    @display(description="equity (USD)", ordering="equity_usd")
    def equity(self, row: DailySummary) -> str:
        return plain(usdc(row.equity_usd))


@admin.register(EquityPoint)
class EquityPointAdmin(LargeTableAdmin):
    list_display = ("at", "deployment_link", "equity_usd", "deposits_usd")
    list_filter = (("at", admin.DateFieldListFilter),)
    list_select_related = ("deployment",)
    search_fields = ("deployment__account", "deployment__agent__name")

    @display(description="deployment", ordering="deployment")
    def deployment_link(self, row: EquityPoint) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, row.deployment.account)

    @display(description="equity (USD)", ordering="equity")
    def equity_usd(self, row: EquityPoint) -> str:
        return plain(usdc(row.equity))

    @display(description="net deposits (USDC)", ordering="deposits")
    def deposits_usd(self, row: EquityPoint) -> str:
        return plain(usdc(row.deposits))


@admin.register(BooksCheck)
class BooksCheckAdmin(LargeTableAdmin):
    list_display = ("checked_at", "deployments", "wrong")


@admin.register(PnlSnapshot)
class PnlSnapshotAdmin(LargeTableAdmin):
    list_display = ("day", "deployment_link", "equity_usd", "realised", "unrealised")
    list_filter = (("day", admin.DateFieldListFilter), "deployment__agent")
    list_select_related = ("deployment__agent",)
    search_fields = ("deployment__account", "deployment__agent__name")

    @display(description="deployment", ordering="deployment")
    def deployment_link(self, row: PnlSnapshot) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, row.deployment.account)

    @display(description="equity (USD)", ordering="equity")
    def equity_usd(self, row: PnlSnapshot) -> str:
        return plain(usdc(row.equity))

    @display(description="realised (USDC)", ordering="realised_pnl")
    def realised(self, row: PnlSnapshot) -> SafeString | str:
        return coloured(row.realised_pnl)

    @display(description="unrealised (USDC)", ordering="unrealised_pnl")
    def unrealised(self, row: PnlSnapshot) -> SafeString | str:
        return coloured(row.unrealised_pnl)


from positions.twin import admin as twin_admin  # noqa: E402, F401 (Django finds it here)
