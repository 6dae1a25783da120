"""Admin pages of billing events. Debts and payments are in the ledger; payments are booked by command."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from maxxit.adminkit import EMPTY, ReadOnlyAdmin, link, list_link, log_action, number_column, state_column
from trading.billing import subscriptions
from trading.billing.states import UNCHARGED
from trading.models import BillingEvent


@admin.register(BillingEvent)
class BillingEventAdmin(ReadOnlyAdmin):
    list_display = (
        "deployment_link", "kind", "period_start", "usdc", "status", "reason", "charged_at", "booked", "invoice",
    )  # fmt: skip
    list_filter = ("state", "kind", ("period_start", admin.DateFieldListFilter))
    list_select_related = ("deployment__agent",)
    search_fields = ("=deployment__id", "deployment__account", "reference", "journal")
    search_help_text = "deployment id, account, first day of the month or journal"
    actions = ("charge_again",)
    status = state_column()
    usdc = number_column("amount", "amount (USDC)")
    readonly_fields = ("deployment_link", "status", "booked", "invoice")
    fields = (
        "deployment_link", "kind", "reference", ("period_start", "period_end"), "amount", ("status", "reason"),
        ("booked", "invoice"), ("created_at", "charged_at"),
    )  # fmt: skip

    @action(description="Charge now (due or failed)", permissions=["operate"])
    def charge_again(self, request: HttpRequest, rows: QuerySet[BillingEvent]) -> None:
        """Try again to charge the chosen events that are due or failed."""
        chosen = list(rows.filter(state__in=UNCHARGED))
        charged = [row for row in chosen if subscriptions.charge(row.pk)]
        if charged:
            log_action(request, charged, "Charged")
        text = f"{len(charged)} of {len(chosen)} charged"
        messages.add_message(
            request, messages.SUCCESS if len(charged) == len(chosen) else messages.ERROR, text
        )

    @display(description="deployment", ordering="deployment")
    def deployment_link(self, row: BillingEvent) -> SafeString | str:
        return link("agents.deployment", row.deployment_id, row.deployment)

    @display(description="journal")
    def booked(self, row: BillingEvent) -> SafeString | str:
        return list_link("trading.ledgerentry", row.journal, q=row.journal) if row.journal else EMPTY

    @display(description="invoice")
    def invoice(self, row: BillingEvent) -> SafeString | str:
        if row.charged_at is None:
            return EMPTY
        month = f"{row.charged_at:%Y-%m}"
        url = reverse("invoice", args=[row.deployment_id, month])
        return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, month)
