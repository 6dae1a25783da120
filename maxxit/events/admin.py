"""Admin page of the event log; read-only, like the table."""

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.decorators import display

from maxxit.adminkit import LargeTableAdmin, RecentValues, subject_link
from maxxit.events.models import Event


@admin.register(Event)
class EventAdmin(LargeTableAdmin):
    """Search takes a correlation id, a subject such as `trading.order/17`, or a name."""

    list_display = ("at", "name", "row_link", "summary", "trace")
    list_filter = (("name", RecentValues), ("at", admin.DateFieldListFilter))
    search_fields = ("subject__exact", "name__exact")
    search_help_text = "correlation id, subject (trading.order/17) or name (execution.blocked)"
    ordering = ("-id",)
    fields = ("at", "name", "row_link", "trace", "correlation_id", "data")
    readonly_fields = ("row_link", "trace")

    @display(description="subject", ordering="subject")
    def row_link(self, row: Event) -> SafeString | str:
        return subject_link(row.subject)

    @display(description="data")
    def summary(self, row: Event) -> str:
        text = ", ".join(f"{key}: {value}" for key, value in row.data.items())
        return text[:120] + ("…" if len(text) > 120 else "")
