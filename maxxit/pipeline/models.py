"""What the machine did: runs of the whole chain and of single stages."""

from datetime import timedelta
from typing import ClassVar

from django.db import models

FRESH = timedelta(seconds=180)
"""A worker that has signed within this time works: three rounds of the canary."""


class PipelineRun(models.Model):
    """One pass of the chain ingest → classify → generate → execute → monitor."""

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
    """One pass of one stage, within a pipeline run or as a sweep."""

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
        indexes = (models.Index(fields=["stage", "-started_at"], name="stage_runs_newest"),)

    def __str__(self) -> str:
        return f"{self.stage} {self.started_at:%Y-%m-%d %H:%M:%S}"


class CanaryMark(models.Model):
    """When a worker of a queue last did something: proof that it works, not only that it is up."""

    queue = models.CharField(max_length=20, primary_key=True)
    worker = models.CharField(max_length=100)
    signed_at = models.DateTimeField()

    class Meta:
        db_table = "canary_marks"
        ordering = ("queue",)

    def __str__(self) -> str:
        return f"{self.queue} by {self.worker}"


class Release(models.Model):
    """The code and configuration that may execute orders from a moment on; the newest row is in force."""

    fingerprint = models.CharField(max_length=12, help_text="of every file that decides")
    declared_at = models.DateTimeField()

    class Meta:
        db_table = "releases"
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.fingerprint
