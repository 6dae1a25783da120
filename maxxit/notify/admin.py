"""Admin pages of notification endpoints and staff alerts."""

from django.contrib import admin

from maxxit.adminkit import LargeTableAdmin, ReadOnlyAdmin, RecentValues
from maxxit.notify.models import Alert, Endpoint


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    """Read-only: users set their own endpoints by API or command."""

    list_display = ("user", "channel", "address", "active", "created_at", "failures", "rests_until")
    list_filter = ("channel", "active")
    list_select_related = ("user",)
    search_fields = ("user__username", "address")


@admin.register(Alert)
class AlertAdmin(LargeTableAdmin):
    list_display = ("at", "event", "user", "channel", "state", "attempts", "due_at", "sent_at", "last_error")
    list_filter = ("state", ("channel", RecentValues), ("event__name", RecentValues))
    list_select_related = ("event", "user")
    search_fields = ("event__name__exact", "user__username__exact")
