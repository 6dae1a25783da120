"""The gate, people's words, the kill switch; and the paper exchange's own book. Nothing here is edited by hand."""

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.decorators import display

from maxxit.core import clock
from maxxit.events.admin_links import Book, BookInline, list_link, number_column
from trading.models import Approval, Gate, KillSwitch, PaperBalance, PaperFill, PaperOrder


@admin.register(Gate)
class GateAdmin(Book):
    """Whether orders may leave. It is changed by `manage.py paper`, `approve` and `revoke`, not here."""

    list_display = ("venue", "standing", "changed_at", "changed_by", "reason", "events")

    @display(description="gate", label={"open": "success", "dry run": "warning"})
    def standing(self, row: Gate) -> str:
        """Open, or deciding everything and sending nothing."""
        return "dry run" if row.dry_run else "open"

    @display(description="events")
    def events(self, row: Gate) -> SafeString | str:
        """Who changed it when."""
        return list_link("events.event", "events", q=f"trading.gate/{row.pk}")


@admin.register(Approval)
class ApprovalAdmin(Book):
    """People's words."""

    list_display = ("scope", "standing", "approved_by", "approved_at", "expires_at", "revoked_at", "reason")
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("scope", "approved_by", "reason")
    date_hierarchy = "approved_at"

    @display(description="state", label={"standing": "success", "expired": "warning", "revoked": "danger"})
    def standing(self, row: Approval) -> str:
        """Whether it counts now."""
        return "revoked" if row.revoked_at else "standing" if row.expires_at > clock.now() else "expired"


@admin.register(KillSwitch)
class KillSwitchAdmin(Book):
    """Pulls of the switch. The Stop button in the header pulls and releases it."""

    list_display = (
        "pulled_at",
        "level",
        "standing",
        "cause",
        "reason",
        "pulled_by",
        "released_at",
        "released_by",
    )
    list_filter = ("level", "cause", ("released_at", admin.EmptyFieldListFilter))
    search_fields = ("reason", "pulled_by", "release_reason")
    date_hierarchy = "pulled_at"

    @display(description="state", label={"latched": "danger", "released": "success"})
    def standing(self, row: KillSwitch) -> str:
        """Latched until a person releases it."""
        return "released" if row.released_at else "latched"


class PaperFillInline(BookInline):
    """Executions of a paper order."""

    model = PaperFill
    fields = ("at", "quantity", "price", "cash", "fee")


@admin.register(PaperOrder)
class PaperOrderAdmin(Book):
    """The paper exchange's book."""

    list_display = (
        "client_order_id",
        "accepted_at",
        "account",
        "symbol",
        "side",
        "amount",
        "done",
        "canceled",
        "ours",
    )
    list_filter = ("symbol", "side", "canceled")
    search_fields = ("client_order_id__exact", "account")
    date_hierarchy = "accepted_at"
    inlines = (PaperFillInline,)
    amount = number_column("quantity")
    done = number_column("filled")

    @display(description="our order")
    def ours(self, row: PaperOrder) -> SafeString | str:
        """The order that it came from."""
        return list_link("trading.order", "order", q=row.client_order_id)


@admin.register(PaperFill)
class PaperFillAdmin(Book):
    """Executions on the paper exchange."""

    list_display = ("at", "order", "amount", "usd", "cash_usdc", "fee_usdc")
    list_select_related = ("order",)
    search_fields = ("order__client_order_id__exact", "order__account")
    date_hierarchy = "at"
    amount = number_column("quantity")
    usd = number_column("price", "price (USD)")
    cash_usdc = number_column("cash", "cash (USDC)")
    fee_usdc = number_column("fee", "fee (USDC)")


@admin.register(PaperBalance)
class PaperBalanceAdmin(Book):
    """What accounts hold on the paper exchange."""

    list_display = ("account", "asset", "sum")
    list_filter = ("asset",)
    search_fields = ("account",)
    sum = number_column("amount")
