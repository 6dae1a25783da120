"""Admin of trained models, their forecasts and trainings: people approve, reject and retire models here."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from maxxit.adminkit import (
    EMPTY,
    LargeTableAdmin,
    ReadOnlyAdmin,
    list_link,
    log_action,
    preformatted,
    pretty,
    redirect_from_dialog,
)
from maxxit.core.errors import MaxxitError
from maxxit.learning import registry
from maxxit.learning.models import Forecast, TrainedModel, TrainingRun
from maxxit.learning.states import ModelState


class ReasonForm(BaseDialogForm):
    reason = forms.CharField(
        max_length=300, widget=UnfoldAdminTextInputWidget, help_text="who reads the log will ask"
    )


@admin.register(TrainedModel)
class TrainedModelAdmin(ReadOnlyAdmin):
    """List models with their state and the check that holds them back; a model's page has the figures of its gate."""

    list_display = (
        "id", "kind", "purpose", "horizon_hours", "standing", "gate", "held_back_by", "data_to", "served_at",
    )  # fmt: skip
    list_filter = ("state", "purpose", "kind")
    search_fields = ("kind", "data_sha256")
    actions_detail = ("approve", "reject", "retire")
    fieldsets = (
        (None, {"fields": (("kind", "purpose", "horizon_hours"), ("standing", "approved_by"), "figures")}),
        ("Times (UTC)", {"fields": (("created_at", "shadow_at", "served_at"),)}),
        (
            "Data",
            {"fields": (("data_from", "data_to"), "symbols", "data_sha256", ("release", "seed", "tried"))},
        ),
        ("Measured", {"fields": ("measured", ("forecasts_link", "events"))}),
    )
    readonly_fields = ("standing", "figures", "measured", "forecasts_link", "events")

    @display(
        description="state",
        ordering="state",
        label={"candidate": "info", "shadow": "warning", "approved": "info", "serving": "success"},
    )
    def standing(self, row: TrainedModel) -> str:
        return row.state

    @display(description="gate", label={"passed": "success", "failed": "danger"})
    def gate(self, row: TrainedModel) -> str:
        return "failed" if self.held_back_by(row) else "passed"

    @display(description="held back by")
    def held_back_by(self, row: TrainedModel) -> str:
        return next((check["name"] for check in row.checks if not check["passed"]), "")

    @display(description="last verdict of the gate")
    def figures(self, row: TrainedModel) -> SafeString | str:
        """Each check with its value, its limit and whether it passed."""
        rows = [
            (one["name"], one["value"], one["limit"], "passed" if one["passed"] else "failed")
            for one in row.checks
        ]
        if not rows:
            return EMPTY
        return format_html(
            "<table><thead><tr><th>check</th><th>value</th><th>limit</th><th></th></tr></thead><tbody>{}</tbody></table>",
            format_html_join("", "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", rows),
        )

    @display(description="metrics")
    def measured(self, row: TrainedModel) -> SafeString:
        return preformatted(pretty(row.metrics))

    @display(description="forecasts")
    def forecasts_link(self, row: TrainedModel) -> SafeString | str:
        return list_link("learning.forecast", "forecasts", model__id__exact=row.pk)

    @display(description="events")
    def events(self, row: TrainedModel) -> SafeString | str:
        return list_link("events.event", "events", q=f"learning.trainedmodel/{row.pk}")

    def has_approve_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whether it waits in shadow, or served before, and this person may."""
        return self._is(object_id, (ModelState.SHADOW, ModelState.RETIRED)) and self.has_operate_permission(
            request
        )

    def has_reject_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whether it does not serve yet, and this person may."""
        waiting = (ModelState.CANDIDATE, ModelState.SHADOW, ModelState.APPROVED)
        return self._is(object_id, waiting) and self.has_operate_permission(request)

    def has_retire_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whether it serves, and this person may."""
        return self._is(object_id, (ModelState.SERVING,)) and self.has_operate_permission(request)

    def _is(self, object_id: str | None, states: tuple[ModelState, ...]) -> bool:
        if object_id is None:
            return True
        rows = TrainedModel.objects.filter(pk=object_id, state__in=states)
        return rows.exclude(state=ModelState.RETIRED, served_at=None).exists()

    @action(
        description="Approve and use",
        icon="check",
        permissions=["approve"],
        dialog={
            "title": "Use the forecasts of this model?",
            "description": "Its gate is judged again. The model that serves this purpose and horizon is retired; it "
            "can be brought back on its own page.",
            "form_class": ReasonForm,
            "form_submit_text": "Approve and use",
        },
    )
    def approve(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        def move(row: TrainedModel, by: str, why: str) -> None:
            registry.promote(row, by=by, why=why)

        return self._move(request, form, object_id, move)

    @action(
        description="Reject",
        icon="close",
        permissions=["reject"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Reject this model?",
            "description": "It never serves. The model that serves is not touched.",
            "form_class": ReasonForm,
            "form_submit_text": "Reject",
        },
    )
    def reject(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        return self._move(request, form, object_id, self._retire)

    @action(
        description="Retire",
        icon="block",
        permissions=["retire"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Stop using this model?",
            "description": "No forecast of this purpose and horizon is used until another model serves: stops fall "
            "back to their fixed distance.",
            "form_class": ReasonForm,
            "form_submit_text": "Retire",
        },
    )
    def retire(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        return self._move(request, form, object_id, self._retire)

    @staticmethod
    def _retire(row: TrainedModel, by: str, why: str) -> None:
        registry.retire(row, by=by, why=why)

    def _move(self, request: HttpRequest, form: ReasonForm, object_id: str, move: Any) -> HttpResponse:
        """Move the model, and say in which state it is now, or why it did not move."""
        row, reason = registry.named(int(object_id)), form.cleaned_data["reason"]
        try:
            move(row, request.user.get_username(), reason)
        except MaxxitError as error:
            messages.error(request, str(error))
        else:
            log_action(request, [row], f"{row.state}: {reason}")
            messages.success(request, f"model {row.pk} ({row}) is {row.state}")
        return redirect_from_dialog("learning_trainedmodel_change", object_id)


@admin.register(Forecast)
class ForecastAdmin(LargeTableAdmin):
    """List forecasts."""

    list_display = ("id", "model", "symbol", "at", "sigma", "mean", "made_at")
    list_filter = ("symbol",)
    list_select_related = ("model",)
    owners = ("model__id__exact",)


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadOnlyAdmin):
    """List what became of each training of a night."""

    list_display = ("night", "kind", "horizon_hours", "outcome", "attempts", "model", "reason", "ended_at")
    list_filter = ("outcome", "kind")
    list_select_related = ("model",)
