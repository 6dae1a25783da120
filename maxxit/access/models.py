"""API keys, failed login attempts, sessions, invitations, wallets and settings of users."""

from importlib import import_module
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models

from maxxit.core import clock

READ, RULES, SAFES, STOP, TRADE, KEYS, ADMIN = "read", "rules", "safes", "stop", "trade", "keys", "admin"


class ApiKey(models.Model):
    """An API key of a user. Only its hash is stored; the key is shown once, when it is created."""

    SCOPES: ClassVar = [
        (READ, "read"),
        (RULES, "rules"),
        (SAFES, "safes"),
        (STOP, "stop"),
        (TRADE, "trade"),
        (KEYS, "keys"),
        (ADMIN, "admin"),
    ]

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=60, help_text="what it is for")
    prefix = models.CharField(max_length=12, help_text="the first characters, to tell keys apart")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(
        models.CharField(max_length=10, choices=SCOPES),
        default=list,
        help_text="read: GET; rules: make and remove the owner's price rules; safes: plan, verify and revoke their "
        "Safes; stop: stop their deployments through an assistant; trade: set up, start and stop their agents and "
        "deployments, and close their positions; keys: make and revoke their keys; admin: /api/admin too",
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


class IdempotentRequest(models.Model):
    """A POST with an idempotency key and the answer to it, kept for 24 hours (`maxxit.access.idempotency`)."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(
        max_length=64, editable=False, help_text="SHA-256 of method, path, query and body"
    )
    status = models.PositiveSmallIntegerField(null=True, help_text="of the answer; empty while it runs")
    body = models.TextField(blank=True, editable=False, help_text="the answer without secrets")
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "idempotent_requests"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "key"], name="one_request_per_idempotency_key")
        ]

    def __str__(self) -> str:
        return f"{self.key} of {self.owner}"


class LoginAttempts(models.Model):
    """Attempts of one subject and its block.

    Failed ones of `account:alice`, `address:203.0.113.9` and `keys:203.0.113.9`; all of `sign-up:203.0.113.9`.
    """

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
        """Return account, address, keys or sign-up."""
        return self.subject.partition(":")[0]

    def __str__(self) -> str:
        return self.subject


BROWSERS = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
"""(part of a User-Agent, browser), the most special first: Edge and Opera also say Chrome, Chrome also says Safari."""
SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)  # fmt: skip


class BrowserSession(AbstractBaseSession):
    """A browser session (`maxxit.access.sessions`) with the user who is logged in, so that they can list and end it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="browser_sessions"
    )
    opened_at = models.DateTimeField(null=True, help_text="UTC; when its user logged in")
    last_seen = models.DateTimeField(help_text="UTC, to the minute")
    address = models.CharField(max_length=45, blank=True, help_text="IP address at the login")
    browser = models.CharField(max_length=300, blank=True, help_text="User-Agent at the login")

    class Meta:
        db_table = "browser_sessions"
        verbose_name = "session"

    @classmethod
    def get_session_store_class(cls) -> type[SessionBase]:
        """Return the engine that reads and writes these rows; it imports this module."""
        store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
        return store

    @property
    def browser_name(self) -> str:
        """Return the browser and its system in words, as in `Firefox on Windows`, as far as they are recognised."""
        browser = next((name for mark, name in BROWSERS if mark in self.browser), "")
        system = next((name for mark, name in SYSTEMS if mark in self.browser), "")
        return " on ".join(filter(None, (browser, system))) or self.browser[:60] or "unknown"

    def __str__(self) -> str:
        return f"session of {self.user}" if self.user_id else "session without a user"


class Invitation(models.Model):
    """A single-use code that lets a person create an account. Only its hash is stored; the link is shown once."""

    email = models.CharField(max_length=254, blank=True, help_text="whom it is for; nothing is sent there")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(editable=False)
    created_by = models.CharField(max_length=200, editable=False)
    expires_at = models.DateTimeField(editable=False, help_text="UTC")
    used_at = models.DateTimeField(null=True, editable=False)
    used_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    withdrawn_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "invitations"
        ordering = ("-id",)

    @property
    def standing(self) -> str:
        """Return open, used, withdrawn or expired; only an open one works."""
        if self.used_at:
            return "used"
        if self.withdrawn_at:
            return "withdrawn"
        return "expired" if self.expires_at <= clock.now() else "open"

    def __str__(self) -> str:
        return f"invitation {self.pk}"


class WalletLogin(models.Model):
    """An Ethereum address whose holder logs in as `user` by signing a message (EIP-4361)."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="wallets")
    address = models.CharField(max_length=42, unique=True, help_text="with its EIP-55 checksum")
    linked_at = models.DateTimeField()
    last_used = models.DateTimeField(null=True, help_text="UTC; the newest login with it")

    class Meta:
        db_table = "wallet_logins"
        ordering = ("id",)
        verbose_name = "wallet"

    def __str__(self) -> str:
        return self.address


class UserSettings(models.Model):
    """What a user chose for the pages. A user without a row has the defaults."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="user_settings")
    time_zone = models.CharField(max_length=60, blank=True, help_text="IANA name; empty: UTC")

    class Meta:
        db_table = "user_settings"
        verbose_name = verbose_name_plural = "user settings"

    def __str__(self) -> str:
        return f"settings of {self.user}"
