"""The table of previews: inputs, progress and result of each."""

from typing import ClassVar

from django.conf import settings
from django.db import models

from maxxit.replay import states


class Preview(models.Model):
    """What some accounts with a capital and presets would have traded over recorded days."""

    MOVES = states.PREVIEW

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="previews")
    state = models.CharField(
        max_length=8,
        default=states.PreviewState.QUEUED,
        choices=[(s, s) for s in states.PreviewState],
        editable=False,
    )
    inputs = models.JSONField(
        help_text="accounts, capital in USDC, sizing_preset, exit_preset, start, end (UTC)"
    )
    digest = models.CharField(
        max_length=64,
        help_text="SHA-256 of inputs, stored posts, configuration and code: equal ones share a result",
    )
    form = models.JSONField(default=dict, blank=True, help_text="what its owner typed on the page Start")
    attempts = models.PositiveSmallIntegerField(default=0)
    progress = models.FloatField(default=0, help_text="fraction of the span that was played")
    played_until = models.DateTimeField(null=True, help_text="UTC; of the recorded span")
    seen_at = models.DateTimeField(
        null=True, help_text="UTC; last sign of life of the process that computes it"
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    copied = models.BooleanField(default=False, help_text="the result of the same inputs was there")
    result = models.JSONField(null=True)
    error = models.TextField(blank=True, default="")

    class Meta:
        db_table = "previews"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_preview_at_a_time",
            )
        ]
        indexes = (
            models.Index(fields=["digest"], name="previews_digest"),
            models.Index(fields=["created_at"], name="previews_created"),
            models.Index(fields=["owner", "-id"], name="previews_owner"),
            models.Index(
                fields=["id"], name="previews_under_way", condition=models.Q(state__in=["queued", "running"])
            ),
        )

    def __str__(self) -> str:
        return f"preview {self.pk} of {self.owner}"
