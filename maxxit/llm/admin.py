"""Read-only admin pages of LLM calls, versions of prompts, spending, exports and circuit breakers."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from maxxit.adminkit import (
    EMPTY,
    LargeTableAdmin,
    ReadOnlyAdmin,
    RecentValues,
    number_column,
    preformatted,
    pretty,
    state_column,
    trace_link,
)
from maxxit.llm.models import LlmCircuit, LlmExport, LlmSpend, LlmTrace, PromptActivation, PromptVersion


@admin.register(LlmTrace)
class LlmTraceAdmin(LargeTableAdmin):
    """One call: prompt, answer, latency, tokens, cost."""

    list_display = (
        *("ts", "purpose", "provider", "model", "state", "latency_ms", "prompt_tokens", "completion_tokens"),
        *("cost", "subjects", "repaired", "agent_name", "trace"),
    )
    list_filter = (
        "status", ("purpose", RecentValues), ("provider", RecentValues), ("model", RecentValues), "repaired",
        ("agent_name", RecentValues), "ts",
    )  # fmt: skip
    search_fields = ("agent_name", "error_message", "request_sha256")
    fields: tuple[str, ...] = (
        *(
            "ts",
            "purpose",
            "agent_name",
            "provider",
            "model",
            "base_url",
            "parameters",
            "state",
            "error_message",
        ),
        *("latency_ms", "prompt_tokens", "completion_tokens", "cost_usd", "repaired"),
        *(
            "system",
            "prompt",
            "knowledge",
            "answer",
            "traces",
            "prompt_version",
            "prompt_sha256",
            "schema_sha256",
            "request_sha256",
        ),
    )
    readonly_fields: tuple[str, ...] = ("state", "system", "prompt", "knowledge", "answer", "traces")
    state = state_column("status", "status")
    cost = number_column("cost_usd", "USD")

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """Find every call that lists a correlation id, not only those where it is the first."""
        try:
            correlation_id = UUID(search_term.strip())
        except ValueError:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(correlation_ids__contains=[correlation_id]), False

    @display(description="subjects")
    def subjects(self, row: LlmTrace) -> int:
        return len(row.correlation_ids)

    @display(description="system")
    def system(self, row: LlmTrace) -> SafeString:
        return preformatted(row.request.get("system", ""))

    @display(description="prompt")
    def prompt(self, row: LlmTrace) -> SafeString:
        words, brace, data = row.request.get("user", "").partition("\n{")
        return preformatted(f"{words}\n{pretty(brace.strip() + data)}" if brace else words)

    @display(description="passages")
    def knowledge(self, row: LlmTrace) -> SafeString | str:
        """The retrieved passages in the prompt, each with its source."""
        shown = row.request.get("knowledge")
        return preformatted(pretty(shown)) if shown else EMPTY

    @display(description="answer")
    def answer(self, row: LlmTrace) -> SafeString | str:
        return EMPTY if row.response is None else preformatted(pretty(row.response))

    @display(description="correlation ids")
    def traces(self, row: LlmTrace) -> SafeString:
        return format_html_join(
            " ", "{}", ((trace_link(correlation_id),) for correlation_id in row.correlation_ids)
        )


@admin.register(PromptVersion)
class PromptVersionAdmin(ReadOnlyAdmin):
    """Stored texts; the operator page Prompts compares and activates them."""

    list_display = ("purpose", "name", "short_hash", "note", "created_by", "created_at")
    list_filter = ("purpose",)
    search_fields = ("name", "note", "sha256")
    fields = ("purpose", "name", "note", "created_by", "created_at", "sha256", "whole")
    readonly_fields = ("whole",)

    @display(description="SHA-256", ordering="sha256")
    def short_hash(self, row: PromptVersion) -> str:
        return row.sha256[:8]

    @display(description="text")
    def whole(self, row: PromptVersion) -> SafeString:
        return preformatted(row.text)


@admin.register(PromptActivation)
class PromptActivationAdmin(ReadOnlyAdmin):
    """When which version was activated, by whom and why."""

    list_display = ("at", "purpose", "name", "rollback", "by", "reason")
    list_filter = ("purpose", "rollback")
    list_select_related = ("version",)


@admin.register(LlmSpend)
class LlmSpendAdmin(ReadOnlyAdmin):
    list_display = ("day", "purpose", "account", "calls", "spent")
    list_filter = ("purpose",)
    search_fields = ("account",)
    date_hierarchy = "day"
    spent = number_column("usd", "USD")


@admin.register(LlmExport)
class LlmExportAdmin(ReadOnlyAdmin):
    """The export position of each exporter."""

    list_display = ("name", "last_id", "sent", "refused", "last_error")


@admin.register(LlmCircuit)
class LlmCircuitAdmin(ReadOnlyAdmin):
    """The circuit breakers of providers."""

    list_display = ("provider", "failures", "retry_at", "last_error")
