"""Where each relay and listener is in the event log, and the messages that a listener could not handle."""

from django.db import models


class EventCursor(models.Model):
    """The position of one relay or listener: every event up to it was published or handled."""

    name = models.CharField(max_length=60, primary_key=True, help_text="relay:redis, listener:log")
    position = models.BigIntegerField(help_text="id of the newest event that was published or handled")
    sent = models.BigIntegerField(default=0, help_text="messages so far, repeated ones included")
    refused = models.BigIntegerField(default=0, help_text="messages that the other system will never take")
    head = models.CharField(
        max_length=64, blank=True, default="", help_text="of a file: hash of its newest line"
    )
    last_error = models.TextField(blank=True, default="")
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "event_cursors"
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name} at {self.position}"


class ListenerMessage(models.Model):
    """A message that a listener failed on, or that waits behind one with the same key. Kept until it is handled."""

    listener = models.CharField(max_length=60)
    key = models.CharField(
        max_length=120, help_text="correlation id; messages of one key are handled in order"
    )
    event_id = models.CharField(max_length=120)
    message = models.JSONField()
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    last_error = models.TextField(blank=True, default="")
    dead_at = models.DateTimeField(null=True, help_text="set once it used up its attempts: a dead letter")

    class Meta:
        db_table = "listener_messages"
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=["listener", "event_id"], name="listener_messages_once"),
        )
        indexes = (
            models.Index(
                fields=["listener", "key", "id"],
                condition=models.Q(dead_at=None),
                name="listener_messages_waiting",
            ),
        )

    def __str__(self) -> str:
        return f"{self.listener}: event {self.event_id}"
