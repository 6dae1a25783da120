"""Model of the nonces that were given to actions of each account, and of what their orders may trade."""

from typing import ClassVar

from django.db import models

from maxxit.core.money import COLUMN


class HyperliquidAction(models.Model):
    """One action of an account: its nonce, given once, and its notional. Hyperliquid refuses a nonce that was used."""

    venue = models.CharField(max_length=40)
    account = models.CharField(max_length=80)
    name = models.CharField(max_length=100, help_text="what is sent: a client order id, or a part of one")
    nonce = models.BigIntegerField(help_text="milliseconds since 1970, or one more than the newest nonce")
    notional_usd = models.DecimalField(**COLUMN, help_text="of an entry, at its limit price; zero for others")
    at = models.DateTimeField()

    class Meta:
        db_table = "hyperliquid_actions"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["venue", "account", "name"], name="hyperliquid_one_nonce_per_name"
            ),
            models.UniqueConstraint(
                fields=["venue", "account", "nonce"], name="hyperliquid_a_nonce_is_used_once"
            ),
        ]
        indexes = (models.Index(fields=["venue", "account", "at"], name="hyperliquid_actions_recent"),)

    def __str__(self) -> str:
        return f"{self.name} ({self.nonce})"
