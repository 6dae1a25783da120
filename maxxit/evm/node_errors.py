"""What a node means when it does not take a transaction or a range of blocks, in whichever words its client uses.

Every phrase here was said by a client or a gateway; `tests/chain/zoo/` names where.
"""

import re
from decimal import Decimal
from enum import Enum

GWEI = 10**9
MOST_GWEI = 1_000_000
"""No tip is so high: a larger number is in wei."""


class Refusal(Enum):
    """Why signed bytes were not taken."""

    KNOWN = "known"
    """They are in the pool already: success."""
    NONCE_USED = "nonce_used"
    """Something with this nonce is in a block. Higher fees would change nothing, another nonce would trade twice."""
    FEES = "fees"
    """Higher fees would be taken."""
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
    (Refusal.OTHER, ("exceeds the configured cap",)),  # too much, not too little
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
"""In this order: the first that is found counts."""

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
    """Why bytes were not taken, by a node's message."""
    said = text.lower()
    return next((kind for kind, words in WORDS if any(word in said for word in words)), Refusal.OTHER)


def fees_named(text: str, max_fee: int, tip: int) -> tuple[int, int]:
    """(base fee, tip) in wei a gas that a refusal names as the least; 0 where it names none.

    `max_fee` and `tip` were offered. A tip without a unit is in wei, unless that would be no more than was offered:
    then a small number is in gwei.
    """
    said = text.lower()
    base_fee, least_tip = _amount(_BASE_FEES, said), _amount(_TIPS, said, tip)
    if least_tip and _FEE_CAP.search(said):
        base_fee, least_tip = max(base_fee, least_tip), 0
    return (base_fee if base_fee > max_fee else 0), (least_tip if least_tip > tip else 0)


def _amount(patterns: tuple[str, ...], said: str, offered: int = 0) -> int:
    for pattern in patterns:
        if found := re.search(pattern, said):
            amount, unit = Decimal(found[1]), found[2]
            in_gwei = unit == "gwei" or (not unit and amount <= min(offered, MOST_GWEI))
            return int(amount * GWEI if in_gwei else amount)
    return 0


def is_busy(code: object, text: str, method: str) -> bool:
    """Whether a node says that it cannot answer now, which refuses nothing.

    Of eth_getLogs the code "limit exceeded" means: for fewer blocks it would.
    """
    if method == "eth_getLogs" and code == -32005:
        return bool(_BUSY.search(text.lower()))
    return code in BUSY_CODES or bool(_BUSY.search(text.lower()))


def range_suggested(text: str) -> tuple[int, int] | None:
    """The first and last block that a gateway says it would answer."""
    said = text.lower()
    if found := _HEX_RANGE.search(said):
        return int(found[1], 16), int(found[2], 16)
    if found := _DECIMAL_RANGE.search(said):
        return int(found[1]), int(found[2])
    return None
