"""Messages of connected chats that were acted on, and codes that connect a chat or confirm a stop."""

from typing import ClassVar

from django.conf import settings
from django.db import models


class ChatUpdate(models.Model):
    """A message of a connected chat. It is stored before anything is done, so that a repeated one acts once."""

    update_id = models.BigIntegerField(unique=True, help_text="Telegram's")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="chat_updates")
    command = models.CharField(max_length=20, help_text="without its argument; empty for other text")
    at = models.DateTimeField(db_index=True, help_text="UTC; when it was received")

    class Meta:
        db_table = "chat_updates"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"/{self.command} of {self.user}"


class ChatCode(models.Model):
    """A single-use code. Only its hash is stored."""

    CONNECT, STOP = "connect", "stop"
    PURPOSES: ClassVar = [(CONNECT, "connect a chat"), (STOP, "confirm a stop")]

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="chat_codes")
    purpose = models.CharField(max_length=10, choices=PURPOSES)
    sha256 = models.CharField(max_length=64, editable=False, db_index=True)
    target = models.CharField(max_length=40, blank=True, help_text="what to stop")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="UTC")
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "chat_codes"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.purpose} of {self.user}"
