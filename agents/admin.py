"""Admin pages of agents, followed accounts and subscriptions; deployments stand in `trading.deployments.admin`."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from agents.evidence import DEFAULT_WEIGHT, EVIDENCE, MAX_WEIGHT
from agents.fee_terms import fees_in_words, fees_of
from agents.following import clean_name, name_problem
from agents.lifecycle import change_states
from agents.models import Agent, CtAccount, Subscription
from agents.policy import post_sources
from agents.states import DeploymentState
from maxxit.adminkit import EMPTY, BaseAdmin, list_link, log_action, state_column
from maxxit.core.errors import Misconfigured
from maxxit.market.instruments import instrument
from maxxit.market.venues import venue_policy


def _weight_field(name: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=f"Weight {name.replace('_', ' ')}",
        min_value=0,
        max_value=MAX_WEIGHT,
        initial=DEFAULT_WEIGHT,
        help_text=f"0 to {MAX_WEIGHT}: how much {EVIDENCE.open(name).help} counts",
        widget=UnfoldAdminIntegerFieldWidget,
    )


WEIGHTS_TITLE = "Weights of the evidence, 0 to 100"
WEIGHT_FIELDS = {f"weight_{name}": _weight_field(name) for name in EVIDENCE}
WEIGHT_ROWS = tuple(tuple(WEIGHT_FIELDS)[at : at + 2] for at in range(0, len(WEIGHT_FIELDS), 2))


class AgentForm(forms.ModelForm):  # type: ignore[type-arg]
    """Validates venue and tokens against the configuration; each piece of evidence has a field for its weight."""

    vars().update(WEIGHT_FIELDS)

    class Meta:
        model = Agent
        exclude = ("weights",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            stored = {f"weight_{name}": self.instance.weights.get(name, 0) for name in EVIDENCE}
            self.initial = {**stored, **self.initial}

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or {}
        self.instance.weights = {name: cleaned.get(f"weight_{name}", 0) for name in EVIDENCE}
        return cleaned

    def clean_venue(self) -> str:
        venue: str = self.cleaned_data["venue"]
        try:
            venue_policy(venue)
        except Misconfigured as error:
            raise forms.ValidationError(str(error)) from error
        return venue

    def clean_tokens(self) -> list[str]:
        tokens = self.cleaned_data["tokens"] or []
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise forms.ValidationError('enter a list of symbols, for example ["BTC", "ETH"]')
        try:
            return [instrument(token).symbol for token in tokens]
        except Misconfigured as error:
            raise forms.ValidationError(str(error)) from error


class Stateful(BaseAdmin):
    """Base of rows that begin as drafts; actions change their state along the model's transition table."""

    def move(self, request: HttpRequest, rows: QuerySet[Any], state: str) -> None:
        """Move each of `rows` to `state`, and report those that could not be moved."""
        moved, refused = change_states(rows, state, by=request.user.get_username(), why="admin")
        for row, why in refused.items():
            messages.warning(request, f"{row}: {why}")
        self.report(request, moved, state)

    def report(self, request: HttpRequest, moved: list[Any], state: str) -> None:
        """Log the rows that moved, and say how many they are."""
        if moved:
            log_action(request, moved, f"Moved to {state}")
            messages.success(request, f"{len(moved)} now {state}")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.state == "draft")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out the bulk delete: it would delete rows that are no drafts."""
        actions = super().get_actions(request)
        return {name: found for name, found in actions.items() if name != "delete_selected"}

    @action(description="Activate", permissions=["operate"])
    def activate(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self.move(request, rows, "active")

    @action(description="Pause", permissions=["operate"])
    def pause(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        """Pause: no new signals or entries; open positions keep their exits."""
        self.move(request, rows, "paused")


class SubscriptionInline(TabularInline):
    model = Subscription
    extra = 0
    autocomplete_fields = ("account",)


@admin.register(Agent)
class AgentAdmin(Stateful):
    form = AgentForm
    list_display = (
        "name",
        "status",
        "venue",
        "sizing_preset",
        "exit_preset",
        "follows",
        "wallets",
        "signals",
        "owner",
    )
    list_filter = ("state", "venue", "sizing_preset", "exit_preset")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    date_hierarchy = "created_at"
    autocomplete_fields = ("owner",)
    readonly_fields = ("status", "signals", "fees_in_words", "created_at")
    actions = ("activate", "pause")
    inlines = (SubscriptionInline,)
    status = state_column(description="status")
    fieldsets = (
        (None, {"fields": (("name", "status"), ("owner", "created_at"), "signals")}),
        (
            "Trading",
            {
                "fields": (
                    ("venue", "tokens"),
                    ("sizing_preset", "exit_preset", "min_confidence"),
                    "volatility_target_pct",
                )
            },
        ),
        (
            "Fees",
            {
                "fields": (
                    "fees_in_words",
                    ("trade_fee", "monthly_fee"),
                    ("profit_fee",),
                    ("profit_share", "profit_receiver"),
                ),
                "description": "Deployments that have started keep the fees that they agreed to: they pay a changed "
                "fee only where it is not higher. See docs/fees.md.",
            },
        ),
        (WEIGHTS_TITLE, {"fields": WEIGHT_ROWS}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        """Annotate the numbers of followed accounts and active deployments."""
        rows: QuerySet[Agent] = super().get_queryset(request)
        return rows.annotate(
            n_follows=Count("subscriptions", distinct=True),
            n_deployments=Count(
                "deployments", filter=Q(deployments__state=DeploymentState.ACTIVE), distinct=True
            ),
        )

    def get_fieldsets(self, request: HttpRequest, obj: Agent | None = None) -> Any:
        """Show the weights as one line to viewers: the form's fields are no columns of the row."""
        sets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return sets
        return [
            (title, {"fields": ("weights_shown",)} if title == WEIGHTS_TITLE else opts)
            for title, opts in sets
        ]

    @display(description="weights")
    def weights_shown(self, row: Agent) -> str:
        return ", ".join(f"{name} {row.weights.get(name, 0)}" for name in EVIDENCE)

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> tuple[str, ...]:
        """Lock the venue once a deployment is activated: the deployment's account belongs to this venue."""
        fields = tuple(super().get_readonly_fields(request, obj))
        deployed = obj is not None and obj.deployments.exclude(state=DeploymentState.DRAFT).exists()
        return (*fields, "venue") if deployed else fields

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        """Make the creator the owner of a new agent that has none; started deployments keep the fees they agreed to."""
        if not change and obj.owner_id is None:
            obj.owner_id = request.user.pk
        before = Agent.objects.select_for_update().filter(pk=obj.pk).first() if change else None
        super().save_model(request, obj, form, change)
        kept = obj.keep_agreed_fees(fees_of(before)) if before else 0
        if kept:
            kept_text = f"Deployments that keep the fees they agreed to where the new ones are higher: {kept}"
            messages.info(request, kept_text)

    @display(description="fees")
    def fees_in_words(self, row: Agent) -> SafeString | str:
        """Show each fee of the agent in words."""
        if row.pk is None:
            return EMPTY
        own = fees_in_words(row)
        return format_html_join(SafeString("<br>"), "{}: {}", own.items())

    @display(description="follows", ordering="n_follows")
    def follows(self, row: Agent) -> SafeString | str:
        return list_link("agents.subscription", getattr(row, "n_follows", 0), agent__id__exact=row.pk)

    @display(description="active deployments", ordering="n_deployments")
    def wallets(self, row: Agent) -> SafeString | str:
        return list_link("agents.deployment", getattr(row, "n_deployments", 0), agent__id__exact=row.pk)

    @display(description="signals")
    def signals(self, row: Agent) -> SafeString | str:
        return list_link("signals_app.signal", "signals", agent__id__exact=row.pk)


class CtAccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """Holds a name to the rules of X, and the source to those that are configured; what stands already may stay."""

    class Meta:
        model = CtAccount
        fields = "__all__"

    def clean_x_username(self) -> str:
        """Return the name without @, or of a profile's address. Raises ValidationError."""
        name = clean_name(self.cleaned_data["x_username"])
        if "x_username" not in self.changed_data:
            return name
        if problem := name_problem(name):
            raise forms.ValidationError(problem)
        others = CtAccount.objects.filter(x_username__iexact=name).exclude(pk=self.instance.pk)
        if other := others.first():
            raise forms.ValidationError(f"{other} is known already: account {other.pk}")
        return name

    def clean_source(self) -> str:
        """Return the post source. Raises ValidationError with the known ones."""
        source: str = self.cleaned_data["source"]
        known = post_sources()
        chosen = "source" in self.changed_data or self.instance.pk is None
        if chosen and source not in known:
            listed = ", ".join(known) or "none: set ingest.sources in config/signals.yaml"
            raise forms.ValidationError(f"there is no post source {source}; known: {listed}")
        return source


@admin.register(CtAccount)
class CtAccountAdmin(BaseAdmin):
    form = CtAccountForm
    list_display = (
        "__str__",
        "is_active",
        "source",
        "impact_factor",
        "followers_count",
        "followers",
        "posts",
        "last_seen_at",
    )
    list_filter = ("is_active", "source")
    search_fields = ("x_username", "display_name")
    date_hierarchy = "last_seen_at"
    readonly_fields = ("since_id", "last_seen_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[CtAccount]:
        rows: QuerySet[CtAccount] = super().get_queryset(request)
        return rows.annotate(n_agents=Count("subscriptions"))

    @display(description="agents that follow", ordering="n_agents")
    def followers(self, row: CtAccount) -> SafeString | str:
        return list_link("agents.subscription", getattr(row, "n_agents", 0), account__id__exact=row.pk)

    @display(description="posts")
    def posts(self, row: CtAccount) -> SafeString | str:
        return list_link("signals_app.ctpost", "posts", account__id__exact=row.pk)


@admin.register(Subscription)
class SubscriptionAdmin(BaseAdmin):
    list_display = ("agent", "account")
    list_filter = (("agent", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("agent", "account")
    search_fields = ("agent__name", "account__x_username")
    autocomplete_fields = ("agent", "account")
