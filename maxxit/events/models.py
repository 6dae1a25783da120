"""The append-only event log: what happened, to which row, under which correlation id."""

from django.db import models


class Event(models.Model):
    """One event, such as a state change of a row. Database triggers refuse updates and deletes."""

    at = models.DateTimeField(help_text="UTC; the recorded clock in a replay")
    name = models.CharField(
        max_length=60, help_text="for example order.planned, execution.blocked, position.closed"
    )
    subject = models.CharField(max_length=80, help_text="the row it happened to: app.model/id")
    correlation_id = models.UUIDField(null=True, help_text="derived from the post that caused it")
    data = models.JSONField(default=dict)

    class Meta:
        db_table = "events"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["subject"], name="events_subject"),
            models.Index(fields=["correlation_id"], name="events_correlation"),
            models.Index(fields=["name", "at"], name="events_name_at"),
            models.Index(fields=["at"], name="events_at"),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.subject}"


class EventSeal(models.Model):
    """The hash over the rows of a log up to `last_id`, see `maxxit.events.seals`. Triggers refuse changes."""

    log = models.CharField(max_length=10, help_text="events, or admin: the changes made in the admin")
    at = models.DateTimeField(help_text="UTC")
    last_id = models.BigIntegerField(help_text="of the newest row that it covers")
    rows = models.PositiveIntegerField(help_text="since the seal before it")
    head = models.CharField(max_length=64, help_text="SHA-256, in hex, of the newest row and all before it")

    class Meta:
        db_table = "event_seals"
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=["log", "last_id"], name="event_seals_once"),)

    def __str__(self) -> str:
        return f"{self.log} up to {self.last_id}"
