"""Admin of documents, chunks and source items, read-only."""

from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from maxxit.adminkit import ReadOnlyAdmin
from maxxit.core import clock
from maxxit.knowledge.models import Document, Item


@admin.register(Document)
class DocumentAdmin(ReadOnlyAdmin):
    """List document versions with their chunks."""

    list_display = (
        "id",
        "title",
        "uri",
        "source",
        "tokens",
        "agents",
        "known_at",
        "superseded_at",
        "chunk_count",
    )
    list_filter = ("source", "known_at")
    search_fields = ("uri", "title", "content_sha256")
    fields = (
        *("title", "uri", "source", "tokens", "agents", "known_at", "superseded_at", "created_at"),
        *("content_sha256", "text"),
    )
    readonly_fields = ("text",)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Document]:
        rows: models.QuerySet[Document] = super().get_queryset(request)
        return rows.annotate(number_of_chunks=models.Count("chunks"))

    @display(description="chunks", ordering="number_of_chunks")
    def chunk_count(self, row: Document) -> int:
        return int(getattr(row, "number_of_chunks", 0))

    @display(description="chunks")
    def text(self, row: Document) -> SafeString:
        style = "white-space:pre-wrap;overflow-wrap:anywhere;font-size:0.75rem;margin-bottom:1rem"
        pairs = row.chunks.values_list("text", "embedder")
        return format_html_join(
            "", '<pre style="{}" title="{}">{}</pre>', ((style, by, text) for text, by in pairs)
        )


@admin.register(Item)
class ItemAdmin(ReadOnlyAdmin):
    """List the items of the configured sources with the result of their last read."""

    list_display = ("uri", "source", "outcome", "attempts", "checked_at", "due_at", "last_error")
    list_filter = ("source", "outcome")
    search_fields = ("uri", "last_error")
    actions = ("retry",)

    @admin.action(description="Retry at the next sweep", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: models.QuerySet[Item]) -> None:
        count = queryset.update(attempts=0, due_at=clock.now())
        items = "1 item" if count == 1 else f"{count} items"
        self.message_user(request, f"The next sweep retries {items}.", messages.SUCCESS)
