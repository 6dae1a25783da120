"""Models of what GMX did with Safes: transactions at final blocks, and how far they were read."""

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.db import models


class GmxTransaction(models.Model):
    """One transaction at a final block in which GMX or our PerpModule did something with a Safe. Never changed."""

    chain_id = models.PositiveBigIntegerField()
    safe = models.CharField(max_length=42)
    hash = models.CharField(max_length=66)
    block_number = models.PositiveBigIntegerField()
    at = models.DateTimeField(help_text="time of its block")
    keys = models.JSONField(help_text="GMX's keys of the Safe's orders that it names, 0x hex")
    forced = models.BooleanField(help_text="GMX liquidated or deleveraged a position in it")
    logs = models.JSONField(help_text="of GMX, the module and USDC, as JSON-RPC gives them")

    class Meta:
        db_table = "gmx_transactions"
        ordering = ("block_number", "id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["chain_id", "safe", "hash"], name="gmx_transaction_is_kept_once")
        ]
        indexes = (
            GinIndex(fields=["keys"], name="gmx_transactions_keys"),
            models.Index(
                fields=["safe", "at"], name="gmx_transactions_forced", condition=models.Q(forced=True)
            ),
        )

    def __str__(self) -> str:
        return f"{self.hash} of {self.safe}"


class GmxScan(models.Model):
    """How far a Safe's transactions at GMX were read; made before its first order leaves."""

    chain_id = models.PositiveBigIntegerField()
    safe = models.CharField(max_length=42)
    scanned_to = models.PositiveBigIntegerField(help_text="the newest final block that was read")

    class Meta:
        db_table = "gmx_scans"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["chain_id", "safe"], name="one_gmx_scan_per_safe")
        ]

    def __str__(self) -> str:
        return f"{self.safe} up to block {self.scanned_to}"
