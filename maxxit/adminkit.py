"""What every admin page of ours shares: links along the chain, coloured states, search by correlation id.

It stands on the lowest floor that has an admin, so that each app's `admin.py` may use it.
"""

import json
import re
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

from maxxit.core.money import plain
from maxxit.paging import BoundedPaginator

EMPTY = "–"
NEWEST = 100_000
"""Rows that the list of a long table shows."""
RECENT = 1_000
"""Rows whose values a filter of a long table offers."""
FOUND = 1_000
"""Rows that each field of a search finds at most."""
DECIMAL = re.compile(r"-?[\d,]+\.\d+")
COLOURS = {
    **dict.fromkeys(
        ("active", "open", "executed", "filled", "classified", "ok", "released", "final"), "success"
    ),
    **dict.fromkeys(
        (
            "new",
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
        ("paused", "blocked", "skipped", "expired", "canceled", "partially_filled", "dropped"), "warning"
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
"""State -> the colour of its label; a state that is not here is grey."""


def link(model: str, pk: object, text: object = "") -> SafeString | str:
    """The admin page of one row, `model` as in `trading.order`; an empty cell where `pk` is None."""
    if pk is None:
        return EMPTY
    url = reverse(f"admin:{model.replace('.', '_')}_change", args=[pk])
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, text or f"#{pk}"
    )


def links(pairs: Iterable[tuple[str, object, object]]) -> SafeString | str:
    """Several rows, each (model, id, text), one below the other."""
    made = [(link(model, pk, text),) for model, pk, text in pairs]
    return format_html_join(SafeString("<br>"), "{}", made) if made else EMPTY


def list_link(model: str, text: object, **query: str | int | UUID | None) -> SafeString | str:
    """The list of `model`, filtered by `query`; plain text where it has no page."""
    try:
        url = reverse(f"admin:{model.replace('.', '_')}_changelist")
    except NoReverseMatch:
        return str(text)
    asked = urlencode({name: str(value) for name, value in query.items()})
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}?{}">{}</a>', url, asked, text
    )


def subject_link(subject: str) -> SafeString | str:
    """The row that an event names as `app.model/id`; plain text where it has no page."""
    model, _, pk = subject.partition("/")
    try:
        return link(model, pk, subject)
    except NoReverseMatch:
        return subject


def chain_link(correlation_id: UUID | None) -> SafeString | str:
    """The page that tells the whole way of one correlation id."""
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


def traces_link(correlation_id: UUID | None) -> SafeString | str:
    """What models were asked under a correlation id."""
    return list_link("llm.llmtrace", "model calls", q=correlation_id) if correlation_id else EMPTY


def block(text: str) -> SafeString:
    """Text as it was, in a box."""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:40rem;overflow:auto;font-size:0.75rem"
    return format_html('<pre style="{}">{}</pre>', style, text)


def pretty(value: Any) -> str:
    """JSON for people; text that is JSON itself too."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def trimmed(text: str) -> str:
    """A decimal as Django wrote it, without its trailing zeros."""
    return text.rstrip("0").rstrip(".") if DECIMAL.fullmatch(text) else text


def _decimals(model: type[models.Model]) -> dict[str, Callable[[str], str]]:
    """How a page shows the decimals of `model` that it does not let anybody edit."""
    return {field.name: trimmed for field in model._meta.fields if isinstance(field, models.DecimalField)}


def number_column(
    field: str, description: str = "", *, places: int | None = None, show: Callable[[Decimal], str] = plain
) -> Any:
    """A column that shows a decimal field as `show` does (without its trailing zeros), or rounded to `places`."""

    @display(description=description or field.replace("_", " "), ordering=field)
    def column(self: object, row: models.Model) -> str:
        value = getattr(row, field)
        return EMPTY if value is None else f"{value:,.{places}f}" if places is not None else show(value)

    return column


def state_column(field: str = "state", description: str = "") -> Any:
    """A column that shows a state as a coloured label."""

    @display(description=description or field, ordering=field, label=COLOURS)
    def column(self: object, row: models.Model) -> Any:
        return getattr(row, field) or None

    return column


class DecimalInput(UnfoldAdminDecimalFieldWidget):
    """A number to be edited, without the zeros that its column fills it up with."""

    def format_value(self, value: Any) -> Any:
        return plain(value) if isinstance(value, Decimal) else super().format_value(value)


class Row(ModelAdmin):
    """The base of our pages: a search for a correlation id finds exactly that id."""

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
        """As Django does; a UUID is looked up by index instead of by text."""
        wanted = _uuid(search_term.strip())
        if wanted is not None and _has(self.model, "correlation_id"):
            return queryset.filter(correlation_id=wanted), False
        found: tuple[models.QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return found

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list. Raises IncorrectLookupParameters, which shows it unfiltered, for a year that no calendar has."""
        try:
            return super().get_changelist_instance(request)
        except OverflowError as error:
            raise IncorrectLookupParameters(error) from error

    def has_operate_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Whether this person may use the actions, also on rows that nobody edits."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    @display(description="chain")
    def chain(self, row: Any) -> SafeString | str:
        return chain_link(row.correlation_id)


class Book(Row):
    """Rows that the machine writes and nobody edits: no add, no change, no delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class RecentValues(admin.AllValuesFieldListFilter):
    """Offers the values of the newest rows of a long table."""

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: Any, model_admin: Any, field_path: str
    ):
        super().__init__(field, request, params, model, model_admin, field_path)
        newest = model._default_manager.order_by("-pk").values_list(field_path, flat=True)[:RECENT]
        self.lookup_choices = sorted(set(newest) - {None})  # type: ignore[assignment]  # only iterated


class History(Book):
    """A table that grows for ever: its list shows the newest rows; older ones are found by search or by an owner.

    Every query of the list is bounded: by NEWEST rows, by an index on the owner, or by FOUND results of a search.
    """

    owners: ClassVar[tuple[str, ...]] = ()
    """Parameters of links to the list that an index answers, such as `deployment__id__exact`."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        told = {"title": f"{self.opts.verbose_name_plural}: the newest {NEWEST:,}, older ones by search"}
        return super().changelist_view(request, told | (extra_context or {}))

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """The newest rows in a list, all rows of an owner, or what a search is to find; any row by its own page."""
        rows: models.QuerySet[Any] = super().get_queryset(request)
        match = request.resolver_match
        in_list = match is not None and (match.url_name or "").endswith("_changelist")
        if not in_list or request.GET.get("q") or any(name in request.GET for name in self.owners):
            return rows
        return rows.filter(pk__gt=self._oldest_listed())

    def _oldest_listed(self) -> int:
        newest = self.model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
        return int(newest or 0) - NEWEST

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """Whole values by index among all rows, parts of a text among the newest; at most FOUND rows by each field."""
        term = search_term.strip()
        if not term or _uuid(term) is not None:
            return super().get_search_results(request, queryset, search_term)
        ids: set[int] = set()
        for field in self.get_search_fields(request):
            wanted = self._wanted(str(field), term)
            if wanted is not None:
                rows = self.model._default_manager.filter(wanted).order_by("-pk")
                ids.update(rows.values_list("pk", flat=True)[:FOUND])
        return queryset.filter(pk__in=ids), False

    def _wanted(self, field: str, term: str) -> models.Q | None:
        """What a search field asks for; None where the term cannot be a value of it."""
        if field.startswith("="):
            return models.Q(**{field[1:]: term}) if term.isdecimal() and len(term) < 19 else None
        if "\0" in term:
            return None
        if field.endswith("__exact"):
            return models.Q(**{field: term})
        if field.endswith("__iexact"):
            return models.Q(**{f"{field.removesuffix('__iexact')}__in": [term, term.upper()]})
        return models.Q(**{f"{field}__icontains": term, "pk__gt": self._oldest_listed()})


class BookInline(TabularInline):
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


def leave(page: str, *args: object) -> HttpResponse:
    """Leave a dialog for an admin page such as `trading_gate_change`; htmx wants that as a header of a plain answer."""
    return HttpResponse(headers={"HX-Redirect": reverse(f"admin:{page}", args=args)})


def log(request: HttpRequest, rows: models.QuerySet[Any] | list[Any], message: str) -> None:
    """Write Django's admin log: who did what to which rows."""
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
