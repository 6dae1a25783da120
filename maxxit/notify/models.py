"""Notification endpoints and price rules of users, the deliveries of matches, and alerts to staff."""

import secrets
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from maxxit.core import clock
from maxxit.core.money import COLUMN, plain
from maxxit.events.models import Event
from maxxit.notify import states


def new_salt() -> str:
    """Return a random salt for the signing secret of an endpoint."""
    return secrets.token_hex(16)


class Endpoint(models.Model):
    """A user's address on a channel; at most one is active per user and channel.

    The address is encrypted (`maxxit.notify.endpoints.KEYS`): only the notify worker opens it. Its signing secret and
    the code that confirms it are derived from SECRET_KEY and `salt` (`maxxit.notify.endpoints`) and are not stored.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="endpoints")
    channel = models.CharField(max_length=20)
    content = models.BinaryField(editable=False)
    key_id = models.CharField(max_length=16, editable=False, help_text="of the key that encrypted it")
    hint = models.CharField(max_length=320, help_text="what people see of the address")
    lookup = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="keyed hash by which a message from the address finds its user; empty where the channel only sends",
    )
    salt = models.CharField(max_length=32, default=new_salt, editable=False)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    verified_at = models.DateTimeField(
        null=True, editable=False, help_text="empty: nothing but the code that confirms it is sent there"
    )
    code_tries = models.PositiveSmallIntegerField(
        default=0, db_default=0, editable=False, help_text="wrong codes"
    )
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
        indexes = (
            models.Index(
                fields=["lookup"],
                name="endpoints_lookup",
                condition=~models.Q(lookup="") & models.Q(active=True),
            ),
        )

    def __str__(self) -> str:
        return f"{self.channel} of {self.user}: {self.hint}"


class NotificationSettings(models.Model):
    """What a user is notified of, and when not. Without a row: every kind, at any time."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="notification_settings"
    )
    kinds = ArrayField(
        models.CharField(max_length=20), default=list, help_text="kinds sent to channels; the inbox holds all"
    )
    by_channel = models.JSONField(
        default=dict,
        db_default={},
        help_text="channel -> kinds that it gets in place of `kinds`, and the lowest severity",
    )
    fallback = models.CharField(
        max_length=20,
        blank=True,
        default="",
        db_default="",
        help_text="where a message goes that a channel gave up",
    )
    snoozed_until = models.DateTimeField(null=True, help_text="until then only critical messages are sent")
    quiet_from = models.TimeField(null=True, help_text="in `time_zone`; empty: no quiet hours")
    quiet_to = models.TimeField(null=True)
    time_zone = models.CharField(max_length=60, default="UTC")

    class Meta:
        db_table = "notification_settings"
        verbose_name_plural = "notification settings"
        constraints: ClassVar = [
            models.CheckConstraint(
                name="quiet_hours_have_both_ends",
                condition=models.Q(quiet_from=None, quiet_to=None)
                | models.Q(quiet_from__isnull=False, quiet_to__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"notifications of {self.user}"


class Delivery(models.Model):
    """A message to a user by a channel; `maxxit.notify.worker` sends it."""

    MOVES = states.DELIVERY

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    channel = models.CharField(max_length=20)
    at = models.DateTimeField()
    state = models.CharField(
        max_length=8,
        default=states.DeliveryState.PENDING,
        db_default=states.DeliveryState.PENDING,
        choices=[(s, s) for s in states.DeliveryState],
        editable=False,
    )
    attempts = models.PositiveIntegerField(default=0, db_default=0)
    due_at = models.DateTimeField(
        db_default=Now(),
        help_text="the next try; while one is under way, when another worker may take it over",
    )
    sent_at = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True, default="", db_default="")

    class Meta:
        abstract = True


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
            models.Index(fields=["user", "at"], name="alerts_user_at"),
        )

    def __str__(self) -> str:
        return f"{self.event.name} by {self.channel}"


class AlertedEvent(models.Model):
    """An event whose alerts are written: who gets it, and where, was decided then, and is not decided again."""

    event = models.OneToOneField(Event, models.CASCADE, primary_key=True, related_name="+")
    at = models.DateTimeField()

    class Meta:
        db_table = "alerted_events"
        indexes = (models.Index(fields=["at"], name="alerted_events_at"),)

    def __str__(self) -> str:
        return f"alerts of event {self.event_id}"


class DigestSlot(models.Model):
    """A digest of a user that was written, or had nothing to say: each once."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    kind = models.CharField(max_length=20)
    due_at = models.DateTimeField()

    class Meta:
        db_table = "digest_slots"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["due_at", "user", "kind"], name="one_digest_a_slot")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.user} {self.due_at:%Y-%m-%d %H:%M}"


def new_rule_id() -> str:
    """Return a random rule id: `r_` and eight hexadecimal digits."""
    return f"r_{secrets.token_hex(4)}"


class Condition(models.TextChoices):
    """Kinds of conditions of price rules."""

    GT = "gt", "price above"
    LT = "lt", "price below"
    CHANGE_PCT = "change_pct", "price changes by percent, up or down, within a time"
    VOLUME_USD = "volume_usd", "volume of the last 24 hours above"
    SPREAD_BPS = "spread_bps", "spread between price sources above"
    FUNDING = "funding", "funding rate of eight hours, paid by either side, from"
    ANY = "any", "any new price"
    ALL = "all", "all of several conditions"
    ANY_OF = "any_of", "any of several conditions"


class PriceRule(models.Model):
    """A user's condition on prices; each match creates a delivery."""

    rule_id = models.CharField(max_length=10, unique=True, default=new_rule_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="price_rules")
    symbols = ArrayField(models.CharField(max_length=20), help_text="instruments, or * for every one")
    condition = models.CharField(max_length=10, choices=Condition.choices)
    threshold = models.DecimalField(
        **COLUMN,
        null=True,
        blank=True,
        help_text="USD; percent for change_pct and funding, basis points for spread_bps",
    )
    window_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="for change_pct: since how long ago"
    )
    parts = models.JSONField(
        default=list,
        db_default=[],
        blank=True,
        help_text="for all and any_of: condition, threshold and window_seconds of each",
    )
    channel = models.CharField(max_length=20, default="inbox", help_text="how to tell the user")
    metadata = models.JSONField(default=dict, blank=True)
    active = models.BooleanField(default=True, help_text="off: paused or deleted, it matches nothing")
    removed_at = models.DateTimeField(null=True, editable=False, help_text="when it was deleted")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        db_table = "price_rules"
        ordering = ("pk",)
        constraints: ClassVar = [
            models.CheckConstraint(
                name="rule_is_whole",
                condition=models.Q(condition="any")
                | models.Q(
                    condition__in=["gt", "lt", "volume_usd", "spread_bps", "funding"],
                    threshold__isnull=False,
                    threshold__gt=0,
                )
                | models.Q(condition__in=["all", "any_of"], parts__1__isnull=False)
                | models.Q(
                    condition="change_pct",
                    threshold__isnull=False,
                    threshold__gt=0,
                    window_seconds__isnull=False,
                    window_seconds__gte=60,
                ),
            )
        ]
        indexes = (
            models.Index(
                fields=["condition"],
                name="price_rules_with_facts",
                condition=models.Q(
                    active=True, condition__in=["volume_usd", "spread_bps", "funding", "all", "any_of"]
                ),
            ),
        )

    @property
    def state(self) -> str:
        """Return `active`, `paused` or `deleted`."""
        return "active" if self.active else "deleted" if self.removed_at else "paused"

    def __str__(self) -> str:
        threshold = plain(self.threshold) if self.threshold else ""
        return f"{self.rule_id} {','.join(self.symbols)} {self.condition} {threshold}".strip()


class RuleMatch(models.Model):
    """A price for which a rule's condition held; at most one per rule, symbol and minute."""

    rule = models.ForeignKey(PriceRule, models.CASCADE, related_name="matches")
    symbol = models.CharField(max_length=20)
    price = models.DecimalField(**COLUMN, help_text="USD")
    value = models.DecimalField(
        **COLUMN,
        help_text="what was compared: USD, percent or basis points; of combined conditions the price",
    )
    at = models.DateTimeField(help_text="when the price was true")
    bucket = models.DateTimeField(help_text="start of the minute")

    class Meta:
        verbose_name_plural = "rule matches"
        db_table = "rule_matches"
        ordering = ("-at",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rule", "symbol", "bucket"], name="one_match_a_minute")
        ]
        indexes = (models.Index(fields=["at"], name="rule_matches_at"),)

    def __str__(self) -> str:
        return f"{self.rule_id} {self.symbol} {self.price.normalize():f}"


class RuleDelivery(Delivery):
    """The message about a match; at most one per rule, symbol and five minutes, and limited per user and hour."""

    match = models.OneToOneField(RuleMatch, models.CASCADE, related_name="delivery")
    rule = models.ForeignKey(PriceRule, models.CASCADE, related_name="deliveries")
    symbol = models.CharField(max_length=20)
    bucket = models.DateTimeField(help_text="start of the five minutes")

    class Meta:
        verbose_name_plural = "rule deliveries"
        db_table = "rule_deliveries"
        ordering = ("-at",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rule", "symbol", "bucket"], name="one_delivery_in_five_minutes")
        ]
        indexes = (
            models.Index(fields=["user", "at"], name="rule_deliveries_user_at"),
            models.Index(fields=["due_at"], name="rule_deliveries_due", condition=models.Q(state="pending")),
            models.Index(fields=["sent_at"], name="rule_deliveries_sent", condition=models.Q(state="sent")),
            models.Index(fields=["id"], name="rule_deliveries_dead", condition=models.Q(state="dead")),
        )

    def __str__(self) -> str:
        return f"{self.rule_id} {self.symbol} by {self.channel}"
