"""Admin pages of posts, rejected posts and signals."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from maxxit.adminkit import (
    EMPTY,
    LargeTableAdmin,
    ReadOnlyAdmin,
    RecentValues,
    link,
    links,
    list_link,
    log_action,
    model_calls_link,
    number_column,
    preformatted,
    pretty,
    state_column,
)
from maxxit.core.errors import IllegalMove
from signals_app import ingest
from signals_app.labels.sets import MOST_AT_ONCE
from signals_app.models import (
    AuthorRecord,
    Comparison,
    CtPost,
    InboundPost,
    LabelledPost,
    LabelledSet,
    PostLabel,
    RejectedPost,
    ShadowReading,
    Signal,
    SocialMetric,
)
from signals_app.outcome import STAGES
from signals_app.states import PostState


class Outcome(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [(stage, stage.replace("_", " ")) for stage in STAGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[CtPost]) -> QuerySet[CtPost]:
        """Select posts by the furthest stage they reached; a full outcome such as `candidate:too_old` works too."""
        chosen = self.value()
        if not chosen:
            return queryset
        exactly = ":" in chosen or chosen not in ("prefiltered", "unread", "candidate")
        return (
            queryset.filter(outcome=chosen) if exactly else queryset.filter(outcome__startswith=f"{chosen}:")
        )


@admin.register(CtPost)
class CtPostAdmin(LargeTableAdmin):
    """A post: its text, what was read in it, and the furthest stage it reached."""

    list_display = (
        "posted_at",
        "account_link",
        "short",
        "status",
        "outcome",
        "tokens",
        "confidence_value",
        "trace",
    )
    list_filter = (
        "state", Outcome, "is_signal_candidate", ("sentiment", RecentValues), ("source", RecentValues),
        ("posted_at", admin.DateFieldListFilter), "account",
    )  # fmt: skip
    owners = ("account__id__exact",)
    list_select_related = ("account",)
    search_fields = ("post_id__exact", "text", "account__x_username")
    search_help_text = "correlation id, post id, words of the text, or the author"
    actions = ("requeue", "add_to_set")
    readonly_fields = ("account_link", "trace", "traces", "signals_of", "events", "status")
    status = state_column()
    confidence_value = number_column("confidence", places=2)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "text",
                    ("account_link", "post_id", "source"),
                    ("posted_at", "ingested_at"),
                    "link",
                    ("likes", "reposts", "replies", "quotes"),
                )
            },
        ),
        ("Outcome", {"fields": (("status", "outcome"), "signals_of", ("trace", "events", "traces"))}),
        (
            "Reading",
            {
                "fields": (
                    ("is_signal_candidate", "sentiment", "confidence"),
                    ("tokens", "sides"),
                    "reasoning",
                )
            },
        ),
        ("Errors", {"fields": (("attempts", "processed_for_signals"), "last_error", "correlation_id")}),
    )

    @action(description="Requeue quarantined posts (resets their attempts)", permissions=["operate"])
    def requeue(self, request: HttpRequest, rows: QuerySet[CtPost]) -> None:
        chosen = list(rows.filter(state=PostState.QUARANTINED))
        try:
            count = ingest.requeue([row.pk for row in chosen])
        except IllegalMove as error:
            messages.error(request, str(error))
            return
        log_action(request, chosen, "Requeued")
        messages.success(request, f"{count} quarantined of {rows.count()} selected posts requeued")

    @action(description="Add to a labelled set", permissions=["label"])
    def add_to_set(self, request: HttpRequest, rows: QuerySet[CtPost]) -> HttpResponse:
        """Go to the page that asks which set."""
        ids = ",".join(map(str, rows.order_by("pk").values_list("pk", flat=True)[:MOST_AT_ONCE]))
        return redirect(f"{reverse('operator-labels')}?{urlencode({'add': ids})}")

    def has_label_permission(self, request: HttpRequest) -> bool:
        """Whether this person may fill labelled sets."""
        return request.user.has_perm("signals_app.change_labelledset")

    @display(description="author", ordering="account__x_username")
    def account_link(self, row: CtPost) -> SafeString | str:
        return link("agents.ctaccount", row.account_id, row.account)

    @display(description="text")
    def short(self, row: CtPost) -> SafeString | str:
        text = row.text[:90] + ("…" if len(row.text) > 90 else "")
        return format_html('<span title="{}">{}</span>', row.text, text)

    @display(description="signals")
    def signals_of(self, row: CtPost) -> SafeString | str:
        signals = row.signals.select_related("agent")
        return links(("signals_app.signal", signal.pk, str(signal)) for signal in signals)

    @display(description="model calls")
    def traces(self, row: CtPost) -> SafeString | str:
        return model_calls_link(row.correlation_id)

    @display(description="events")
    def events(self, row: CtPost) -> SafeString | str:
        return list_link("events.event", "events", q=row.correlation_id)


@admin.register(InboundPost)
class InboundPostAdmin(LargeTableAdmin):
    list_display = ("received_at", "source", "username", "ident", "post_id")
    list_filter = (("source", RecentValues),)
    search_fields = ("ident__exact", "post_id__exact", "username")


@admin.register(SocialMetric)
class SocialMetricAdmin(LargeTableAdmin):
    list_display = ("at", "symbol", "galaxy_score", "sentiment_pct", "social_volume", "alt_rank")
    list_filter = (("symbol", RecentValues),)


@admin.register(RejectedPost)
class RejectedPostAdmin(LargeTableAdmin):
    list_display = ("seen_at", "source", "place", "reason")
    list_filter = (("source", RecentValues),)
    search_fields = ("place", "reason", "raw")


@admin.register(AuthorRecord)
class AuthorRecordAdmin(LargeTableAdmin):
    list_display = ("account", "at", "calls", "hit_rate", "mean_pct", "excess_pct", "q_value")
    list_select_related = ("account",)
    search_fields = ("account__x_username",)


@admin.register(LabelledSet)
class LabelledSetAdmin(ReadOnlyAdmin):
    """Sets of posts that people label; the page Labelled sets fills and labels them."""

    list_display = ("name", "note", "created_by", "created_at")
    search_fields = ("name", "note")


@admin.register(LabelledPost)
class LabelledPostAdmin(LargeTableAdmin):
    list_display = ("labelled_set", "username", "short", "added_by", "added_at", "decided_by")
    list_filter = ("labelled_set",)
    list_select_related = ("labelled_set",)
    owners = ("labelled_set__id__exact",)
    search_fields = ("post_id__exact", "text", "username")

    @display(description="text")
    def short(self, row: LabelledPost) -> str:
        return row.text[:90]


@admin.register(PostLabel)
class PostLabelAdmin(LargeTableAdmin):
    list_display = ("at", "post", "by", "sides")
    list_filter = (("by", RecentValues),)
    list_select_related = ("post__labelled_set",)
    search_fields = ("by", "post__post_id__exact")


@admin.register(Comparison)
class ComparisonAdmin(ReadOnlyAdmin):
    list_display = ("name", "provider", "prompt", "share", "started_by", "started_at", "ended_at")
    search_fields = ("name", "provider")


@admin.register(ShadowReading)
class ShadowReadingAdmin(LargeTableAdmin):
    list_display = ("at", "comparison", "post", "sides", "confidence", "model", "prompt_version", "error")
    list_filter = ("comparison",)
    list_select_related = ("comparison", "post__account")
    owners = ("comparison__id__exact",)
    search_fields = ("post__post_id__exact", "error")


@admin.register(Signal)
class SignalAdmin(LargeTableAdmin):
    list_display = (
        "created_at", "token", "side", "status", "reason", "agent_link", "confidence_value", "entry", "orders_of",
        "trace",
    )  # fmt: skip
    list_filter = (
        "state", "side", ("token", RecentValues), ("venue", RecentValues), "agent", ("reason", RecentValues),
        ("created_at", admin.DateFieldListFilter),
    )  # fmt: skip
    owners = ("agent__id__exact",)
    list_select_related = ("agent",)
    search_fields = ("token__iexact", "agent__name", "reason", "posts__post_id__exact")
    search_help_text = "correlation id, token, agent, reason or post id"
    readonly_fields = (
        "status", "agent_link", "posts_of", "orders_of", "positions_of", "trace", "events", "traces", "evidence",
        "indicators",
    )  # fmt: skip
    status = state_column()
    confidence_value = number_column("confidence", places=2)
    entry = number_column("entry_price", "entry price (USD)")
    fieldsets = (
        (None, {"fields": (("token", "side", "status"), ("agent_link", "reason"), ("venue", "bucket"))}),
        (
            "Terms",
            {
                "fields": (
                    ("confidence", "entry_price", "leverage"),
                    ("stop_loss_pct", "take_profit_pct"),
                    "size_model",
                )
            },
        ),
        ("Evidence", {"fields": ("posts_of", "evidence", "indicators", "traces")}),
        (
            "Orders and positions",
            {"fields": ("orders_of", "positions_of", ("trace", "events", "correlation_id"))},
        ),
        ("Times (UTC)", {"fields": (("created_at", "expires_at"),)}),
    )

    @display(description="agent", ordering="agent__name")
    def agent_link(self, row: Signal) -> SafeString | str:
        return link("agents.agent", row.agent_id, row.agent)

    @display(description="posts")
    def posts_of(self, row: Signal) -> SafeString | str:
        posts = row.posts.select_related("account")
        return links(("signals_app.ctpost", post.pk, str(post)) for post in posts)

    @display(description="orders")
    def orders_of(self, row: Signal) -> SafeString | str:
        return list_link("trading.order", "orders", signal__id__exact=row.pk)

    @display(description="positions")
    def positions_of(self, row: Signal) -> SafeString | str:
        return list_link("positions.position", "positions", signal__id__exact=row.pk)

    @display(description="model calls")
    def traces(self, row: Signal) -> SafeString | str:
        return model_calls_link(row.correlation_id)

    @display(description="events")
    def events(self, row: Signal) -> SafeString | str:
        return list_link("events.event", "events", q=row.correlation_id)

    @display(description="evidence and weights")
    def evidence(self, row: Signal) -> SafeString | str:
        """Show each piece of evidence, -1 (short) to 1 (long), with the agent's weight."""
        return preformatted(pretty(row.risk_model)) if row.risk_model else EMPTY

    @display(description="indicators at the decision")
    def indicators(self, row: Signal) -> SafeString | str:
        return preformatted(pretty(row.market)) if row.market else EMPTY
