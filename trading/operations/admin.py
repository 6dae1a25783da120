"""The gate, people's words, the kill switch; and the paper exchange's own book. Nothing here is edited by hand."""

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from maxxit.adminkit import (
    LargeTableAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    RecentValues,
    list_link,
    log_action,
    number_column,
    redirect_from_dialog,
)
from maxxit.core import clock
from maxxit.market.venues import venues
from trading import gate
from trading.models import (
    Approval,
    ChangeRequest,
    Gate,
    KillSwitch,
    LimitsInForce,
    PaperBalance,
    PaperFill,
    PaperFunding,
    PaperOrder,
    PaperPosition,
)
from trading.operations.change_requests import lines_of
from trading.operations.changes import in_words


class GateForm(BaseDialogForm):
    reason = forms.CharField(
        max_length=300, widget=UnfoldAdminTextInputWidget, help_text="who reads the log will ask"
    )


@admin.register(Gate)
class GateAdmin(ReadOnlyAdmin):
    """Whether orders may leave: closed here for any venue, opened here for paper ones alone.

    A venue of real money is opened on the page Change requests. Each venue needs an approval besides.
    """

    list_display = ("venue", "standing", "changed_at", "changed_by", "reason", "events")
    actions_detail = ("close_gate", "open_gate")

    def has_close_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._is(object_id, dry_run=False) and self.has_operate_permission(request)

    def has_open_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whether it is the closed gate of a paper venue, and this person may."""
        paper = [name for name, one in venues().items() if one.paper]
        return self._is(object_id, dry_run=True, venue__in=paper) and self.has_operate_permission(request)

    def _is(self, object_id: str | None, **wanted: object) -> bool:
        return object_id is None or Gate.objects.filter(pk=object_id, **wanted).exists()

    @action(
        description="Close the gate",
        icon="block",
        permissions=["close"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Close the gate of this venue?",
            "description": "Everything is decided as before and no order leaves, not even one that closes a position.",
            "form_class": GateForm,
            "form_submit_text": "Close the gate",
        },
    )
    def close_gate(self, request: HttpRequest, form: GateForm, object_id: str) -> HttpResponse:
        return self._set(request, form, object_id, dry_run=True)

    @action(
        description="Open the gate",
        icon="play_arrow",
        permissions=["open"],
        dialog={
            "title": "Open the gate of this paper venue?",
            "description": "Orders leave once the venue is approved too; no money moves on paper.",
            "form_class": GateForm,
            "form_submit_text": "Open the gate",
        },
    )
    def open_gate(self, request: HttpRequest, form: GateForm, object_id: str) -> HttpResponse:
        return self._set(request, form, object_id, dry_run=False)

    def _set(self, request: HttpRequest, form: GateForm, object_id: str, *, dry_run: bool) -> HttpResponse:
        row, reason = Gate.objects.get(pk=object_id), form.cleaned_data["reason"]
        gate.set_dry_run(row.venue, dry_run, by=request.user.get_username(), reason=reason)
        log_action(request, [row], f"{'Closed' if dry_run else 'Opened'}: {reason}")
        if dry_run or gate.is_approved(row.venue):
            messages.success(request, f"the gate of {row.venue} is {'closed' if dry_run else 'open'}")
        else:
            messages.warning(
                request, f"dry run is off; nothing leaves until `manage.py approve {row.venue} --reason …`"
            )
        return redirect_from_dialog("trading_gate_change", object_id)

    @display(description="gate", label={"open": "success", "dry run": "warning"})
    def standing(self, row: Gate) -> str:
        """Open, or deciding everything and sending nothing."""
        return "dry run" if row.dry_run else "open"

    @display(description="events")
    def events(self, row: Gate) -> SafeString | str:
        return list_link("events.event", "events", q=f"trading.gate/{row.pk}")


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ("scope", "standing", "approved_by", "approved_at", "expires_at", "revoked_at", "reason")
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("scope", "approved_by", "reason")
    date_hierarchy = "approved_at"

    @display(description="state", label={"standing": "success", "expired": "warning", "revoked": "danger"})
    def standing(self, row: Approval) -> str:
        return "revoked" if row.revoked_at else "standing" if row.expires_at > clock.now() else "expired"


@admin.register(ChangeRequest)
class ChangeRequestAdmin(ReadOnlyAdmin):
    """Changes that need a second person. The page Change requests decides on them."""

    list_display = ("kind", "state", "what", "asked_by", "asked_at", "expires_at", "decided_by", "decided_at")
    list_filter = ("state", "kind")
    search_fields = ("asked_by", "decided_by", "reason")
    date_hierarchy = "asked_at"

    @display(description="what")
    def what(self, row: ChangeRequest) -> str:
        """From and to."""
        return in_words(lines_of(row))


@admin.register(KillSwitch)
class KillSwitchAdmin(ReadOnlyAdmin):
    """Pulls of the switch. The Stop button in the header pulls and releases it."""

    list_display = (
        "pulled_at",
        "level",
        "account",
        "standing",
        "cause",
        "reason",
        "pulled_by",
        "released_at",
        "released_by",
    )
    list_filter = ("level", "cause", ("released_at", admin.EmptyFieldListFilter))
    search_fields = ("account", "reason", "pulled_by", "release_reason")
    date_hierarchy = "pulled_at"

    @display(description="state", label={"latched": "danger", "released": "success"})
    def standing(self, row: KillSwitch) -> str:
        return "released" if row.released_at else "latched"


class PaperFillInline(ReadOnlyInline):
    model = PaperFill
    fields = ("at", "quantity", "price", "cash", "fee")


@admin.register(PaperOrder)
class PaperOrderAdmin(LargeTableAdmin):
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
    list_filter = (("symbol", RecentValues), "side", "canceled", ("accepted_at", admin.DateFieldListFilter))
    search_fields = ("client_order_id__exact", "account")
    inlines = (PaperFillInline,)
    amount = number_column("quantity")
    done = number_column("filled")

    @display(description="our order")
    def ours(self, row: PaperOrder) -> SafeString | str:
        return list_link("trading.order", "order", q=row.client_order_id)


@admin.register(LimitsInForce)
class LimitsInForceAdmin(ReadOnlyAdmin):
    """The risk limits in force, and looser ones that wait. The page Limits and config/risk.yaml change them."""

    list_display = ("changed_at", "looser", "overridden")

    @display(description="looser limits that wait")
    def looser(self, row: LimitsInForce) -> str:
        """Each with its value and the moment from which it is in force."""
        return (
            "; ".join(f"{key} {one['value']} from {one['at']}" for key, one in row.waiting.items()) or "none"
        )

    @display(description="overrides of the file")
    def overridden(self, row: LimitsInForce) -> str:
        """Each with its value and who set it."""
        return (
            "; ".join(f"{key} {one['value']} by {one['by']}" for key, one in row.overrides.items()) or "none"
        )


@admin.register(PaperFill)
class PaperFillAdmin(LargeTableAdmin):
    list_display = ("at", "order", "amount", "usd", "cash_usdc", "fee_usdc")
    list_select_related = ("order",)
    search_fields = ("order__client_order_id__exact", "order__account__exact")
    amount = number_column("quantity")
    usd = number_column("price", "price (USD)")
    cash_usdc = number_column("cash", "cash (USDC)")
    fee_usdc = number_column("fee", "fee (USDC)")


@admin.register(PaperBalance)
class PaperBalanceAdmin(ReadOnlyAdmin):
    list_display = ("account", "asset", "sum")
    list_filter = ("asset",)
    search_fields = ("account",)
    sum = number_column("amount")


@admin.register(PaperPosition)
class PaperPositionAdmin(ReadOnlyAdmin):
    list_display = ("account", "symbol", "quantity", "cash_usdc", "leverage", "opened_at")
    search_fields = ("account", "symbol__iexact")
    quantity = number_column("tokens")
    cash_usdc = number_column("cash", "cash (USDC)")


@admin.register(PaperFunding)
class PaperFundingAdmin(LargeTableAdmin):
    list_display = ("at", "account", "symbol", "paid_or_received")
    search_fields = ("account__exact", "symbol__iexact")
    ordering = ("-at", "-id")
    paid_or_received = number_column("amount", "paid (−) or received, USDC")
