"""Admin pages of notification endpoints, price rules, their deliveries and staff alerts."""

from django.contrib import admin
from unfold.decorators import display

from maxxit.adminkit import BaseAdmin, LargeTableAdmin, ReadOnlyAdmin, RecentValues, number_column
from maxxit.notify.models import Alert, Endpoint, NotificationSettings, PriceRule, RuleDelivery, RuleMatch


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    """Read-only: users set their own endpoints by API or command."""

    list_display = (
        "user",
        "channel",
        "hint",
        "active",
        "created_at",
        "verified_at",
        "failures",
        "rests_until",
    )
    list_filter = ("channel", "active")
    list_select_related = ("user",)
    search_fields = ("user__username", "hint")


@admin.register(NotificationSettings)
class NotificationSettingsAdmin(ReadOnlyAdmin):
    """Read-only: users choose on the page Notifications, by API or command."""

    list_display = ("user", "kinds", "quiet_from", "quiet_to", "time_zone")
    list_select_related = ("user",)
    search_fields = ("user__username",)


@admin.register(Alert)
class AlertAdmin(LargeTableAdmin):
    list_display = ("at", "event", "user", "channel", "state", "attempts", "due_at", "sent_at", "last_error")
    list_filter = ("state", ("channel", RecentValues), ("event__name", RecentValues))
    list_select_related = ("event", "user")
    search_fields = ("event__name__exact", "user__username__exact")


@admin.register(PriceRule)
class PriceRuleAdmin(BaseAdmin):
    list_display = (
        "rule_id",
        "user",
        "symbols",
        "condition",
        "threshold_shown",
        "channel",
        "active",
        "removed_at",
        "created_at",
    )
    list_filter = ("active", "condition", "channel")
    list_select_related = ("user",)
    search_fields = ("rule_id", "user__username", "symbols")
    autocomplete_fields = ("user",)
    date_hierarchy = "created_at"
    threshold_shown = number_column("threshold")


@admin.register(RuleMatch)
class RuleMatchAdmin(LargeTableAdmin):
    list_display = ("at", "rule", "symbol", "price_usd", "compared")
    list_filter = (("symbol", RecentValues),)
    list_select_related = ("rule",)
    search_fields = ("rule__rule_id", "symbol__iexact")
    price_usd = number_column("price", "price (USD)")
    compared = number_column("value")


@admin.register(RuleDelivery)
class RuleDeliveryAdmin(LargeTableAdmin):
    list_display = (
        "at",
        "user",
        "rule",
        "symbol",
        "channel",
        "state",
        "attempts",
        "due_at",
        "sent_at",
        "error",
    )
    list_filter = ("state", ("channel", RecentValues), ("symbol", RecentValues))
    list_select_related = ("user", "rule")
    search_fields = ("rule__rule_id", "user__username", "symbol__iexact")

    @display(description="last error")
    def error(self, row: RuleDelivery) -> str:
        return (row.last_error.strip().splitlines() or ["–"])[-1][:120]
