"""Admin pages of perps: funding, the margin that venues report, Hyperliquid's nonces, GMX's transactions."""

from django.contrib import admin

from maxxit.adminkit import LargeTableAdmin, ReadOnlyAdmin, number_column
from trading.models import FundingPayment, GmxScan, GmxTransaction, HyperliquidAction, MarginPosition


@admin.register(FundingPayment)
class FundingPaymentAdmin(LargeTableAdmin):
    """What open positions paid or received for funding, as it was booked."""

    list_display = ("at", "deployment", "symbol", "paid_or_received", "reference")
    search_fields = ("symbol__iexact", "reference")
    search_help_text = "symbol or reference"
    ordering = ("-at", "-id")
    paid_or_received = number_column("amount", "paid (−) or received, USDC")


@admin.register(MarginPosition)
class MarginPositionAdmin(ReadOnlyAdmin):
    """Leverage and liquidation price of positions as the venue reported them last."""

    list_display = (
        "account",
        "venue",
        "symbol",
        "leverage",
        "isolated",
        "own_margin",
        "liquidation_usd",
        "seen_at",
    )
    list_filter = ("venue", "isolated")
    search_fields = ("account", "symbol__iexact")
    search_help_text = "account or symbol"
    own_margin = number_column("margin")
    liquidation_usd = number_column("liquidation_price", "liquidation price (USD)")


@admin.register(HyperliquidAction)
class HyperliquidActionAdmin(LargeTableAdmin):
    """The nonce of each action, given once."""

    list_display = ("at", "account", "venue", "name", "nonce", "notional")
    search_fields = ("account", "name")
    search_help_text = "account, or the client order id"
    ordering = ("-at", "-id")
    notional = number_column("notional_usd", "notional (USD)")


@admin.register(GmxTransaction)
class GmxTransactionAdmin(LargeTableAdmin):
    """What GMX did with Safes, as it was read at final blocks."""

    list_display = ("at", "safe", "block_number", "forced", "hash")
    list_filter = ("forced",)
    search_fields = ("safe", "hash")
    search_help_text = "Safe, or hash of the transaction"
    ordering = ("-at", "-id")


@admin.register(GmxScan)
class GmxScanAdmin(ReadOnlyAdmin):
    """How far each Safe's transactions at GMX were read."""

    list_display = ("safe", "chain_id", "scanned_to")
    search_fields = ("safe",)
    search_help_text = "Safe"
