"""Orders, fills and the ledger. Gates, switches and the paper exchange stand in `operations.admin`."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from maxxit.adminkit import (
    EMPTY,
    LargeTableAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    RecentValues,
    link,
    list_link,
    log_action,
    number_column,
    state_column,
    trace_link,
)
from maxxit.core.money import brief
from trading import quarantine
from trading.billing import admin as billing_admin  # noqa: F401  (autodiscovery knows this file only)
from trading.chain import admin as chain_admin  # noqa: F401  (as above)
from trading.credentials import admin as credentials_admin  # noqa: F401  (as above)
from trading.deployments import admin as deployment_admin  # noqa: F401  (as above)
from trading.models import Fill, LedgerBalance, LedgerEntry, Order
from trading.operations import admin as operations_admin  # noqa: F401  (as above)
from trading.perps import admin as perps_admin  # noqa: F401  (as above)
from trading.reconciliation import admin as reconciliation_admin  # noqa: F401  (as above)


class FillInline(ReadOnlyInline):
    model = Fill
    fields = ("at", "quantity", "price", "cash", "fee", "venue_fill_id")


class LedgerInline(ReadOnlyInline):
    model = LedgerEntry
    fields = ("at", "journal", "account", "amount", "asset", "kind")
    ordering = ("id",)


class SetAside(admin.SimpleListFilter):
    title = "trouble"
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("quarantined", "quarantined"), ("failed", "failed at least once")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        tries = {"quarantined": quarantine.TRIES, "failed": 1}.get(self.value() or "", 0)
        return queryset.filter(attempts__gte=tries)


@admin.register(Order)
class OrderAdmin(LargeTableAdmin):
    list_display = (
        "id", "created_at", "symbol", "side", "what_for", "status", "reason", "size", "usd", "deployment_link",
        "signal_link", "trace",
    )  # fmt: skip
    list_filter = (
        "state", "purpose", "side", ("symbol", RecentValues), ("venue", RecentValues), SetAside,
        ("reason", RecentValues), ("exit_reason", RecentValues), ("created_at", admin.DateFieldListFilter),
        "deployment__agent",
    )  # fmt: skip
    owners = ("deployment__id__exact", "signal__id__exact")
    list_select_related = ("deployment__agent", "signal")
    search_fields = (
        "=id",
        "client_order_id__exact",
        "idempotency_key__exact",
        "account__exact",
        "reason__exact",
        "venue_ref",
    )
    search_help_text = "correlation id, order id, client order id, venue reference, account or reason"
    actions = ("redrive",)
    inlines = (FillInline, LedgerInline)
    status = state_column()
    usd = number_column("notional_usd", "notional (USD)", places=2)
    readonly_fields = (
        "status",
        "deployment_link",
        "signal_link",
        "position_link",
        "trace",
        "events",
        "stopped_by",
    )
    fieldsets = (
        (
            None,
            {"fields": (("symbol", "side", "purpose"), ("status", "deployment_link"), ("venue", "account"))},
        ),
        ("Trace", {"fields": (("signal_link", "position_link"), ("trace", "events"), "correlation_id")}),
        ("Verdict", {"fields": ("stopped_by", ("reason", "exit_reason"))}),
        (
            "Size and price",
            {
                "fields": (
                    ("quantity", "filled_quantity", "booked_quantity"),
                    ("reference_price", "average_price"),
                    ("notional_usd", "leverage"),
                )
            },
        ),
        (
            "At the venue",
            {
                "fields": (
                    ("client_order_id", "venue_ref"),
                    "prepared",
                    ("reserved_at", "deadline"),
                    "idempotency_key",
                )
            },
        ),
        ("Trouble", {"fields": ("attempts", "last_error", ("created_at", "updated_at"))}),
    )

    @action(description="Redrive (quarantined orders: three more tries)", permissions=["operate"])
    def redrive(self, request: HttpRequest, rows: QuerySet[Order]) -> None:
        chosen = list(rows.filter(attempts__gte=quarantine.TRIES))
        count = quarantine.redrive([row.pk for row in chosen])
        log_action(request, chosen, "Redriven")
        messages.success(request, f"{count} of {rows.count()} redriven, the quarantined ones")

    @display(description="purpose", ordering="purpose")
    def what_for(self, row: Order) -> str:
        return row.purpose

    @display(description="filled of quantity")
    def size(self, row: Order) -> str:
        """Tokens; one number when it is filled altogether."""
        whole, part = EMPTY if row.quantity is None else brief(row.quantity), brief(row.filled_quantity)
        return whole if whole == part else f"{part} / {whole}"

    @display(description="deployment", ordering="deployment")
    def deployment_link(self, row: Order) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, row.account)

    @display(description="signal", ordering="signal")
    def signal_link(self, row: Order) -> SafeString | str:
        return link("signals_app.signal", row.signal_id)

    @display(description="position")
    def position_link(self, row: Order) -> SafeString | str:
        return list_link(
            "positions.position",
            "position",
            signal__id__exact=row.signal_id,
            deployment__id__exact=row.deployment_id,
        )

    @display(description="events")
    def events(self, row: Order) -> SafeString | str:
        return list_link("events.event", "events", q=f"trading.order/{row.pk}")

    @display(description="stopped by")
    def stopped_by(self, row: Order) -> str:
        """The check that decided, what it measured and its limit."""
        told = row.verdict
        if not told:
            return EMPTY
        return (
            f"{told.get('reason')}: measured {told.get('measured') or '–'}, limit {told.get('limit') or '–'}"
        )


@admin.register(Fill)
class FillAdmin(LargeTableAdmin):
    list_display = ("at", "order_link", "symbol", "amount", "usd", "cash_usdc", "fee_usdc", "trace")
    list_filter = (
        ("order__symbol", RecentValues), ("order__venue", RecentValues), "order__purpose",
        ("at", admin.DateFieldListFilter),
    )  # fmt: skip
    list_select_related = ("order",)
    search_fields = ("=order__id", "venue_fill_id", "order__client_order_id__exact")
    readonly_fields = ("order_link", "trace")
    amount = number_column("quantity", show=brief)
    usd = number_column("price", "price (USD)", show=brief)
    cash_usdc = number_column("cash", "cash (USDC)")
    fee_usdc = number_column("fee", "fee (USDC)")
    fields = ("order_link", "at", "quantity", "price", "cash", "fee", "venue_fill_id", "trace")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Fill], search_term: str
    ) -> tuple[QuerySet[Fill], bool]:
        if len(search_term.strip()) == 36 and search_term.count("-") == 4:
            return queryset.filter(order__correlation_id=search_term.strip()), False
        return super().get_search_results(request, queryset, search_term)

    @display(description="order", ordering="order")
    def order_link(self, row: Fill) -> SafeString | str:
        return link("trading.order", row.order_id, row.order)

    @display(description="symbol", ordering="order__symbol")
    def symbol(self, row: Fill) -> str:
        return row.order.symbol

    @display(description="trace")
    def trace(self, row: Fill) -> SafeString | str:
        return trace_link(row.order.correlation_id)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(LargeTableAdmin):
    list_display = ("at", "journal", "account", "signed", "asset", "kind", "order_link", "trace")
    list_filter = ("kind", ("asset", RecentValues), ("at", admin.DateFieldListFilter))
    list_select_related = ("order",)
    search_fields = ("journal__exact", "account__exact", "=order__id")
    search_help_text = "correlation id, journal (fill:17), account (deployment:7) or order id"
    readonly_fields = ("order_link", "trace")
    signed = number_column("amount")
    fields = ("at", "journal", "account", "amount", "asset", "kind", "order_link", "trace", "correlation_id")

    @display(description="order", ordering="order")
    def order_link(self, row: LedgerEntry) -> SafeString | str:
        return link("trading.order", row.order_id)


@admin.register(LedgerBalance)
class LedgerBalanceAdmin(ReadOnlyAdmin):
    list_display = ("account", "asset", "sum", "lines")
    list_filter = ("asset",)
    search_fields = ("account",)
    sum = number_column("amount")

    @display(description="lines")
    def lines(self, row: LedgerBalance) -> SafeString | str:
        return list_link("trading.ledgerentry", "lines", q=row.account, asset=row.asset)
