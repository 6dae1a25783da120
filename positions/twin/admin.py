"""Live orders beside their paper twins, and the tests for drift."""

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.decorators import display

from maxxit.adminkit import EMPTY, LargeTableAdmin, ReadOnlyAdmin, RecentValues, link, number_column
from positions.twin.models import TwinDrift, TwinFill, TwinMark


@admin.register(TwinFill)
class TwinFillAdmin(LargeTableAdmin):
    """Positive differences: the live account did worse than the paper exchange on the same decision."""

    list_display = (
        "at", "order_link", "deployment_link", "symbol", "purpose", "outcome", "live", "twin", "price_drift",
        "fee_drift", "seconds", "pnl_drift",
    )  # fmt: skip
    list_filter = (
        "outcome",
        "purpose",
        ("venue", RecentValues),
        ("symbol", RecentValues),
        ("at", admin.DateFieldListFilter),
    )
    owners = ("deployment__id__exact", "order__id__exact")
    list_select_related = ("deployment",)
    search_fields = ("symbol__iexact", "deployment__account__exact", "order__correlation_id")
    search_help_text = "correlation id, symbol or account"
    live = number_column("live_price", "live (USD)")
    twin = number_column("twin_price", "twin (USD)")

    @display(description="order", ordering="order")
    def order_link(self, row: TwinFill) -> SafeString | str:
        return link("trading.order", row.order_id)

    @display(description="deployment", ordering="deployment")
    def deployment_link(self, row: TwinFill) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, row.deployment.account)

    @display(description="price (bp)", ordering="price_bps")
    def price_drift(self, row: TwinFill) -> str:
        return _text(row.price_bps)

    @display(description="fee (bp)", ordering="excess_fee_bps")
    def fee_drift(self, row: TwinFill) -> str:
        return _text(row.excess_fee_bps)

    @display(description="latency (s)", ordering="live_seconds")
    def seconds(self, row: TwinFill) -> str:
        return _text(row.live_seconds)

    @display(description="PnL (bp)", ordering="pnl_bps")
    def pnl_drift(self, row: TwinFill) -> str:
        return _text(row.pnl_bps)


@admin.register(TwinDrift)
class TwinDriftAdmin(ReadOnlyAdmin):
    """The sequential test of each measure of a deployment (docs/twin.md)."""

    list_display = (
        "deployment_link",
        "measure",
        "count",
        "scatter",
        "mean",
        "run",
        "alarm",
        "alarm_at",
        "alarms",
    )
    list_filter = ("alarm", "measure")
    list_select_related = ("deployment",)
    ordering = ("-alarm", "-score")
    search_fields = ("deployment__account", "deployment__agent__name")

    @display(description="deployment", ordering="deployment")
    def deployment_link(self, row: TwinDrift) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, row.deployment.account)

    @display(description="noise", ordering="noise")
    def scatter(self, row: TwinDrift) -> str:
        return _text(row.noise)

    @display(description="mean of the run")
    def mean(self, row: TwinDrift) -> str:
        return _text(row.run_mean if row.run else None)


@admin.register(TwinMark)
class TwinMarkAdmin(ReadOnlyAdmin):
    """Up to which order all were compared."""

    list_display = ("order",)


def _text(value: float | None) -> str:
    return EMPTY if value is None else f"{value:+.2f}"
