"""Admin page of customers' keys at venues: which accounts have some, and never the keys."""

from django.contrib import admin

from maxxit.adminkit import ReadOnlyAdmin
from trading.models import VenueCredential


@admin.register(VenueCredential)
class VenueCredentialAdmin(ReadOnlyAdmin):
    list_display = (
        "account",
        "venue",
        "hint",
        "permissions",
        "stored_by",
        "stored_at",
        "tested_at",
        "key_id",
    )
    list_filter = ("venue",)
    search_fields = ("account", "stored_by")
    search_help_text = "account or who stored them"
    fields = ("venue", "account", "hint", "permissions", "key_id", ("stored_by", "stored_at"), "tested_at")
