"""API keys, and failed login attempts."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from maxxit.core import clock

READ, RULES, SAFES, ADMIN = "read", "rules", "safes", "admin"


class ApiKey(models.Model):
    """An API key of a user. Only its hash is stored; the key is shown once, when it is created."""

    SCOPES: ClassVar = [(READ, "read"), (RULES, "rules"), (SAFES, "safes"), (ADMIN, "admin")]

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=60, help_text="what it is for")
    prefix = models.CharField(max_length=12, help_text="the first characters, to tell keys apart")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(
        models.CharField(max_length=10, choices=SCOPES),
        default=list,
        help_text="read: GET; rules: make and remove the owner's price rules; safes: plan, verify and revoke their "
        "Safes; admin: /api/admin too",
    )
    created_at = models.DateTimeField()
    last_used = models.DateTimeField(null=True, help_text="UTC, to the minute")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "api_keys"
        ordering = ("-id",)
        verbose_name = "API key"

    @property
    def standing(self) -> str:
        """Return standing, revoked or expired; only a standing key works."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= clock.now() else "standing"

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.owner}"


class LoginAttempts(models.Model):
    """Failed attempts of one subject (`account:alice`, `address:203.0.113.9`, `keys:203.0.113.9`) and its block."""

    subject = models.CharField(max_length=170, unique=True)
    failures = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(db_index=True)
    blocked_until = models.DateTimeField(null=True, help_text="UTC; ends by itself")

    class Meta:
        db_table = "login_attempts"
        ordering = ("-last_at",)
        verbose_name = verbose_name_plural = "login attempts"

    @property
    def kind(self) -> str:
        """Return account, address or keys."""
        return self.subject.partition(":")[0]

    def __str__(self) -> str:
        return self.subject
