"""Base classes and helpers of the admin pages: links to related rows, coloured states, bounded lists and searches."""

import json
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from maxxit.core.money import plain, trimmed
from maxxit.paging import BoundedPaginator

EMPTY = "–"
LISTED_ROWS = 100_000
"""Newest rows that the list of a large table shows."""
FILTER_ROWS = 1_000
"""Newest rows whose values a filter of a large table offers."""
SEARCH_ROWS = 1_000
"""Rows that each search field returns at most."""
MOVED_MODELS = {f"market.{model}": f"notify.{model}" for model in ("pricerule", "rulematch", "ruledelivery")}
"""Former label of a model, as in the subjects of old events -> label."""
COLOURS = {
    **dict.fromkeys(
        ("active", "open", "executed", "filled", "classified", "ok", "released", "final", "charged"),
        "success",
    ),
    **dict.fromkeys(
        (
            "new",
            "due",
            "pending",
            "planned",
            "draft",
            "closing",
            "accepted",
            "sending",
            "signed",
            "broadcast",
            "mined",
        ),
        "info",
    ),
    **dict.fromkeys(
        ("paused", "blocked", "skipped", "expired", "canceled", "partially_filled", "dropped", "waived"),
        "warning",
    ),
    **dict.fromkeys(
        (
            "quarantined",
            "rejected",
            "unknown",
            "revoked",
            "error",
            "latched",
            "failed",
            "reverted",
            "replaced",
        ),
        "danger",
    ),
}
"""State -> colour of its label; any other state is grey."""


def link(model: str, pk: object, text: object = "") -> SafeString | str:
    """Link to the admin page of one row, `model` as in `trading.order`; a dash where `pk` is None."""
    if pk is None:
        return EMPTY
    url = reverse(f"admin:{model.replace('.', '_')}_change", args=[pk])
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, text or f"#{pk}"
    )


def links(pairs: Iterable[tuple[str, object, object]]) -> SafeString | str:
    """Link to several rows, each (model, id, text), one per line."""
    rows = [(link(model, pk, text),) for model, pk, text in pairs]
    return format_html_join(SafeString("<br>"), "{}", rows) if rows else EMPTY


def list_link(model: str, text: object, **query: str | int | UUID | None) -> SafeString | str:
    """Link to the list of `model`, filtered by `query`; plain text where it has no page."""
    try:
        url = reverse(f"admin:{model.replace('.', '_')}_changelist")
    except NoReverseMatch:
        return str(text)
    parameters = urlencode({name: str(value) for name, value in query.items()})
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}?{}">{}</a>', url, parameters, text
    )


def subject_link(subject: str) -> SafeString | str:
    """Link to the row that an event names as `app.model/id`; plain text where it has no page."""
    model, _, pk = subject.partition("/")
    model = MOVED_MODELS.get(model, model)
    try:
        return link(model, pk, subject)
    except NoReverseMatch:
        return subject


def trace_link(correlation_id: UUID | None) -> SafeString | str:
    """Link to the trace page of one correlation id."""
    if correlation_id is None:
        return EMPTY
    url = reverse("chain", args=[correlation_id])
    text = str(correlation_id)[:8]
    return format_html(
        '<a class="font-mono text-primary-600 dark:text-primary-500" href="{}" title="{}">{}</a>',
        url,
        correlation_id,
        text,
    )


def model_calls_link(correlation_id: UUID | None) -> SafeString | str:
    """Link to the LLM calls of a correlation id."""
    return list_link("llm.llmtrace", "model calls", q=correlation_id) if correlation_id else EMPTY


def preformatted(text: str) -> SafeString:
    """Show text unchanged in a scrolling box."""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:40rem;overflow:auto;font-size:0.75rem"
    return format_html('<pre style="{}">{}</pre>', style, text)


def pretty(value: Any) -> str:
    """Format a value, or text that is JSON, as indented JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _decimals(model: type[models.Model]) -> dict[str, Callable[[str], str]]:
    """Map each read-only decimal field of `model` to its formatter."""
    return {field.name: trimmed for field in model._meta.fields if isinstance(field, models.DecimalField)}


def number_column(
    field: str, description: str = "", *, places: int | None = None, show: Callable[[Decimal], str] = plain
) -> Any:
    """Make a column that shows a decimal field formatted by `show`, or rounded to `places`."""

    @display(description=description or field.replace("_", " "), ordering=field)
    def column(self: object, row: models.Model) -> str:
        value = getattr(row, field)
        return EMPTY if value is None else f"{value:,.{places}f}" if places is not None else show(value)

    return column


def state_column(field: str = "state", description: str = "") -> Any:
    """Make a column that shows a state as a coloured label."""

    @display(description=description or field, ordering=field, label=COLOURS)
    def column(self: object, row: models.Model) -> Any:
        return getattr(row, field) or None

    return column


class DecimalInput(UnfoldAdminDecimalFieldWidget):
    """Decimal input that shows the value without trailing zeros."""

    def format_value(self, value: Any) -> Any:
        return plain(value) if isinstance(value, Decimal) else super().format_value(value)


class BaseAdmin(ModelAdmin):
    """Base of the admin pages: a search for a correlation id finds exactly that id."""

    formfield_overrides: ClassVar = {models.DecimalField: {"widget": DecimalInput}}
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    list_fullwidth = True
    list_filter_submit = True

    def __init__(self, model: type[models.Model], admin_site: AdminSite) -> None:
        super().__init__(model, admin_site)
        self.readonly_preprocess_fields = _decimals(model)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """Search as Django does, except that a UUID is looked up as correlation id, by index."""
        correlation_id = _uuid(search_term.strip())
        if correlation_id is not None and _has(self.model, "correlation_id"):
            return queryset.filter(correlation_id=correlation_id), False
        result: tuple[models.QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return result

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list. An impossible year raises IncorrectLookupParameters, which shows it unfiltered."""
        try:
            return super().get_changelist_instance(request)
        except OverflowError as error:
            raise IncorrectLookupParameters(error) from error

    def has_operate_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Return whether the user may run the actions; read-only pages have them too."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    @display(description="trace")
    def trace(self, row: Any) -> SafeString | str:
        return trace_link(row.correlation_id)


class ReadOnlyAdmin(BaseAdmin):
    """Read-only page of rows that only the program writes: no add, no change, no delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class RecentValues(admin.AllValuesFieldListFilter):
    """List filter that offers the values of the newest rows of a large table."""

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: Any, model_admin: Any, field_path: str
    ):
        super().__init__(field, request, params, model, model_admin, field_path)
        newest = model._default_manager.order_by("-pk").values_list(field_path, flat=True)[:FILTER_ROWS]
        self.lookup_choices = sorted(set(newest) - {None})  # type: ignore[assignment]  # only iterated


class LargeTableAdmin(ReadOnlyAdmin):
    """Read-only page of a table that keeps growing: it lists the newest rows; search or an owner link finds older ones.

    Every query of the list is bounded: by LISTED_ROWS, by an index on the owner, or by SEARCH_ROWS results.
    """

    owners: ClassVar[tuple[str, ...]] = ()
    """Query parameters for which an index exists, such as `deployment__id__exact`: they search all rows."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = f"{self.opts.verbose_name_plural}: the newest {LISTED_ROWS:,}; search for older ones"
        return super().changelist_view(request, {"title": title} | (extra_context or {}))

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """Return the newest rows for a plain list; all rows for an owner, a search or a row's own page."""
        rows: models.QuerySet[Any] = super().get_queryset(request)
        match = request.resolver_match
        in_list = match is not None and (match.url_name or "").endswith("_changelist")
        if not in_list or request.GET.get("q") or any(name in request.GET for name in self.owners):
            return rows
        return rows.filter(pk__gt=self._oldest_listed())

    def _oldest_listed(self) -> int:
        newest = self.model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
        return int(newest or 0) - LISTED_ROWS

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """Search exact values among all rows by index, and text among the newest; SEARCH_ROWS per field at most."""
        term = search_term.strip()
        if not term or _uuid(term) is not None:
            return super().get_search_results(request, queryset, search_term)
        ids: set[int] = set()
        for field in self.get_search_fields(request):
            condition = self._condition(str(field), term)
            if condition is not None:
                rows = self.model._default_manager.filter(condition).order_by("-pk")
                ids.update(rows.values_list("pk", flat=True)[:SEARCH_ROWS])
        return queryset.filter(pk__in=ids), False

    def _condition(self, field: str, term: str) -> models.Q | None:
        """Return the filter of one search field; None where `term` cannot be a value of it."""
        if field.startswith("="):
            return models.Q(**{field[1:]: term}) if term.isdecimal() and len(term) < 19 else None
        if "\0" in term:
            return None
        if field.endswith("__exact"):
            return models.Q(**{field: term})
        if field.endswith("__iexact"):
            return models.Q(**{f"{field.removesuffix('__iexact')}__in": [term, term.upper()]})
        return models.Q(**{f"{field}__icontains": term, "pk__gt": self._oldest_listed()})


class ReadOnlyInline(TabularInline):
    extra = 0
    max_num = 0
    can_delete = False
    show_change_link = True

    def __init__(self, parent_model: type[models.Model], admin_site: AdminSite) -> None:
        super().__init__(parent_model, admin_site)
        self.readonly_preprocess_fields = _decimals(self.model)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


def redirect_from_dialog(page: str, *args: object) -> HttpResponse:
    """Close a dialog and go to an admin page such as `trading_gate_change`, by htmx's redirect header."""
    return HttpResponse(headers={"HX-Redirect": reverse(f"admin:{page}", args=args)})


def log_action(request: HttpRequest, rows: models.QuerySet[Any] | list[Any], message: str) -> None:
    """Write an entry per row to Django's admin log."""
    LogEntry.objects.log_actions(
        user_id=request.user.pk or 0, queryset=rows, action_flag=CHANGE, change_message=message
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _has(model: type[models.Model], field: str) -> bool:
    try:
        model._meta.get_field(field)
    except FieldDoesNotExist:
        return False
    return True
