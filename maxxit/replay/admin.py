"""Admin page of previews, to look at."""

from django.contrib import admin

from maxxit.adminkit import ReadOnlyAdmin, state_column
from maxxit.replay.models import Preview


@admin.register(Preview)
class PreviewAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "owner",
        state_column(),
        "progress",
        "attempts",
        "created_at",
        "finished_at",
        "error",
    )
    list_filter = ("state",)
    list_select_related = ("owner",)
