"""Admin pages of pipeline runs, stage runs, worker heartbeats and releases, with buttons to start runs."""

from datetime import timedelta

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminSelectWidget

from maxxit.adminkit import (
    EMPTY,
    LargeTableAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    RecentValues,
    link,
    log_action,
    redirect_from_dialog,
)
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.events.models import Event
from maxxit.pipeline.models import (
    FRESH,
    CanaryMark,
    MetricCursor,
    MetricTotal,
    PipelineRun,
    Release,
    StageRun,
)
from maxxit.pipeline.stages import SWEEPS
from maxxit.pipeline.start import start_pipeline, start_stage

SIGNALS = 20
"""Signals that a run links to at most."""
LINK = '<a class="text-primary-600 dark:text-primary-500" href="{}">signal {}</a>'


class StageForm(BaseDialogForm):
    stage = forms.ChoiceField(
        choices=[(stage.name, f"{stage.name}: {stage.what}") for stage in SWEEPS],
        widget=UnfoldAdminSelectWidget,
    )


def flower_link(task_id: str) -> SafeString | str:
    """Link to a Celery task in Flower."""
    if not task_id:
        return EMPTY
    return format_html(
        '<a class="font-mono text-primary-600 dark:text-primary-500" href="{}/task/{}" title="{}">{}</a>',
        settings.FLOWER_URL,
        task_id,
        task_id,
        task_id[:8],
    )


class StartButtons(LargeTableAdmin):
    """Buttons that start a stage or a pipeline run, each with a confirmation form, so that no link can start one."""

    actions_list = ("run_pipeline", "run_stage")

    @action(
        description="Run the pipeline now",
        url_path="run_chain",  # the address from before the rename
        icon="play_arrow",
        permissions=["operate"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": "Run the pipeline now?",
            "description": "ingest → classify → generate → execute → monitor, each on its own queue.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Run",
        },
    )
    def run_pipeline(self, request: HttpRequest, form: BaseDialogForm) -> HttpResponse:
        try:
            run = start_pipeline("admin", by=request.user.get_username())
        except MaxxitError as error:
            messages.error(request, str(error))
        else:
            log_action(request, [run], "Started a pipeline run")
            messages.success(request, f"run {run.pk} started")
        return redirect_from_dialog("pipeline_pipelinerun_changelist")

    @action(
        description="Run a stage now",
        icon="skip_next",
        permissions=["operate"],
        dialog={
            "title": "Run one stage now",
            "description": "It wakes the next stage when it moved rows.",
            "form_class": StageForm,
            "form_submit_text": "Run",
        },
    )
    def run_stage(self, request: HttpRequest, form: StageForm) -> HttpResponse:
        name = form.cleaned_data["stage"]
        try:
            task_id = start_stage(name, by=request.user.get_username())
        except MaxxitError as error:
            messages.error(request, str(error))
        else:
            log_action(
                request,
                [StageRun(stage=name, started_at=clock.now())],
                f"Started stage {name}: task {task_id}",
            )
            messages.success(request, format_html("stage {} started: task {}", name, flower_link(task_id)))
        return redirect_from_dialog("pipeline_stagerun_changelist")


class StageRunInline(ReadOnlyInline):
    model = StageRun
    fields = ("stage", "started_at", "duration_ms", "counted_in", "counted_out", "task", "worker", "error")
    readonly_fields = ("task",)
    ordering = ("id",)

    @display(description="task in Flower")
    def task(self, row: StageRun) -> SafeString | str:
        return flower_link(row.task_id)


@admin.register(PipelineRun)
class PipelineRunAdmin(StartButtons):
    list_display = ("__str__", "started_at", "took", "result", "moved", "asked_by", "slot", "root")
    list_filter = ("cause",)
    search_fields = ("asked_by", "root_task_id__exact")
    inlines = (StageRunInline,)
    readonly_fields = ("root", "took", "signals")

    def get_queryset(self, request: HttpRequest) -> QuerySet[PipelineRun]:
        rows: QuerySet[PipelineRun] = super().get_queryset(request)
        moved = StageRun.objects.filter(run=OuterRef("pk")).order_by().values("run")
        return rows.annotate(out=Subquery(moved.annotate(out=Sum("counted_out")).values("out")))

    @display(description="result", label={"done": "success", "running": "info", "failed": "danger"})
    def result(self, row: PipelineRun) -> str:
        return "failed" if row.error else "done" if row.finished_at else "running"

    @display(description="took")
    def took(self, row: PipelineRun) -> str:
        """Seconds from the start to the end of the last stage."""
        return f"{(row.finished_at - row.started_at).total_seconds():.1f} s" if row.finished_at else EMPTY

    @display(description="rows moved")
    def moved(self, row: PipelineRun) -> int:
        return getattr(row, "out", None) or 0

    @display(description="signals")
    def signals(self, row: PipelineRun) -> SafeString | str:
        """Link to the progress of the signals that the run's generate pass made."""
        generated = StageRun.objects.filter(run=row, stage="generate", duration_ms__isnull=False).first()
        if generated is None:
            return EMPTY
        until = generated.started_at + timedelta(milliseconds=generated.duration_ms or 0)
        made = Event.objects.filter(name="signal.pending", at__range=(generated.started_at, until))
        subjects = list(made.order_by("pk").values_list("subject", flat=True)[: SIGNALS + 1])
        ids = [subject.rpartition("/")[2] for subject in subjects[:SIGNALS]]
        listed = format_html_join(", ", LINK, [(reverse("signal", args=[pk]), pk) for pk in ids])
        more = " and others" if len(subjects) > SIGNALS else ""
        return format_html("{}{}", listed, more) if ids else EMPTY

    @display(description="root task")
    def root(self, row: PipelineRun) -> SafeString | str:
        return flower_link(row.root_task_id)


@admin.register(StageRun)
class StageRunAdmin(StartButtons):
    """Passes of stages, within a run or as sweeps."""

    list_display = (
        "stage",
        "started_at",
        "result",
        "duration_ms",
        "counted_in",
        "counted_out",
        "run_link",
        "task",
        "worker",
    )
    list_filter = (("stage", RecentValues), "idle", ("error", admin.EmptyFieldListFilter))
    list_select_related = ("run",)
    search_fields = ("stage", "task_id__exact", "worker")
    readonly_fields = ("task", "run_link")

    @display(description="result", label={"moved": "success", "failed": "danger"})
    def result(self, row: StageRun) -> str:
        return "failed" if row.error else "moved" if row.counted_out else "idle"

    @display(description="run", ordering="run")
    def run_link(self, row: StageRun) -> SafeString | str:
        return link("pipeline.pipelinerun", row.run_id)

    @display(description="task in Flower")
    def task(self, row: StageRun) -> SafeString | str:
        return flower_link(row.task_id)


class FreshnessFilter(admin.SimpleListFilter):
    title = "freshness"
    parameter_name = "fresh"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("no", "silent"), ("yes", "working")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[CanaryMark]) -> QuerySet[CanaryMark]:
        fresh = Q(signed_at__gt=clock.now() - FRESH)
        return queryset.filter({"no": ~fresh, "yes": fresh}.get(self.value() or "", Q()))


@admin.register(CanaryMark)
class CanaryMarkAdmin(ReadOnlyAdmin):
    """The last heartbeat of a worker on each queue."""

    list_display = ("queue", "status", "signed_at", "worker")
    list_filter = (FreshnessFilter,)

    @display(description="state", label={"working": "success", "silent": "danger"})
    def status(self, row: CanaryMark) -> str:
        return "working" if clock.now() - row.signed_at < FRESH else "silent"


@admin.register(Release)
class ReleaseAdmin(ReadOnlyAdmin):
    list_display = ("fingerprint", "declared_at")


@admin.register(MetricTotal)
class MetricTotalAdmin(ReadOnlyAdmin):
    list_display = ("name", "labels", "value")
    list_filter = ("name",)


@admin.register(MetricCursor)
class MetricCursorAdmin(ReadOnlyAdmin):
    list_display = ("table", "last_id")
