"""Models of trading: orders, fills, the ledger, the execution gate, kill switches, the paper exchange."""

from enum import StrEnum
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Cast, Concat

from maxxit.core.money import CASH, COLUMN
from maxxit.core.terms import KillLevel, OrderSide, Purpose, Side, choices
from trading import states


class ExitsAtVenue(StrEnum):
    """What an entry's venue keeps of its exits. It goes from resting to ended, and never back."""

    RESTING = "resting"
    ENDED = "ended"


class Order(models.Model):
    """One intended trade. The row is also the reservation: the limits count these rows, under a lock."""

    MOVES = states.ORDER
    EVENT_NAMES: ClassVar = {"blocked": "execution.blocked", "filled": "execution.completed"}

    deployment = models.ForeignKey("agents.Deployment", models.PROTECT, related_name="orders")
    signal = models.ForeignKey("signals_app.Signal", models.PROTECT, null=True, related_name="orders")
    idempotency_key = models.CharField(
        max_length=80, help_text="identifies the intended trade: one order per key"
    )
    purpose = models.CharField(max_length=5, choices=choices(Purpose))
    reason = models.CharField(
        max_length=60, blank=True, default="", db_default="", help_text="why blocked, rejected or expired"
    )
    verdict = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="the check that decided, its measured value and its limit",
    )
    exit_reason = models.CharField(
        max_length=20, blank=True, default="", db_default="", help_text="of a closing order"
    )
    closes = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        db_index=False,
        related_name="closing_orders",
        help_text="of a closing order: the entry order of the position that it closes",
    )
    symbol = models.CharField(max_length=20)
    venue = models.CharField(max_length=20)
    account = models.CharField(max_length=80)
    position_side = models.CharField(max_length=5, choices=choices(Side))
    side = models.CharField(max_length=4, choices=choices(OrderSide))
    quantity = models.DecimalField(**COLUMN, null=True, help_text="of the token; unset until sized")
    leverage = models.DecimalField(max_digits=6, decimal_places=2, default=1, db_default=1)
    reference_price = models.DecimalField(
        **COLUMN, null=True, help_text="USD; the quote that the checks used"
    )
    notional_usd = models.DecimalField(**COLUMN, null=True)
    state = models.CharField(
        max_length=16,
        default=states.OrderState.PLANNED,
        db_default=states.OrderState.PLANNED,
        choices=[(s, s) for s in states.OrderState],
        editable=False,
    )
    client_order_id = models.CharField(max_length=80, null=True, help_text="derived from the order id")
    prepared = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="what is sent to the venue, stored before sending",
    )
    venue_ref = models.CharField(max_length=100, blank=True, default="", db_default="")
    reserved_at = models.DateTimeField(
        null=True, help_text="when it moved planned -> sending; order rates count from here"
    )
    deadline = models.DateTimeField(null=True, help_text="after this the venue must not execute it")
    filled_quantity = models.DecimalField(**COLUMN, default=0, db_default=0)
    average_price = models.DecimalField(**COLUMN, null=True)
    booked_quantity = models.DecimalField(
        **COLUMN, default=0, db_default=0, help_text="part of the filled quantity that its position includes"
    )
    exits_at_venue = models.CharField(
        max_length=7,
        blank=True,
        default="",
        db_default="",
        choices=choices(ExitsAtVenue),
        help_text="of an entry: resting while the venue keeps its stop or target, ended once it keeps none",
    )
    exits_canceled_at = models.DateTimeField(
        null=True, help_text="when the venue was last asked to cancel the exits that it keeps"
    )
    correlation_id = models.UUIDField(db_index=True)
    confirmed_at = models.DateTimeField(
        null=True, help_text="when the owner of the deployment said yes to this entry"
    )
    attempts = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="unexpected errors while processing it"
    )
    retry_at = models.DateTimeField(null=True, help_text="when a quarantined order is retried")
    last_error = models.TextField(blank=True, default="", db_default="")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "orders"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["id"], name="orders_planned", condition=models.Q(state="planned")),
            models.Index(
                fields=["id"],
                name="orders_in_flight",
                condition=models.Q(state__in=["sending", "unknown", "accepted", "partially_filled"]),
            ),
            models.Index(
                fields=["id"],
                name="orders_unbooked",
                condition=models.Q(
                    purpose=Purpose.OPEN.value, filled_quantity__gt=models.F("booked_quantity")
                ),
            ),
            models.Index(fields=["account", "symbol", "reserved_at"], name="orders_account_symbol"),
            models.Index(
                fields=["reserved_at"],
                name="orders_entries_reserved",
                condition=models.Q(purpose=Purpose.OPEN.value),
            ),
            models.Index(fields=["created_at"], name="orders_blocked", condition=models.Q(state="blocked")),
            models.Index(
                fields=["state", "id"],
                name="orders_not_filled",
                condition=models.Q(state__in=["blocked", "rejected", "expired", "canceled"]),
            ),
            models.Index(
                fields=["signal"],
                name="orders_entries_not_filled",
                condition=models.Q(
                    purpose=Purpose.OPEN.value, state__in=["blocked", "rejected", "expired", "canceled"]
                ),
            ),
            models.Index(fields=["reason", "id"], name="orders_reason", condition=~models.Q(reason="")),
            models.Index(fields=["id"], name="orders_failed", condition=models.Q(attempts__gt=0)),
            models.Index(
                fields=["created_at"],
                name="orders_entries_created",
                condition=models.Q(purpose=Purpose.OPEN.value),
            ),
            models.Index(fields=["closes"], name="orders_closes", condition=Q(closes__isnull=False)),
            models.Index(fields=["id"], name="orders_exits_resting", condition=Q(exits_at_venue="resting")),
        )
        constraints: ClassVar = [
            # Not unique=True: Django would add an index for LIKE to each, which nothing reads.
            models.UniqueConstraint(fields=["idempotency_key"], name="orders_idempotency_key_key"),
            models.UniqueConstraint(fields=["client_order_id"], name="orders_client_order_id_key"),
            models.UniqueConstraint(
                fields=["deployment", "signal", "purpose"],
                name="one_order_per_deployment_signal_and_purpose",
                condition=models.Q(purpose=Purpose.OPEN.value),
            ),
            models.CheckConstraint(
                name="a_closing_order_names_the_entry",
                condition=Q(purpose=Purpose.OPEN.value, closes=None)
                | Q(purpose=Purpose.CLOSE.value, closes__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.side} {self.symbol} #{self.pk} ({self.state})"

    @property
    def is_urgent(self) -> bool:
        """Whether an operator or the kill switch closes: without a fresh quote the last known price is used."""
        return self.purpose == Purpose.CLOSE and self.exit_reason in ("manual", "kill_switch")


class Fill(models.Model):
    """One execution as the venue reported it; never changed."""

    order = models.ForeignKey(Order, models.PROTECT, related_name="fills")
    venue_fill_id = models.CharField(max_length=100)
    quantity = models.DecimalField(**COLUMN)
    price = models.DecimalField(**COLUMN, help_text="USD")
    cash = models.DecimalField(**COLUMN, help_text="USDC exchanged, positive, before the fee")
    fee = models.DecimalField(**COLUMN, help_text="fee of the venue, USDC")
    at = models.DateTimeField()

    class Meta:
        db_table = "fills"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["order", "venue_fill_id"], name="a_fill_is_booked_once")
        ]

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} @ {self.price.normalize():f}"


class JournalKind(models.TextChoices):
    """What a journal books. Its name, `LedgerEntry.journal`, begins with the kind."""

    DEPOSIT = "deposit", "starting balance of a paper deployment"
    FILL = "fill", "fill of an order"
    FEE = "fee", "platform fee of an order"
    TAKEN = "taken", "platform fee and profit share that the venue collected with a fill"
    SHARE = "share", "profit share of a closed position, where the venue collects none"
    EXTERNAL = "external", "transfer by an owner, or to an executor"
    UNEXPLAINED = "unexplained", "difference that no transfer on the chain explains"
    TAKEN_OUT = "taken_out", "tokens of a position that the owner withdrew"
    HANDOVER = "handover", "cash of a revoked deployment, to the one that now trades from its Safe"
    GAS = "gas", "gas of a transaction"
    SUBSCRIPTION = "subscription", "month of a subscription, a debt until it is paid"
    PAYMENT = "payment", "payment of what a deployment owes the platform"
    FUNDING = "funding", "funding that a position paid or received"


TEXT = models.TextField()
HOLDINGS = Concat(Value("deployment:"), Cast("deployment", TEXT), output_field=TEXT)
"""SQL for `trading.ledger.account_of` a ledger entry's deployment."""
DEBT = Concat(HOLDINGS, Value(":payable"), output_field=TEXT)
"""The same for `payable_of`."""
FIRST_PART = Func(F("journal"), Value(":"), Value(1), function="split_part", output_field=TEXT)


class LedgerEntry(models.Model):
    """One line of the double-entry journal: append-only, zero-sum per journal and asset; triggers enforce both.

    `deployment` is set where `account` belongs to a deployment: its holdings and what it owes the platform. It is null
    for the accounts of venues, the platform, profit receivers and executors, and for the outside world.
    """

    KINDS: ClassVar = [
        (kind, kind)
        for kind in (
            "deposit",
            "trade",
            "venue_fee",
            "platform_fee",
            "profit_share",
            "gas",
            "external",
            "taken_out",
            "funding",
        )
    ]

    journal = models.CharField(max_length=80, help_text="what is booked: fill:17, share:3:1 …; booked once")
    journal_kind = models.CharField(max_length=12, choices=JournalKind, help_text="what the journal books")
    account = models.CharField(
        max_length=80, help_text="deployment:7, venue:paper, fees:platform, profit:…, external"
    )
    deployment = models.ForeignKey(
        "agents.Deployment",
        models.PROTECT,
        null=True,
        db_index=False,
        related_name="ledger_entries",
        help_text="whose account it is; empty for accounts of venues, the platform, executors and the outside",
    )
    asset = models.CharField(max_length=20)
    amount = models.DecimalField(**COLUMN, help_text="signed, in whole units of the asset")
    kind = models.CharField(max_length=12, choices=KINDS)
    order = models.ForeignKey(Order, models.PROTECT, null=True, related_name="ledger_entries")
    correlation_id = models.UUIDField(null=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "ledger_entries"
        ordering = ("-id",)
        verbose_name_plural = "ledger entries"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["journal", "account", "asset", "kind"], name="a_journal_is_booked_once"
            ),
            models.CheckConstraint(
                name="an_account_names_its_deployment",
                condition=(Q(deployment=None) & ~Q(account__startswith="deployment:"))
                | Q(deployment__isnull=False, account=HOLDINGS)
                | Q(deployment__isnull=False, account=DEBT),
            ),
            models.CheckConstraint(
                name="a_journal_has_a_known_kind", condition=Q(journal_kind__in=JournalKind.values)
            ),
            models.CheckConstraint(
                name="a_journal_begins_with_its_kind", condition=Q(journal_kind=FIRST_PART)
            ),
        ]
        indexes = (
            models.Index(fields=["account", "at"], name="ledger_account_at"),
            models.Index(
                fields=["deployment", "asset"],
                name="ledger_flows",
                include=["amount"],
                condition=Q(kind__in=["deposit", "external"], deployment__isnull=False),
            ),
            models.Index(
                fields=["deployment", "asset"],
                name="ledger_owners_tokens",
                condition=Q(kind="external", deployment__isnull=False) & ~Q(asset__in=CASH),
            ),
        )

    def __str__(self) -> str:
        return f"{self.account} {self.amount.normalize():+f} {self.asset} ({self.kind})"


class LedgerBalance(models.Model):
    """The balance of a deployment's ledger account per asset. Only a database trigger writes it."""

    account = models.CharField(max_length=80)
    asset = models.CharField(max_length=20)
    amount = models.DecimalField(**COLUMN)

    class Meta:
        db_table = "ledger_balances"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "asset"], name="one_ledger_balance")
        ]
        indexes = (
            models.Index(
                fields=["asset"],
                name="ledger_holdings",
                condition=~models.Q(amount=0) & ~models.Q(asset__in=CASH),
            ),
        )

    def __str__(self) -> str:
        return f"{self.account} {self.amount} {self.asset}"


class Gate(models.Model):
    """Whether orders may be sent to one venue. Without a row the gate is closed."""

    venue = models.CharField(max_length=20, unique=True)
    dry_run = models.BooleanField(default=True, help_text="true: orders are checked but not sent")
    changed_at = models.DateTimeField()
    changed_by = models.CharField(max_length=80)
    reason = models.CharField(max_length=300)

    class Meta:
        db_table = "execution_gates"

    def __str__(self) -> str:
        return f"{self.venue}: {'dry run' if self.dry_run else 'open'}"


class Approval(models.Model):
    """An operator's time-limited approval to send the orders of a scope."""

    scope = models.CharField(max_length=20, help_text="a venue, or * for all")
    approved_by = models.CharField(max_length=80)
    approved_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=300)

    class Meta:
        db_table = "execution_approvals"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.scope} by {self.approved_by} until {self.expires_at:%Y-%m-%d %H:%M}"


class KillSwitch(models.Model):
    """One pull of the kill switch. It stays latched until an operator releases it (`released_*`)."""

    level = models.CharField(max_length=12, choices=choices(KillLevel))
    cause = models.CharField(max_length=40, help_text="manual, or the name of the trigger")
    account = models.CharField(
        max_length=80, blank=True, help_text="the account it stops; empty: the whole platform"
    )
    reason = models.CharField(max_length=300)
    pulled_at = models.DateTimeField()
    pulled_by = models.CharField(max_length=80)
    released_at = models.DateTimeField(null=True)
    released_by = models.CharField(max_length=80, blank=True)
    release_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        db_table = "kill_switches"
        ordering = ("-id",)
        verbose_name_plural = "kill switches"
        indexes = (models.Index(fields=["id"], name="kill_latched", condition=models.Q(released_at=None)),)

    def __str__(self) -> str:
        account = f" for {self.account}" if self.account else ""
        return f"{self.level}{account}: {self.reason}"

    @property
    def stops(self) -> str:
        """What it stops, as a phrase."""
        what = {
            KillLevel.NO_ENTRIES: "no new position is opened, exits go on",
            KillLevel.REDUCE_ONLY: "no position is opened or grows, exits go on",
            KillLevel.FLATTEN: "no position is opened, and every open one is closed at the market",
        }[KillLevel(self.level)]
        return f"{f'account {self.account}' if self.account else 'all accounts'}: {what}"


from trading.billing.models import BillingEvent, BillingKind  # noqa: E402, F401 (Django finds them here)
from trading.chain.models import (  # noqa: E402, F401 (Django finds them here)
    ChainAttempt,
    ChainScan,
    ChainTransaction,
    SafePlan,
    Signer,
    TransferScan,
    WatchedAddress,
)
from trading.credentials.models import CredentialRequest, VenueCredential  # noqa: E402, F401 (Django finds them here)
from trading.perps.models import FundingPayment, MarginPosition  # noqa: E402, F401 (Django finds them here)
from trading.reconciliation.models import AccountCheck, VenueHolding  # noqa: E402, F401 (Django finds them here)
from trading.venues.gmx.models import GmxScan, GmxTransaction  # noqa: E402, F401 (Django finds it here)
from trading.venues.hyperliquid.models import HyperliquidAction  # noqa: E402, F401 (Django finds it here)
from trading.venues.paper_models import PaperBalance, PaperFill, PaperFunding, PaperOrder, PaperPosition  # noqa: E402, F401 (Django finds them here)


class ChangeRequest(models.Model):
    """A change that raises risk and needs a second person (`trading.operations.change_requests`)."""

    MOVES = states.CHANGE_REQUEST
    EVENT_NAMES: ClassVar[dict[str, str]] = {
        state: f"change_request.{state}" for state in states.RequestState
    }

    kind = models.CharField(max_length=20, help_text="a key of config/approvals.yaml")
    content = models.JSONField(help_text="what is to change")
    base = models.JSONField(help_text="what it changes from; the request is stale once this differs")
    sha256 = models.CharField(max_length=64, help_text="of kind, content and base")
    reason = models.CharField(max_length=300)
    state = models.CharField(max_length=12, choices=choices(states.RequestState), default="requested")
    asked_by = models.CharField(max_length=150)
    asked_user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        help_text="the logged-in person who asked for it; empty after the command line or an API key",
    )
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_by = models.CharField(max_length=150, blank=True)
    decided_user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    decision = models.CharField(max_length=300, blank=True, help_text="why it was refused, or what changed")

    class Meta:
        db_table = "change_requests"
        ordering = ("-id",)
        permissions = (("approve_changerequest", "Can approve a change that another person asked for"),)
        constraints = (
            models.UniqueConstraint(
                fields=["sha256"], condition=Q(state="requested"), name="change_requested_once"
            ),
        )

    def __str__(self) -> str:
        return f"change request {self.pk}: {self.kind}, {self.state}"


class LimitsInForce(models.Model):
    """The single row of risk limits in force, and looser values that wait (`trading.risk.limits_in_force`)."""

    limits = models.JSONField(help_text="limit -> value in force")
    waiting = models.JSONField(
        default=dict, help_text="limit -> looser value, since when it waits, when it takes effect"
    )
    overrides = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="limit -> value over that of config/risk.yaml, with reason, who and when",
    )
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "risk_limits_in_force"
        verbose_name_plural = "limits in force"

    def __str__(self) -> str:
        return f"limits as of {self.changed_at:%Y-%m-%d %H:%M}"
