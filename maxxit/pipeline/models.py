"""Pipeline runs, stage runs, worker heartbeats, declared releases, and the counters of `/metrics`."""

from datetime import timedelta
from typing import ClassVar

from django.db import models

FRESH = timedelta(seconds=180)
"""A worker whose last heartbeat is newer than this is alive: three rounds of the canary."""


class PipelineRun(models.Model):
    """One run of the pipeline ingest → classify → generate → execute → monitor."""

    CAUSES: ClassVar = [("schedule", "Schedule"), ("command", "Command"), ("api", "API"), ("admin", "Admin")]

    slot = models.DateTimeField(unique=True, null=True, help_text="the scheduled moment; a slot runs once")
    cause = models.CharField(max_length=10, choices=CAUSES)
    asked_by = models.CharField(max_length=80, blank=True)
    root_task_id = models.CharField(max_length=50, blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        db_table = "pipeline_runs"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"run {self.pk} ({self.cause})"


class StageRun(models.Model):
    """One pass of a stage, within a pipeline run or as a sweep."""

    run = models.ForeignKey(PipelineRun, models.CASCADE, null=True, related_name="stages")
    stage = models.CharField(max_length=20)
    task_id = models.CharField(max_length=50, blank=True, help_text="Celery's id; Flower knows it")
    worker = models.CharField(max_length=100, blank=True)
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField(null=True)
    counted_in = models.PositiveIntegerField(default=0, help_text="rows that were due")
    counted_out = models.PositiveIntegerField(default=0, help_text="rows that went further")
    detail = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    idle = models.BooleanField(
        default=False, help_text="found nothing to do; only the newest idle pass is kept"
    )

    class Meta:
        db_table = "stage_runs"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["stage", "-started_at"], name="stage_runs_newest"),
            models.Index(fields=["started_at"], name="stage_runs_failed", condition=~models.Q(error="")),
        )

    def __str__(self) -> str:
        return f"{self.stage} {self.started_at:%Y-%m-%d %H:%M:%S}"


class CanaryMark(models.Model):
    """The last heartbeat task that a worker of a queue ran: proof that it processes tasks."""

    queue = models.CharField(max_length=20, primary_key=True)
    worker = models.CharField(max_length=100)
    signed_at = models.DateTimeField()

    class Meta:
        db_table = "canary_marks"
        ordering = ("queue",)

    def __str__(self) -> str:
        return f"{self.queue} by {self.worker}"


class Release(models.Model):
    """A fingerprint of code and configuration that may execute orders; the newest row applies."""

    fingerprint = models.CharField(max_length=12, help_text="of every file that decides")
    declared_at = models.DateTimeField()

    class Meta:
        db_table = "releases"
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.fingerprint


class MetricTotal(models.Model):
    """One counter of `/metrics` with its labels; it only grows."""

    name = models.CharField(max_length=60)
    labels = models.JSONField(default=dict)
    value = models.DecimalField(max_digits=30, decimal_places=9, default=0)

    class Meta:
        db_table = "metric_totals"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "labels"], name="one_total_per_labels")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.labels}: {self.value:g}"


class MetricCursor(models.Model):
    """The last row of a table that the counters of `/metrics` include."""

    table = models.CharField(max_length=60, primary_key=True)
    last_id = models.BigIntegerField()

    class Meta:
        db_table = "metric_cursors"

    def __str__(self) -> str:
        return f"{self.table} up to {self.last_id}"
