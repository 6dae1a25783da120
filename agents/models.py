"""Agents, the accounts they follow, and the deployments that trade for them."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Concat

from agents import states
from agents.evidence import default_weights, weights_problem
from agents.fee_terms import Terms, check_fees, fees_of, terms
from agents.fees import FeeRule
from maxxit.core.money import COLUMN
from maxxit.core.terms import ExitPreset, Preset, choices

FRACTION: dict[str, Any] = {
    "max_digits": 7,
    "decimal_places": 6,
    "validators": [MinValueValidator(0), MaxValueValidator(1)],
}
NAME_TAKEN = "one_agent_of_a_name_per_owner"
"""The constraint on names; agents without an owner are the platform's."""
EVM_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
PERPS_ACCOUNT = "gmx:"
"""How the account of a deployment begins that trades perpetual futures from a Safe; the Safe's address follows."""


def validate_weights(weights: object) -> None:
    """Raise ValidationError unless `weights` maps known pieces of evidence to whole numbers 0 to 100."""
    if problem := weights_problem(weights):
        raise ValidationError(problem)


class Agent(models.Model):
    """A trading strategy: weights of the evidence, a venue, and presets for sizing and exits."""

    MOVES = states.AGENT

    name = models.CharField(max_length=60, help_text="no two agents of one owner share it")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="agents"
    )
    state = models.CharField(
        max_length=12,
        default=states.AgentState.DRAFT,
        choices=[(s, s) for s in states.AgentState],
        editable=False,
    )
    venue = models.CharField(max_length=20, default="paper", help_text="a name from config/venues.yaml")
    tokens = models.JSONField(
        default=list,
        blank=True,
        help_text='symbols this agent may trade, e.g. ["BTC", "ETH"]; empty: all of its venue',
    )
    sizing_preset = models.CharField(max_length=12, default=Preset.MODERATE.value, choices=choices(Preset))
    exit_preset = models.CharField(
        max_length=12,
        default=ExitPreset.SIGNAL.value,
        choices=[
            ("signal", "As the signal says"),
            *choices(Preset),
            ("volatility", "Stop loss by forecast volatility"),
        ],
    )
    min_confidence = models.DecimalField(
        **FRACTION,
        default=Decimal("0.5"),
        help_text="fraction; a weaker signal is declined as below_threshold",
    )
    volatility_target_pct = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.01")), MaxValueValidator(100)],
        help_text="percent over volatility_size.horizon_hours of config/signals.yaml: where the forecast volatility of "
        "a token is higher, its trades are smaller by that factor; empty: sizes follow no forecast",
    )
    weights = models.JSONField(
        default=default_weights,
        validators=[validate_weights],
        help_text="0 to 100 by piece of evidence: how much it counts; one that is missing counts 0",
    )
    preferences = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="the five preferences (agents/preferences.py) that the weights were derived from; empty: none",
    )
    profit_receiver = models.CharField(
        max_length=64, blank=True, help_text="address that receives the profit share"
    )
    profit_share = models.DecimalField(
        **FRACTION, default=Decimal("0.2"), help_text="fraction of winners, after the loss carry-forward"
    )
    trade_fee = models.CharField(
        max_length=120, blank=True, default="", db_default="",
        help_text="flat amount_usdc=… or percentage rate_pct=… minimum_usdc=…; empty: the platform's",
    )  # fmt: skip
    profit_fee = models.CharField(
        max_length=200, blank=True, default="", db_default="",
        help_text="profit_share minimum_usdc=… (the rate is the profit share), tiered tiers=0:5,100:10 minimum_usdc=… "
        "or flat amount_usdc=…; empty: the platform's",
    )  # fmt: skip
    monthly_fee = models.CharField(
        max_length=120, blank=True, default="", db_default="",
        help_text="subscription monthly_usdc=… trial_days=…; empty: none",
    )  # fmt: skip
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "agents"
        ordering = ("name",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                name=NAME_TAKEN,
                nulls_distinct=False,
                violation_error_message="The owner has another agent of this name: choose another name.",
            ),
            models.CheckConstraint(
                name="weights_are_0_to_100",
                condition=~models.Func(
                    models.F("weights"),
                    models.Value('$.* ? (@.type() != "number" || @ < 0 || @ > 100)'),
                    function="jsonb_path_exists",
                    output_field=models.BooleanField(),
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse fees that are not allowed or that the venue cannot take. Raises ValidationError by field."""
        check_fees(self)

    def keep_agreed_fees(self, before: Mapping[str, str]) -> int:
        """Let started deployments keep the fees that they agreed to, once the agent's changed; return how many.

        Call it in the transaction of the change. Drafts get the present fees: they start under them. What was agreed
        earlier stays.

        Args:
            before: `fees_of` the agent before the change.
        """
        if before == fees_of(self):
            return 0
        started = self.deployments.exclude(state=states.DeploymentState.DRAFT).filter(agreed_fees={})
        return int(started.update(agreed_fees=dict(before)))


class CtAccount(models.Model):
    """An X account that agents may follow."""

    x_username = models.CharField(max_length=50, unique=True, help_text="without @; compared without case")
    display_name = models.CharField(max_length=100, blank=True)
    source = models.CharField(max_length=20, default="x", help_text="the post source that reads it")
    followers_count = models.PositiveIntegerField(default=0)
    impact_factor = models.DecimalField(
        **FRACTION, default=Decimal("0.5"), help_text="fraction; 0.5 means nothing is known of this author"
    )
    is_active = models.BooleanField(default=True)
    since_id = models.CharField(max_length=40, blank=True, help_text="the newest post that we hold")
    last_seen_at = models.DateTimeField(null=True, blank=True)
    until_id = models.CharField(
        max_length=40, blank=True, help_text="posts older than this, down to since_id, are still to be read"
    )
    reached_id = models.CharField(max_length=40, blank=True, help_text="since_id once they are read")
    reached_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "ct_accounts"
        ordering = ("x_username",)
        verbose_name = "CT account"

    def __str__(self) -> str:
        return f"@{self.x_username}"


class Subscription(models.Model):
    """An agent follows an account."""

    agent = models.ForeignKey(Agent, models.CASCADE, related_name="subscriptions")
    account = models.ForeignKey(CtAccount, models.CASCADE, related_name="subscriptions")

    class Meta:
        db_table = "agent_accounts"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent", "account"], name="agent_follows_once")
        ]

    def __str__(self) -> str:
        return f"{self.agent} follows {self.account}"


class Deployment(models.Model):
    """An agent that trades for one account: a Safe on chain, or an account at a venue."""

    MOVES = states.DEPLOYMENT

    agent = models.ForeignKey(Agent, models.PROTECT, related_name="deployments")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="deployments"
    )
    state = models.CharField(
        max_length=12,
        default=states.DeploymentState.DRAFT,
        choices=[(s, s) for s in states.DeploymentState],
        editable=False,
    )
    account = models.CharField(
        max_length=80, help_text="the account at the venue; throttles count per account"
    )
    starting_balance = models.DecimalField(
        **COLUMN, default=Decimal(10_000), help_text="USDC that a paper account starts with"
    )
    safe_capital = models.DecimalField(
        **COLUMN,
        null=True,
        blank=True,
        editable=False,
        help_text="USDC that its owner means to keep in the Safe; the limits that the owner signs are proportionate",
    )
    user_wallet = models.CharField(max_length=42, blank=True)
    safe_wallet = models.CharField(max_length=42, blank=True)
    chain_id = models.PositiveBigIntegerField(null=True, blank=True)
    module_address = models.CharField(max_length=42, blank=True)
    module_enabled = models.BooleanField(default=False)
    verified_at = models.DateTimeField(
        null=True, blank=True, help_text="when the chain last confirmed the policy"
    )
    agreed_fees = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        editable=False,
        help_text="the agent's fees before they changed: none is charged that is higher than these",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    max_daily_usd = models.DecimalField(
        **COLUMN,
        null=True,
        blank=True,
        editable=False,
        help_text="its owner's limit of the entries of a UTC day, USD",
    )
    max_position_usd = models.DecimalField(
        **COLUMN, null=True, blank=True, editable=False, help_text="its owner's limit of one position, USD"
    )
    max_open_positions = models.PositiveSmallIntegerField(
        null=True, blank=True, editable=False, help_text="its owner's limit of tokens held at once"
    )
    limits_changed_at = models.DateTimeField(null=True, blank=True, editable=False)
    limits_changed_by = models.CharField(
        max_length=150, blank=True, default="", db_default="", editable=False
    )
    confirm_entries = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="each entry waits for its owner's yes until its signal expires",
    )
    last_entry = models.BigIntegerField(
        default=0,
        db_default=0,
        editable=False,
        help_text="id of its latest entry order that was reserved; who was served longest ago comes first",
    )

    class Meta:
        db_table = "agent_deployments"
        ordering = ("id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent", "account"], name="one_deployment_per_agent_and_account"),
            models.CheckConstraint(
                name="no_negative_starting_balance", condition=models.Q(starting_balance__gte=0)
            ),
            models.CheckConstraint(
                name="a_safe_is_its_deployments_account",
                condition=models.Q(safe_wallet="")
                | models.Q(account=models.F("safe_wallet"))
                | models.Q(account=Concat(models.Value(PERPS_ACCOUNT), models.F("safe_wallet"))),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent} on {self.account}"

    @property
    def is_account_of_safe(self) -> bool:
        """Return whether the account is that of its Safe: for spot trading, or for perpetual futures."""
        safe = self.safe_wallet
        return bool(safe) and self.account in (safe, f"{PERPS_ACCOUNT}{safe}")

    @property
    def trades_perps(self) -> bool:
        """Return whether it trades perpetual futures from its Safe."""
        return bool(self.safe_wallet) and self.account.startswith(PERPS_ACCOUNT)

    def terms(self, *, trade: FeeRule, profit: FeeRule) -> Terms:
        """Return the rules by which it is charged.

        Args:
            trade: the platform's rule for a trade in force, for an agent without its own.
            profit: the same for a profit.
        """
        return terms(fees_of(self.agent), self.agreed_fees, trade=trade, profit=profit)

    def clean(self) -> None:
        """Refuse a Safe's address as account (only a plan sets it) and another owner's account.

        The database refuses both as well; this gives the message. Raises ValidationError.
        """
        names_a_safe = EVM_ADDRESS.fullmatch(self.account.removeprefix(PERPS_ACCOUNT))
        if (self.safe_wallet or names_a_safe) and not self.is_account_of_safe:
            raise ValidationError(
                {
                    "account": "A Safe's address is set by `manage.py safe plan` or the API, with the signature of "
                    "an owner of the Safe. Enter a name here and plan the Safe afterwards."
                }
            )
        venue = self.agent.venue if self.agent_id else ""
        others = Deployment.objects.filter(account=self.account, agent__venue=venue).exclude(pk=self.pk)
        if venue != "paper" and any(other.owner_id != self.owner_id for other in others):
            raise ValidationError(
                {
                    "account": f"The account {self.account} at {venue} belongs to another owner: enter another one."
                }
            )
