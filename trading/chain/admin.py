"""Transactions on a chain, in the admin: what was meant, what was sent, where it stands. Nobody edits one."""

from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from unfold.decorators import display

from maxxit.events.admin_links import EMPTY, Book, BookInline, number_column, state_column
from trading.chain.chains import chain_of_id
from trading.chain.models import ChainAttempt, ChainTransaction


def explorer_url(chain_id: int, tx_hash: str) -> str:
    """Where the chain's explorer shows the transaction; empty where the chain has none (the local one)."""
    stanza = chain_of_id(chain_id)
    return f"{stanza.explorer.rstrip('/')}/tx/{tx_hash}" if stanza and stanza.explorer else ""


class AttemptInline(BookInline):
    """Every signed version that was stored before it left; the bytes themselves stay in the database."""

    model = ChainAttempt
    fields = ("number", "hash", "max_fee", "tip", "created_at", "broadcast_at")


@admin.register(ChainTransaction)
class ChainTransactionAdmin(Book):
    """One intent: one nonce, however often its fees were raised."""

    list_display = (
        "id", "created_at", "idempotency_key", "phase", "reason", "nonce", "block_number", "gas_used", "explorer",
        "chain",
    )  # fmt: skip
    list_filter = ("state", "chain_id", "reason")
    list_select_related = ("signer",)
    search_fields = ("=id", "idempotency_key__exact", "mined_hash__exact", "attempts__hash__exact")
    search_help_text = "correlation id, id, intent or transaction hash"
    date_hierarchy = "created_at"
    inlines = (AttemptInline,)
    exclude = ("logs",)
    readonly_fields = ("phase", "chain", "explorer")
    phase = state_column(description="phase")
    paid = number_column("gas_price", "gas price (wei)")

    @display(description="explorer")  # type: ignore[untyped-decorator]  # unfold has no types
    def explorer(self, row: ChainTransaction) -> Any:
        """The mined hash, with a link where the chain has an explorer."""
        if not row.mined_hash:
            return EMPTY
        url = explorer_url(row.chain_id, row.mined_hash)
        short = f"{row.mined_hash[:10]}…"
        if not url:
            return format_html('<span class="font-mono" title="{}">{}</span>', row.mined_hash, short)
        return format_html('<a href="{}" rel="noreferrer" class="font-mono">{}</a>', url, short)
