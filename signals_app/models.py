"""Tables of posts, rejected posts, authors' impact factors and signals."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from maxxit.core.money import COLUMN
from maxxit.core.terms import Side, choices
from maxxit.market.bars import Snapshot
from signals_app import states


class CtPost(models.Model):
    """One post of a followed account; `outcome` is the furthest stage it reached towards a trade."""

    MOVES = states.POST

    post_id = models.CharField(
        max_length=40, unique=True, help_text="the provider's id, a string of digits on X"
    )
    account = models.ForeignKey("agents.CtAccount", models.PROTECT, related_name="posts", db_index=False)
    source = models.CharField(max_length=20)
    text = models.TextField()
    posted_at = models.DateTimeField(help_text="UTC, as stated by the provider")
    ingested_at = models.DateTimeField(help_text="UTC; when the post was stored; nothing uses it earlier")
    link = models.CharField(
        max_length=500, blank=True, default="", db_default="", help_text="where people read it"
    )
    likes = models.PositiveIntegerField(
        null=True, blank=True, help_text="when the source delivered the post, as the other counts"
    )
    reposts = models.PositiveIntegerField(null=True, blank=True)
    replies = models.PositiveIntegerField(null=True, blank=True)
    quotes = models.PositiveIntegerField(null=True, blank=True)
    correlation_id = models.UUIDField(unique=True)
    state = models.CharField(
        max_length=12,
        default=states.PostState.NEW,
        db_default=states.PostState.NEW,
        choices=[(s, s) for s in states.PostState],
        editable=False,
    )
    is_signal_candidate = models.BooleanField(null=True)
    tokens = ArrayField(
        models.CharField(max_length=20),
        default=list,
        db_default=models.Value([], ArrayField(models.CharField(max_length=20))),
        blank=True,
    )
    sides = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        blank=True,
        help_text="token -> long or short",
    )
    sentiment = models.CharField(max_length=8, blank=True, default="", db_default="")
    confidence = models.DecimalField(max_digits=7, decimal_places=6, null=True, help_text="fraction")
    reasoning = models.TextField(blank=True, default="", db_default="")
    outcome = models.CharField(
        max_length=60,
        default="pending",
        db_default="pending",
        db_index=True,
        help_text="furthest stage reached, as stage:reason",
    )
    processed_for_signals = models.BooleanField(default=False, db_default=False)
    attempts = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="failed classifications so far"
    )
    last_error = models.TextField(blank=True, default="", db_default="")
    edited_at = models.DateTimeField(null=True, blank=True, help_text="UTC; when an edit was last seen")
    edited_text = models.TextField(
        null=True,
        blank=True,
        help_text="the text after the author's edit; `text` is the text that was classified",
    )
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="UTC; when the deletion was seen")

    class Meta:
        db_table = "ct_posts"
        ordering = ("-posted_at",)
        verbose_name = "post"
        indexes = (
            models.Index(fields=["posted_at"], name="ct_posts_posted_at"),
            models.Index(fields=["id"], name="ct_posts_new", condition=models.Q(state="new")),
            models.Index(fields=["id"], name="ct_posts_quarantined", condition=models.Q(state="quarantined")),
            models.Index(fields=["account", "posted_at"], name="ct_posts_account"),
            models.Index(
                fields=["ingested_at"],
                name="ct_posts_candidates",
                condition=models.Q(is_signal_candidate=True, processed_for_signals=False),
            ),
            models.Index(
                fields=["account", "posted_at"],
                name="ct_posts_calls",
                condition=models.Q(is_signal_candidate=True),
            ),
            models.Index(
                fields=["posted_at"], name="ct_posts_calls_at", condition=models.Q(is_signal_candidate=True)
            ),
        )

    def __str__(self) -> str:
        return f"{self.account} {self.posted_at:%Y-%m-%d %H:%M}: {self.text[:60]}"


class InboundPost(models.Model):
    """A post that a provider sent us, kept until the ingest stage stores it as a post, and as proof of what was sent.

    It is committed before the sender hears that it was taken, so a post that was taken is never lost.
    """

    source = models.CharField(max_length=20)
    ident = models.CharField(max_length=100, help_text="the sender's id of this item, unique for the source")
    post_id = models.CharField(max_length=40, help_text="of the post that it becomes")
    username = models.CharField(max_length=50, help_text="the account, in lower case")
    item = models.JSONField(help_text="text, time, link, counts and a stated call, secrets masked")
    received_at = models.DateTimeField()
    stored = models.BooleanField(
        default=False, db_default=False, help_text="whether the ingest stage is known to have stored its post"
    )

    class Meta:
        db_table = "inbound_posts"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "ident"], name="inbound_once_per_source")
        ]
        indexes = (
            models.Index(fields=["source", "username", "received_at"], name="inbound_posts_account"),
            models.Index(fields=["received_at"], name="inbound_posts_received"),
            models.Index(
                fields=["source", "username", "received_at"],
                condition=models.Q(stored=False),
                name="inbound_posts_not_stored",
            ),
        )

    def __str__(self) -> str:
        return f"{self.source}:{self.ident}"


class SocialMetric(models.Model):
    """The social metrics of a token, as a source gave them."""

    symbol = models.CharField(max_length=20)
    at = models.DateTimeField(help_text="UTC; when they were read; no decision uses them earlier")
    galaxy_score = models.DecimalField(max_digits=8, decimal_places=4, help_text="0 to 100")
    sentiment_pct = models.DecimalField(
        max_digits=8, decimal_places=4, help_text="percent of the weighted posts that are positive"
    )
    social_volume = models.PositiveIntegerField(help_text="posts in the 24 hours before")
    price_change_pct = models.DecimalField(
        max_digits=12, decimal_places=4, help_text="percent in the 24 hours before, by the source"
    )
    alt_rank = models.PositiveIntegerField(help_text="1 is the best")

    class Meta:
        db_table = "social_metrics"
        ordering = ("-at", "symbol")
        constraints: ClassVar = [models.UniqueConstraint(fields=["symbol", "at"], name="one_social_metric")]
        indexes = (models.Index(fields=["at"], name="social_metrics_at"),)

    def __str__(self) -> str:
        return f"{self.symbol} {self.at:%Y-%m-%d %H:%M}"


class RejectedPost(models.Model):
    """A line or item of a source that could not be read as a post, kept with the reason."""

    source = models.CharField(max_length=20)
    place = models.CharField(max_length=300, help_text="file:line, or the provider's id")
    reason = models.CharField(max_length=300)
    raw = models.TextField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "ct_posts_rejected"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "place"], name="rejected_once_per_place")
        ]

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class ImpactFactorHistory(models.Model):
    """An author's impact factor on one day, with the number of calls behind it."""

    pk = models.CompositePrimaryKey("account_id", "day")
    account = models.ForeignKey("agents.CtAccount", models.CASCADE, related_name="impact_factors")
    day = models.DateField(help_text="UTC")
    at = models.DateTimeField(help_text="UTC; used by decisions from this time")
    impact_factor = models.DecimalField(max_digits=7, decimal_places=6, help_text="fraction; 0.5 is unknown")
    calls = models.PositiveIntegerField(help_text="calls of the window whose seven days had ended")
    mean_score = models.DecimalField(max_digits=7, decimal_places=6, help_text="of those calls, -1.5 to 1.5")
    pump_flag = models.BooleanField(
        default=False, help_text="more pumps after this author's calls than chance explains"
    )

    class Meta:
        verbose_name_plural = "impact factor history"
        db_table = "impact_factor_history"
        ordering = ("-day", "account")

    def __str__(self) -> str:
        return f"{self.account} {self.day}: {self.impact_factor} after {self.calls} calls"


class AuthorRecord(models.Model):
    """The last backtest of an account's calls. `manage.py authors update` replaces it every night."""

    account = models.OneToOneField(
        "agents.CtAccount", models.CASCADE, primary_key=True, related_name="record"
    )
    at = models.DateTimeField(help_text="UTC; bars that closed later are not in it")
    figures = models.JSONField(help_text="the whole record: figures by horizon in minutes, with intervals")
    calls = models.PositiveIntegerField(help_text="calls of the window, without repeats")
    hit_rate = models.FloatField(null=True, help_text="fraction of calls with a profit after one day")
    mean_pct = models.FloatField(null=True, help_text="mean return after one day and costs, percent")
    excess_pct = models.FloatField(null=True, help_text="that mean less the benchmark's, percent")
    q_value = models.FloatField(null=True, help_text="of the excess, corrected for the number of authors")

    class Meta:
        db_table = "author_records"

    def __str__(self) -> str:
        return f"{self.account}: {self.calls} calls"


class LabelledSet(models.Model):
    """A set of posts that people label, to measure readers on."""

    name = models.CharField(max_length=60, unique=True)
    note = models.CharField(max_length=300, blank=True, help_text="what is in it, and what it is for")
    created_by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(editable=False)

    class Meta:
        db_table = "labelled_sets"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class LabelledPost(models.Model):
    """A post of a labelled set, as it was read: a later edit or deletion of the post changes nothing here."""

    labelled_set = models.ForeignKey(LabelledSet, models.CASCADE, related_name="posts", db_index=False)
    post_id = models.CharField(max_length=40, help_text="the provider's id")
    username = models.CharField(max_length=50)
    text = models.TextField()
    posted_at = models.DateTimeField(null=True, help_text="UTC, as stated by the provider")
    added_by = models.CharField(max_length=150)
    added_at = models.DateTimeField()
    decision = models.JSONField(
        null=True,
        help_text="the label that counts where two differ: token -> long or short, empty for no call",
    )
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, help_text="UTC; empty: not decided")

    class Meta:
        db_table = "labelled_posts"
        ordering = ("labelled_set", "id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["labelled_set", "post_id"], name="one_post_of_a_set")
        ]

    def __str__(self) -> str:
        return f"{self.labelled_set}: @{self.username} {self.text[:60]}"


class PostLabel(models.Model):
    """One person's label of a post of a set."""

    post = models.ForeignKey(LabelledPost, models.CASCADE, related_name="labels", db_index=False)
    by = models.CharField(max_length=150, help_text="username, or what an import named")
    sides = models.JSONField(default=dict, help_text="token -> long or short; empty: no call")
    at = models.DateTimeField()

    class Meta:
        db_table = "post_labels"
        ordering = ("id",)
        constraints: ClassVar = [models.UniqueConstraint(fields=["post", "by"], name="one_label_of_a_person")]

    def __str__(self) -> str:
        called = ", ".join(f"{side} {token}" for token, side in sorted(self.sides.items()))
        return f"{called or 'no call'} by {self.by}"


class Comparison(models.Model):
    """A second reader beside the one in use: what it reads is stored and compared, and acts on nothing."""

    name = models.CharField(max_length=60, unique=True)
    provider = models.CharField(max_length=40, help_text="of config/llm.yaml")
    prompt = models.CharField(
        max_length=60, blank=True, help_text="version of the prompt; empty: the active one"
    )
    share = models.DecimalField(
        max_digits=7, decimal_places=6, help_text="fraction of the posts that it reads"
    )
    started_by = models.CharField(max_length=150)
    started_at = models.DateTimeField()
    ended_by = models.CharField(max_length=150, blank=True)
    ended_at = models.DateTimeField(null=True, help_text="UTC; empty: it reads")
    last_post = models.BigIntegerField(default=0, help_text="id of the last post that it looked at")

    class Meta:
        db_table = "comparisons"
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.name


class ShadowReading(models.Model):
    """What the second reader of a comparison says of a post; no decision reads it."""

    comparison = models.ForeignKey(Comparison, models.CASCADE, related_name="readings", db_index=False)
    post = models.ForeignKey(CtPost, models.CASCADE, related_name="shadow_readings")
    model = models.CharField(max_length=120, blank=True)
    prompt_version = models.CharField(max_length=60, blank=True)
    sides = models.JSONField(
        default=dict, help_text="token -> long or short, after the checks; empty: no call"
    )
    confidence = models.DecimalField(max_digits=7, decimal_places=6, null=True, help_text="fraction")
    error = models.CharField(max_length=300, blank=True, help_text="why there is no reading")
    latency_ms = models.PositiveIntegerField(
        help_text="milliseconds of the call, which was about `batch` posts"
    )
    cost_usd = models.DecimalField(max_digits=18, decimal_places=9, help_text="this post's part of the call")
    batch = models.PositiveSmallIntegerField(help_text="posts of the call")
    at = models.DateTimeField()

    class Meta:
        db_table = "shadow_readings"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["comparison", "post"], name="one_shadow_reading_of_a_post")
        ]

    def __str__(self) -> str:
        called = ", ".join(f"{side} {token}" for token, side in sorted(self.sides.items()))
        return f"{self.comparison}: {called or 'no call'}"


class Signal(models.Model):
    """An agent's decision to trade a token. One per agent, token and 6-hour bucket."""

    MOVES = states.SIGNAL

    agent = models.ForeignKey("agents.Agent", models.PROTECT, related_name="signals")
    token = models.CharField(max_length=20)
    venue = models.CharField(max_length=20)
    side = models.CharField(max_length=5, choices=choices(Side))
    bucket = models.DateTimeField(help_text="start of the 6-hour bucket, UTC")
    state = models.CharField(
        max_length=12,
        default=states.SignalState.PENDING,
        choices=[(s, s) for s in states.SignalState],
        editable=False,
    )
    reason = models.CharField(max_length=60, blank=True, help_text="reason of a skipped or expired signal")
    confidence = models.DecimalField(max_digits=7, decimal_places=6, help_text="fraction")
    entry_price = models.DecimalField(**COLUMN, help_text="USD at the decision")
    stop_loss_pct = models.DecimalField(
        max_digits=9, decimal_places=6, help_text="percent below (long) the entry"
    )
    take_profit_pct = models.DecimalField(
        max_digits=9, decimal_places=6, help_text="percent above (long) the entry"
    )
    leverage = models.DecimalField(max_digits=6, decimal_places=2, default=1)
    size_model = models.JSONField(
        default=dict, help_text="tier and size as a fraction of the available balance"
    )
    risk_model = models.JSONField(
        default=dict, help_text="features, evidence and weights behind the confidence"
    )
    market = models.JSONField(default=dict, help_text="indicators known at the decision")
    snapshot = models.ForeignKey(
        "market.MarketSnapshot", models.PROTECT, null=True, editable=False, related_name="+",
        help_text="the snapshot with those indicators",
    )  # fmt: skip
    posts = models.ManyToManyField(CtPost, related_name="signals", db_table="signal_posts")
    correlation_id = models.UUIDField(
        db_index=True, help_text="that of the strongest post; an own id without posts"
    )
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "signals"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["agent", "token", "bucket"], name="one_signal_per_agent_token_and_bucket"
            )
        ]
        indexes = (
            models.Index(fields=["id"], name="signals_pending", condition=models.Q(state="pending")),
            models.Index(
                fields=["state", "id"],
                name="signals_not_executed",
                condition=models.Q(state__in=["skipped", "expired"]),
            ),
            models.Index(fields=["agent", "created_at"], name="signals_agent_created"),
            models.Index(fields=["created_at"], name="signals_created"),
        )

    def __str__(self) -> str:
        return f"{self.side} {self.token} for {self.agent} ({self.confidence:.2f})"

    @property
    def indicators(self) -> Snapshot:
        """The indicators of the decision in full precision; those of `market` are rounded to ten digits."""
        figures = self.snapshot.figures if self.snapshot else self.market
        return Snapshot(**{name: float(value) for name, value in figures.items()})
