"""The preview on the page Start: ask for one, watch it, cancel it, and read what it found."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from maxxit.access.permissions import page_needs
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.replay import previews
from maxxit.replay.models import Preview
from maxxit.replay.states import UNDER_WAY, PreviewState
from maxxit.reports.preview_policy import policy
from maxxit.web import charts
from maxxit.web.performance_charts import Chart, equity_chart
from maxxit.web.sentences import sentence

FIELDS = {"accounts": "others"}
"""Input of a preview -> the form's field that it comes from."""
REASONS = 8
"""Rows of reasons that the page shows."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A preview as the page shows it; amounts as numbers."""

    preview: Preview
    ahead: int
    left: str
    """How long it still takes, in words; empty where nobody knows."""
    percent: int
    bar: list[charts.Segment]
    chart: Chart | None
    figures: dict[str, Any]
    """Of the result; empty without one."""

    @property
    def under_way(self) -> bool:
        return self.preview.state in UNDER_WAY

    @property
    def accounts(self) -> str:
        return ", ".join(f"@{name}" for name in self.preview.inputs["accounts"])

    @property
    def capital(self) -> Decimal:
        return Decimal(self.preview.inputs["capital"])

    @property
    def start(self) -> datetime:
        return datetime.fromisoformat(self.preview.inputs["start"])

    @property
    def end(self) -> datetime:
        return datetime.fromisoformat(self.preview.inputs["end"])


def minutes_text(seconds: int | None) -> str:
    """Return an estimate in words: `less than a minute`, `about 4 minutes`; empty without one."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"


def own(request: HttpRequest, preview_id: int) -> Preview:
    """Return one of this person's previews. Raises Http404."""
    person: Any = request.user
    preview = Preview.objects.filter(pk=preview_id, owner=person).first()
    if preview is None:
        raise Http404(f"there is no preview {preview_id}")
    return preview


def asked_for(request: HttpRequest) -> Preview | None:
    """Return the preview that the page's address names (`?preview=17`), if it is this person's."""
    given = request.GET.get("preview", "")
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        return None
    person: Any = request.user
    return Preview.objects.filter(pk=int(given), owner=person).first()


def ask(request: HttpRequest, form: forms.Form, names: list[str]) -> HttpResponse | None:
    """Request a preview of a valid form and lead to it; None with errors on the form."""
    person: Any = request.user
    values = form.cleaned_data
    try:
        plan = previews.plan_of(
            names, values["capital"], values["sizing_preset"], values["exit_preset"], values.get("days")
        )
        preview = previews.request(person, plan, by=person.get_username(), form=_typed(request, form))
    except InvalidInput as error:
        for field, text in error.problems.items():
            name = FIELDS.get(field, field)
            form.add_error(name if name in form.fields else None, sentence(text))
        return None
    except Rejected as error:
        form.add_error(None, str(error))
        return None
    return redirect(f"{reverse('start')}?preview={preview.pk}#preview")


def _typed(request: HttpRequest, form: forms.Form) -> dict[str, Any]:
    """Return what was typed, field by field."""
    values = {}
    for name, field in form.fields.items():
        several = isinstance(field, forms.MultipleChoiceField)
        values[name] = request.POST.getlist(name) if several else request.POST.get(name, "")
    return values


def shown(preview: Preview) -> Shown:
    """Collect what the page shows of a preview."""
    result: dict[str, Any] = preview.result or {}
    ahead = previews.ahead_of([preview]).get(preview.pk, 0)
    done = 1.0 if preview.state == PreviewState.DONE else preview.progress
    times = [datetime.fromisoformat(point["at"]) for point in result.get("curve", ())]
    equity = [Decimal(point["equity_usd"]) for point in result.get("curve", ())]
    flows = [Decimal(point["flow_usd"]) for point in result.get("curve", ())]
    return Shown(
        preview,
        ahead,
        minutes_text(previews.seconds_left(preview, ahead)),
        int(done * 100),
        charts.stacked_bar([("done", int(done * 1000)), ("left", 1000 - int(done * 1000))]),
        equity_chart(times, equity, flows, Decimal(result["pnl"])) if times else None,
        _numbers(result),
    )


def _numbers(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with its amounts and fractions as numbers, for the template's filters."""
    if not result:
        return {}
    amounts = {name: Decimal(result[name]) for name in ("pnl", "pnl_open", "equity", "capital")}
    rates = {name: None if result[name] is None else float(result[name]) for name in ("twr", "max_drawdown")}
    wins = result["win_rate"]
    split = {
        name: [row | {"pnl": Decimal(row["pnl"])} for row in result[name]]
        for name in ("by_account", "by_token")
    }
    return {
        **result,
        **amounts,
        **rates,
        **split,
        "win_rate": None if wins is None else {name: float(value) for name, value in wins.items()},
        "costs": {name: Decimal(value) for name, value in result["costs"].items()},
        "blocked_count": sum(row["count"] for row in result["blocked"]),
        "reasons": sorted(result["blocked"] + result["declined"], key=lambda row: -row["count"])[:REASONS],
        "extremes": [(name, _trade(result[name])) for name in ("best", "worst") if result[name] is not None],
    }


def _trade(trade: dict[str, Any]) -> dict[str, Any]:
    times = {
        name: datetime.fromisoformat(trade[name]) if trade[name] else None
        for name in ("opened_at", "closed_at")
    }
    return trade | times | {"pnl": Decimal(trade["pnl"])}


def typed_before(preview: Shown | None) -> dict[str, Any]:
    """Return what the owner of a preview had typed, field by field."""
    return {name: value for name, value in preview.preview.form.items() if value} if preview else {}


def context_of(request: HttpRequest) -> dict[str, Any]:
    """Return what the page Start shows of previews: the one that its address names, and how many days one plays."""
    preview = asked_for(request)
    return {"preview": shown(preview) if preview else None, "preview_days": policy().days}


@never_cache
@login_required(login_url="login")
@page_needs("replay.view_preview")
@require_safe
def preview_part(request: HttpRequest, preview_id: int) -> HttpResponse:
    """Render one preview alone, for the page's script to refresh."""
    return render(request, "web/preview.html", {"preview": shown(own(request, preview_id))})


@login_required(login_url="login")
@page_needs("replay.change_preview")
@require_POST
def cancel_preview(request: HttpRequest, preview_id: int) -> HttpResponse:
    """Cancel a preview and return to the page Start with what was typed."""
    person: Any = request.user
    previews.cancel(own(request, preview_id), by=person.get_username())
    return redirect(f"{reverse('start')}?preview={preview_id}#preview")
