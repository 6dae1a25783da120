"""Transactions on a chain, in the admin: what was meant, what was sent, where it stands. Nobody edits one."""

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from maxxit.adminkit import (
    EMPTY,
    LargeTableAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    RecentValues,
    list_link,
    state_column,
)
from maxxit.core.errors import Misconfigured
from maxxit.core.money import plain
from trading.chain import chains
from trading.chain.chains import chain_of_id
from trading.chain.models import ChainAttempt, ChainTransaction, SafePlan
from trading.venues import safe_kinds
from trading.venues.safe.card import PermissionCard
from trading.venues.safe.trades import USDC_DECIMALS, whole

GWEI = 9
"""Wei in powers of ten."""
PAID = Decimal(1).scaleb(-12)
"""What is shown of a coin."""


def explorer_url(chain_id: int, tx_hash: str) -> str:
    """Where the chain's explorer shows the transaction; empty where the chain has none (the local one)."""
    stanza = chain_of_id(chain_id)
    return f"{stanza.explorer.rstrip('/')}/tx/{tx_hash}" if stanza and stanza.explorer else ""


class AttemptInline(ReadOnlyInline):
    """Every signed version that was stored before it left; the bytes themselves stay in the database."""

    model = ChainAttempt
    fields = readonly_fields = ("number", "hash", "most", "tips", "created_at", "broadcast_at")

    @display(description="max fee (gwei)")
    def most(self, row: ChainAttempt) -> str:
        return plain(row.max_fee.scaleb(-GWEI))

    @display(description="tip (gwei)")
    def tips(self, row: ChainAttempt) -> str:
        return plain(row.tip.scaleb(-GWEI))


@admin.register(ChainTransaction)
class ChainTransactionAdmin(LargeTableAdmin):
    """One intent: one nonce, however often its fees were raised."""

    list_display = (
        "id", "created_at", "intent", "phase", "reason", "nonce", "attempted", "block_number", "paid", "explorer",
        "trace",
    )  # fmt: skip
    list_filter = ("state", ("chain_id", RecentValues), ("reason", RecentValues))
    list_select_related = ("signer",)
    search_fields = ("=id", "idempotency_key__exact", "attempts__hash__exact")
    search_help_text = "correlation id, id, intent or transaction hash"
    inlines = (AttemptInline,)
    exclude = ("logs",)
    readonly_fields = ("phase", "paid", "order", "trace", "explorer")
    phase = state_column(description="phase")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ChainTransaction]:
        found: QuerySet[ChainTransaction] = super().get_queryset(request)
        attempts = ChainAttempt.objects.filter(transaction=OuterRef("pk")).order_by().values("transaction")
        return found.annotate(tries=Subquery(attempts.annotate(n=Count("pk")).values("n")))

    @display(description="intent", ordering="idempotency_key")
    def intent(self, row: ChainTransaction) -> SafeString:
        """What is meant, in two words; its key on hovering."""
        meant = f"{row.terms.get('purpose', '')} {row.terms.get('symbol', '')}".strip()
        return format_html('<span title="{}">{}</span>', row.idempotency_key, meant or row.idempotency_key)

    @display(description="attempts", ordering="tries")
    def attempted(self, row: ChainTransaction) -> int:
        """Signed versions: more than one means that fees were raised."""
        return row.tries or 0  # type: ignore[attr-defined]

    @display(description="gas paid")
    def paid(self, row: ChainTransaction) -> str:
        if row.gas_used is None or row.gas_price is None:
            return EMPTY
        stanza = chain_of_id(row.chain_id)
        coin = stanza.coin if stanza else ""
        return f"{plain((row.gas_used * row.gas_price).scaleb(-2 * GWEI).quantize(PAID))} {coin}"

    @display(description="order")
    def order(self, row: ChainTransaction) -> SafeString | str:
        return list_link("trading.order", row.idempotency_key, q=row.idempotency_key)

    @display(description="explorer")  # unfold has no types
    def explorer(self, row: ChainTransaction) -> Any:
        """The mined hash, with a link where the chain has an explorer."""
        if not row.mined_hash:
            return EMPTY
        url = explorer_url(row.chain_id, row.mined_hash)
        short = f"{row.mined_hash[:10]}…"
        if not url:
            return format_html('<span class="font-mono" title="{}">{}</span>', row.mined_hash, short)
        return format_html('<a href="{}" rel="noreferrer" class="font-mono">{}</a>', url, short)


@admin.register(SafePlan)
class SafePlanAdmin(ReadOnlyAdmin):
    """What the owners of a Safe were asked to sign, and what it means."""

    list_display = (
        "safe", "chain_id", "tokens", "executor", "lost_a_day", "lost_in_total", "created_at", "verified_at",
        "deployments",
    )  # fmt: skip
    list_filter = ("chain_id", ("verified_at", admin.EmptyFieldListFilter))
    search_fields = ("safe__iexact", "safe_tx_hash__exact", "module__iexact")
    search_help_text = "Safe, module or the hash that was signed"
    fields = readonly_fields = (
        "safe", "chain_id", "module", "safe_tx_hash", "created_at", "verified_at", "stops", "failures_since",
        "deployments", "card", "policy", "rules",
    )  # fmt: skip

    @display(description="permission card")
    def card(self, row: SafePlan) -> SafeString:
        made = _card(row)
        lines = [(line.replace("  ", "\u00a0\u00a0"),) for line in made.as_text().splitlines()]
        return format_html_join(SafeString("<br>"), "{}", lines)

    @display(description="tokens")
    def tokens(self, row: SafePlan) -> str:
        names = safe_kinds.of_plan(row).symbols_of(_contracts(row.chain_id), row)
        return ", ".join(f"{name[:8]}…" if name == address else name for address, name in names.items())

    @display(description="executor")
    def executor(self, row: SafePlan) -> str:
        executor: str = row.policy["executor"]
        return executor

    @display(description="most lost a day (USDC)")
    def lost_a_day(self, row: SafePlan) -> str:
        return plain(whole(_card(row).most_lost_per_day, USDC_DECIMALS))

    @display(description="most lost in total (USDC)")
    def lost_in_total(self, row: SafePlan) -> str:
        most = _card(row).most_lost_in_total
        return "all that it holds" if most is None else plain(whole(most, USDC_DECIMALS))

    @display(description="deployments")
    def deployments(self, row: SafePlan) -> SafeString | str:
        return list_link("agents.deployment", "deployments", q=row.safe)


def _card(row: SafePlan) -> PermissionCard:
    kind = safe_kinds.of_plan(row)
    return kind.card(_contracts(row.chain_id), kind.policy_of(row), kind.rules_of(row))


def _contracts(chain_id: int) -> chains.Contracts | None:
    """The chain's contracts; None where the chain is not configured here."""
    stanza = chain_of_id(chain_id)
    try:
        return chains.contracts(stanza) if stanza else None
    except Misconfigured:
        return None
