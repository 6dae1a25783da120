"""Classify the error messages of Ethereum nodes: rejected transactions, rate limits, too large block ranges.

Every phrase is taken from a client or a gateway; `tests/chain/zoo/` lists the sources.
"""

import re
from decimal import Decimal
from enum import Enum

GWEI = 10**9
MAX_GWEI = 1_000_000
"""A larger number without a unit is in wei."""


class Refusal(Enum):
    """Why a node rejected a signed transaction."""

    KNOWN = "known"
    """It is in the pool already: success."""
    NONCE_USED = "nonce_used"
    """A transaction with this nonce is in a block. Higher fees do not help; another nonce would trade twice."""
    FEES = "fees"
    """The fees are too low."""
    NO_MONEY = "no_money"
    OTHER = "other"


WORDS: tuple[tuple[Refusal, tuple[str, ...]], ...] = (
    (
        Refusal.KNOWN,
        (
            "already known",
            "alreadyknown",
            "already_known",
            "known transaction",
            "already imported",
            "already in mempool",
            "already in the pool",
            "existing tx with same hash",
        ),
    ),
    (Refusal.OTHER, ("exceeds the configured cap",)),  # the fee is too high, not too low
    (
        Refusal.NONCE_USED,
        (
            "nonce too low",
            "nonce is too low",
            "noncetoolow",
            "nonce_too_low",
            "oldnonce",
            "invalid nonce",
            "invalid transaction nonce",
            "nonce below sender",
            "nonce has already been used",
        ),
    ),
    (
        Refusal.NO_MONEY,
        ("insufficient funds", "insufficientfunds", "insufficient balance", "upfront cost exceeds"),
    ),
    (
        Refusal.FEES,
        (
            "underpriced",
            "feetoolow",
            "fee too low",
            "fee is too low",
            "less than block base fee",
            "below base fee",
            "less than the current base fee",
            "gas price below",
            "below minimum",
            "below configured minimum",
            "below the minimum",
            "minimum needed",
            "tip needed",
            "gas price too low",
            "gas price is too low",
            "gasprice too low",
            "gas price supplied is too low",
            "feepergas too low",
            "could not replace existing tx",
            "miner premium is negative",
            "transaction price",
        ),
    ),
)
"""Checked in this order; the first match counts."""

_NUMBER = r"(\d+(?:\.\d+)?)\s*(gwei|wei)?"
_TIPS = (
    rf"minimum needed:?\s*{_NUMBER}",
    rf"tip needed:?\s*{_NUMBER}",
    rf"priorityfeepergas too low:? \d+ < {_NUMBER}",
    rf"minimal:\s*{_NUMBER}",
    rf"minimum(?: gas price| tip)?(?: of|:| is)?\s*{_NUMBER}",
)
_BASE_FEES = (rf"base\s?fee:?\s*{_NUMBER}",)
_FEE_CAP = re.compile(r"fee cap:? \d+, minimum needed")

BUSY_CODES = frozenset({-32005, -32002, 429})
"""EIP-1474: limit exceeded, resource unavailable."""
_BUSY = re.compile(
    r"rate.?limit|too many requests|request count|request rate|compute units|throughput|quota|credits|"
    r"header not found"
)
_HEX_RANGE = re.compile(r"\[\s*(0x[0-9a-f]+)\s*,\s*(0x[0-9a-f]+)\s*\]")
_DECIMAL_RANGE = re.compile(r"with the range (\d+)\s*-\s*(\d+)")


def refusal(text: str) -> Refusal:
    """Classify a node's message about a rejected transaction."""
    message = text.lower()
    return next((kind for kind, words in WORDS if any(word in message for word in words)), Refusal.OTHER)


def fees_named(text: str, max_fee: int, tip: int) -> tuple[int, int]:
    """Return the minimum (base fee, tip) in wei per gas that the message names; 0 where it names none.

    `max_fee` and `tip` were offered, in wei per gas. A tip without a unit is read as wei, unless that would not exceed
    the offer: then a small number is read as gwei.
    """
    message = text.lower()
    base_fee, min_tip = _amount(_BASE_FEES, message), _amount(_TIPS, message, tip)
    if min_tip and _FEE_CAP.search(message):
        base_fee, min_tip = max(base_fee, min_tip), 0
    return (base_fee if base_fee > max_fee else 0), (min_tip if min_tip > tip else 0)


def _amount(patterns: tuple[str, ...], message: str, offered: int = 0) -> int:
    for pattern in patterns:
        if match := re.search(pattern, message):
            amount, unit = Decimal(match[1]), match[2]
            in_gwei = unit == "gwei" or (not unit and amount <= min(offered, MAX_GWEI))
            return int(amount * GWEI if in_gwei else amount)
    return 0


def is_busy(code: object, text: str, method: str) -> bool:
    """Return whether the node is temporarily overloaded or rate limited.

    For eth_getLogs the code "limit exceeded" means instead that the block range is too large.
    """
    if method == "eth_getLogs" and code == -32005:
        return bool(_BUSY.search(text.lower()))
    return code in BUSY_CODES or bool(_BUSY.search(text.lower()))


def range_suggested(text: str) -> tuple[int, int] | None:
    """Return the first and last block of the range that a gateway suggests, or None."""
    message = text.lower()
    if match := _HEX_RANGE.search(message):
        return int(match[1], 16), int(match[2], 16)
    if match := _DECIMAL_RANGE.search(message):
        return int(match[1]), int(match[2])
    return None
