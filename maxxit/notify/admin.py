"""Where people want to be told."""

from django.contrib import admin

from maxxit.events.admin_links import Book
from maxxit.notify.models import Endpoint


@admin.register(Endpoint)
class EndpointAdmin(Book):
    """Read-only: people name their own, by API or command."""

    list_display = ("user", "channel", "address", "active", "created_at")
    list_filter = ("channel", "active")
    list_select_related = ("user",)
    search_fields = ("user__username", "address")
