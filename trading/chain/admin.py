"""Admin pages of transactions on a chain, which nobody edits, of plans of Safes, and of watched addresses."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from maxxit.adminkit import (
    EMPTY,
    BaseAdmin,
    LargeTableAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    RecentValues,
    list_link,
    number_column,
    state_column,
)
from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.money import plain
from trading.chain import chains, transfers
from trading.chain.chains import chain_of_id
from trading.chain.models import ChainAttempt, ChainTransaction, SafePlan, WatchedAddress
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


class WatchedAddressForm(forms.ModelForm):  # type: ignore[type-arg]
    """Holds a new address to what `manage.py addresses add` takes."""

    class Meta:
        model = WatchedAddress
        fields = ("chain_id", "address", "label", "min_usd", "user")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "user" in self.fields:  # absent for users who may only read
            self.fields["user"].required = False
        if "chain_id" in self.fields:
            names = [(one.chain_id, name) for name, one in sorted(chains.all_chains().items())]
            self.fields["chain_id"] = forms.TypedChoiceField(
                label="Chain", choices=names, coerce=int, widget=UnfoldAdminSelectWidget
            )

    def clean_label(self) -> str:
        label: str = self.cleaned_data["label"]
        if not label.isprintable():
            raise forms.ValidationError("write the label on one line")
        return label

    def clean(self) -> dict[str, Any]:
        """Refuse what cannot be watched. Raises ValidationError."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        try:
            if values.get("min_usd") is not None:
                transfers.check_limit(values["min_usd"])
                stanza = chain_of_id(values.get("chain_id", 0))
                if stanza and values.get("address"):
                    transfers.check(stanza, values["address"], values["min_usd"], values.get("user"))
        except Rejected as error:
            field = "min_usd" if error.code == "bad_number" else "address"
            self.add_error(field, str(error))
        return values


@admin.register(WatchedAddress)
class WatchedAddressAdmin(BaseAdmin):
    """An address whose transfers are reported; its chain and address are those that it was added with."""

    form = WatchedAddressForm
    list_display = ("address", "label", "chain", "limit", "user", "private", "created_at")
    list_filter = ("chain_id", "private", ("user", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("user",)
    search_fields = ("address__iexact", "label", "user__username")
    search_help_text = "address, label or user"
    fields = ("chain_id", "address", "label", "min_usd", "user", "private", "created_at")
    autocomplete_fields = ("user",)
    limit = number_column("min_usd", "smallest transfer (USD)")

    def get_readonly_fields(self, request: HttpRequest, obj: WatchedAddress | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("created_at", "private")
        return ("created_at", "private", "chain_id", "address", *(("user",) if obj.private else ()))

    def save_model(self, request: HttpRequest, obj: WatchedAddress, form: Any, change: bool) -> None:
        if not change:
            obj.created_at = clock.now()
        super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: WatchedAddress) -> None:
        transfers.remove(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[WatchedAddress]) -> None:
        for row in queryset:
            transfers.remove(row)

    @display(description="chain", ordering="chain_id")
    def chain(self, row: WatchedAddress) -> str:
        return chains.name_of_id(row.chain_id)
