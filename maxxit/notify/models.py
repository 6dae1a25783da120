"""Notification endpoints of users, and alerts to staff."""

import secrets
from typing import ClassVar

from django.conf import settings
from django.db import models

from maxxit.events.models import Event
from maxxit.market.models import Delivery


def new_salt() -> str:
    """Return a random salt for the signing secret of an endpoint."""
    return secrets.token_hex(16)


class Endpoint(models.Model):
    """A user's address on a channel; at most one is active per user and channel.

    Its signing secret is derived from SECRET_KEY and `salt` (`maxxit.notify.endpoints.secret_of`) and is not stored.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="endpoints")
    channel = models.CharField(max_length=20)
    address = models.CharField(max_length=500, help_text="for webhook: an https URL")
    salt = models.CharField(max_length=32, default=new_salt, editable=False)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0, db_default=0, editable=False, help_text="in a row")
    rests_until = models.DateTimeField(
        null=True, editable=False, help_text="nothing is sent there until then; its deliveries wait"
    )

    class Meta:
        db_table = "notify_endpoints"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "channel"], condition=models.Q(active=True), name="one_endpoint_per_channel"
            )
        ]

    def __str__(self) -> str:
        return f"{self.channel} of {self.user}: {self.address}"


class Alert(Delivery):
    """A notification of a member of staff about an event, one per channel."""

    event = models.ForeignKey(Event, models.CASCADE, related_name="alerts")

    class Meta:
        db_table = "alerts"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "user", "channel"], name="one_alert_per_channel")
        ]
        indexes = (
            models.Index(fields=["due_at"], name="alerts_due", condition=models.Q(state="pending")),
            models.Index(fields=["sent_at"], name="alerts_sent", condition=models.Q(state="sent")),
            models.Index(fields=["id"], name="alerts_dead", condition=models.Q(state="dead")),
        )

    def __str__(self) -> str:
        return f"{self.event.name} by {self.channel}"
