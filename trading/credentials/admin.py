"""Admin pages of customers' keys at venues: which accounts have some, requests to test and store, never the keys."""

from django.contrib import admin

from maxxit.adminkit import ReadOnlyAdmin
from trading.models import CredentialRequest, VenueCredential


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


@admin.register(CredentialRequest)
class CredentialRequestAdmin(ReadOnlyAdmin):
    """Requests to test or store keys, and what the worker answered."""

    list_display = (
        "asked_at",
        "account",
        "venue",
        "only_test",
        "state",
        "message",
        "asked_by",
        "finished_at",
    )
    list_filter = ("state", "venue")
    search_fields = ("account", "asked_by")
    search_help_text = "account or who asked"
    fields = (
        ("venue", "account", "hint"),
        ("state", "message", "tries"),
        ("only_test", "permissions"),
        ("asked_by", "asked_at", "finished_at"),
    )
