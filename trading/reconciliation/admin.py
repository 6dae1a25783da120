"""Admin pages of reconciliation: when each account is asked next, and what venues hold."""

from django.contrib import admin

from maxxit.adminkit import ReadOnlyAdmin, number_column
from trading.models import AccountCheck, VenueHolding


@admin.register(AccountCheck)
class AccountCheckAdmin(ReadOnlyAdmin):
    """When the open orders and the holdings of each account were read, and the error of those that could not be."""

    list_display = ("account", "venue", "kind", "result", "checked_at", "due_at", "failures", "last_error")
    list_filter = ("venue", "kind", "result")
    search_fields = ("account", "last_error")
    search_help_text = "account or error"


@admin.register(VenueHolding)
class VenueHoldingAdmin(ReadOnlyAdmin):
    """What venues held when they were last read, beside the ledger. AUTO_DISCOVERED is the owner's own, not traded."""

    list_display = (
        "account",
        "venue",
        "asset",
        "at_venue",
        "in_ledger",
        "differs_by",
        "origin",
        "since",
        "seen_at",
    )
    list_filter = ("origin", "venue")
    search_fields = ("account", "asset")
    search_help_text = "account or asset"
    at_venue = number_column("quantity", "at the venue")
    in_ledger = number_column("booked", "in the ledger")
    differs_by = number_column("unexplained", "unexplained")
