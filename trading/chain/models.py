"""Models of blockchain transactions: signers, intents, signed attempts, Safe plans and scan positions."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models

from trading.chain import states

DEPLOY = "deploy"
"""Purpose of a transaction that creates a contract, in its terms."""
WEI: dict[str, Any] = {"max_digits": 30, "decimal_places": 0}


class Signer(models.Model):
    """An executor account on a chain. Its row lock serialises nonces; its key is not stored here."""

    chain_id = models.PositiveBigIntegerField()
    address = models.CharField(max_length=42)
    next_nonce = models.PositiveBigIntegerField(default=0, help_text="the lowest nonce not assigned yet")

    class Meta:
        db_table = "chain_signers"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["chain_id", "address"], name="one_signer_per_chain")
        ]

    def __str__(self) -> str:
        return f"{self.address} on chain {self.chain_id}"


class ChainTransaction(models.Model):
    """One intended transaction: one nonce and one calldata, however often its fees are raised."""

    MOVES = states.TRANSACTION
    EVENT_NAMES: ClassVar = {state: f"transaction.{state}" for state in states.TxState}

    idempotency_key = models.CharField(
        max_length=80, unique=True, help_text="identifies the intent: one transaction per key"
    )
    chain_id = models.PositiveBigIntegerField()
    signer = models.ForeignKey(
        Signer, models.PROTECT, null=True, related_name="transactions", help_text="set when signed"
    )
    nonce = models.PositiveBigIntegerField(null=True)
    terms = models.JSONField(
        default=dict, help_text="terms of the trade: Safe, trade id, token, amounts in base units"
    )
    to = models.CharField(max_length=42, blank=True)
    calldata = models.TextField(blank=True, help_text="0x hex; fixed when signed")
    gas_limit = models.PositiveBigIntegerField(default=0)
    value = models.DecimalField(
        **WEI, default=0, db_default=models.Value(0), help_text="wei that the executor pays with the call"
    )
    state = models.CharField(
        max_length=9, default=states.TxState.PLANNED, choices=[(s, s) for s in states.TxState], editable=False
    )
    reason = models.CharField(max_length=60, blank=True, help_text="why reverted, dropped or replaced")
    deadline = models.DateTimeField(
        help_text="after this it is not signed any more and the module rejects it"
    )
    mined_hash = models.CharField(max_length=66, blank=True, help_text="of the attempt that is in a block")
    block_number = models.PositiveBigIntegerField(null=True)
    block_hash = models.CharField(max_length=66, blank=True)
    gas_used = models.PositiveBigIntegerField(null=True)
    gas_price = models.DecimalField(**WEI, null=True, help_text="wei per gas, as paid")
    logs = models.JSONField(default=list, help_text="of the final receipt, as JSON-RPC gives them")
    refusals = models.PositiveSmallIntegerField(
        default=0, help_text="broadcasts in a row that no node accepted"
    )
    alerts = models.JSONField(default=list, help_text="alert events recorded for it")
    correlation_id = models.UUIDField(null=True, db_index=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "chain_transactions"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["signer", "nonce"], name="one_intent_per_nonce"),
            models.CheckConstraint(
                name="signed_means_a_nonce",
                condition=models.Q(state__in=["planned", "dropped"])
                | models.Q(nonce__isnull=False, signer__isnull=False),
            ),
        ]
        indexes = (
            models.Index(
                fields=["id"],
                name="chain_in_flight",
                condition=models.Q(state__in=["planned", "signed", "broadcast", "mined"]),
            ),
        )

    def __str__(self) -> str:
        return f"{self.idempotency_key} ({self.state})"


class ChainAttempt(models.Model):
    """One signed version of a transaction, stored before it is broadcast. Higher fees make another attempt."""

    transaction = models.ForeignKey(ChainTransaction, models.PROTECT, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    hash = models.CharField(max_length=66, unique=True)
    raw = models.TextField(help_text="signed bytes, 0x hex; broadcasting them twice has no further effect")
    max_fee = models.DecimalField(**WEI, help_text="wei per gas")
    tip = models.DecimalField(**WEI, help_text="wei per gas")
    cancels = models.BooleanField(
        default=False, help_text="an empty transaction to ourselves that only uses the nonce"
    )
    created_at = models.DateTimeField()
    broadcast_at = models.DateTimeField(null=True, help_text="when a node first accepted it")

    class Meta:
        db_table = "chain_attempts"
        ordering = ("transaction", "number")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["transaction", "number"], name="attempts_are_numbered")
        ]

    def __str__(self) -> str:
        return self.hash


class SafePlan(models.Model):
    """The policy that the owners of a Safe were asked to sign.

    The most recently verified plan is in force: the chain must show it before each entry. An unverified plan is a
    proposal and has no effect.
    """

    chain_id = models.PositiveBigIntegerField()
    safe = models.CharField(max_length=42)
    module = models.CharField(max_length=42)
    policy = models.JSONField(help_text="the contract's field names; USDC in base units, times in seconds")
    rules = models.JSONField(help_text="tokens with price feed, pool fee tier and maximum feed age")
    safe_tx_hash = models.CharField(
        max_length=66, blank=True, help_text="EIP-712 hash of the transaction to sign"
    )
    created_at = models.DateTimeField()
    verified_at = models.DateTimeField(
        null=True, help_text="when the chain first showed this policy; empty: not signed yet"
    )
    stops = models.JSONField(
        default=dict, help_text="what stops entries: token's address, or * for all -> reason code"
    )
    onboarding = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="how its owner was asked: owners and threshold; of a new Safe also the transaction that creates it",
    )
    sent_hash = models.CharField(
        max_length=66,
        blank=True,
        default="",
        db_default="",
        help_text="of the owner's transaction, as the page saw it",
    )
    sent_at = models.DateTimeField(null=True)
    failures_since = models.DateTimeField(
        null=True, help_text="failed orders count from here: a person checked the Safe then"
    )

    class Meta:
        db_table = "safe_plans"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["chain_id", "safe"],
                condition=models.Q(verified_at=None),
                name="one_proposal_per_safe",
            )
        ]
        indexes = (models.Index(fields=["chain_id", "safe", "-verified_at"], name="safe_plan_in_force"),)

    def __str__(self) -> str:
        return f"{self.safe} on chain {self.chain_id}"


class WatchedAddress(models.Model):
    """An address whose transfers are reported. Whose key it is does not matter: nothing here signs."""

    chain_id = models.PositiveBigIntegerField()
    address = models.CharField(max_length=42)
    label = models.CharField(max_length=60, blank=True, default="")
    min_usd = models.DecimalField(
        max_digits=20, decimal_places=2, default=0, help_text="smaller transfers are not reported"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, help_text="who is notified beside staff"
    )
    private = models.BooleanField(
        default=False, db_default=False, help_text="added by its user, who alone is notified; staff is not"
    )
    day = models.DateField(null=True, editable=False, help_text="the UTC day that `reported` is of")
    reported = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="transfers of that day that were reported"
    )
    created_at = models.DateTimeField()

    class Meta:
        db_table = "watched_addresses"
        verbose_name_plural = "watched addresses"
        ordering = ("chain_id", "address", "pk")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["chain_id", "address", "user"],
                name="watched_once_per_user",
                nulls_distinct=False,
                violation_error_message="this address is watched for that user already",
            ),
            models.CheckConstraint(
                condition=models.Q(private=False) | models.Q(user__isnull=False), name="private_has_a_user"
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.address


class TransferScan(models.Model):
    """How far a chain was read for the transfers of its watched addresses."""

    chain_id = models.PositiveBigIntegerField(primary_key=True)
    scanned_to = models.PositiveBigIntegerField(help_text="the newest final block that was read")

    class Meta:
        db_table = "transfer_scans"

    def __str__(self) -> str:
        return f"chain {self.chain_id} up to block {self.scanned_to}"


class ChainScan(models.Model):
    """How far a Safe's token transfers have been scanned for the owners' own, which become external ledger entries."""

    chain_id = models.PositiveBigIntegerField()
    safe = models.CharField(max_length=42)
    scanned_to = models.PositiveBigIntegerField(default=0, help_text="the newest final block that was read")

    class Meta:
        db_table = "chain_scans"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["chain_id", "safe"], name="one_scan_per_safe")
        ]

    def __str__(self) -> str:
        return f"{self.safe} up to block {self.scanned_to}"
