"""The bytes that are signed, numbers, nonces: against vectors of the SDK's repository and the documents."""

import json
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0, RecordedClock
from trading.venues.hyperliquid import nonces
from trading.venues.hyperliquid.accounts import state_of
from trading.venues.hyperliquid.models import HyperliquidAction
from trading.venues.hyperliquid.wire import (
    action_hash,
    cloid_of,
    is_valid_price,
    number,
    request_body,
    round_price,
    round_size,
    sign,
)

D = Decimal
KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
VAULT = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"


def order(asset: int, price: str, size: str, kind: Any, **more: Any) -> dict[str, Any]:
    wire = {"a": asset, "b": True, "p": price, "s": size, "r": False, "t": kind, **more}
    return {"type": "order", "orders": [wire], "grouping": "na"}


GTC = {"limit": {"tif": "Gtc"}}
CLOID = {"c": "0x00000000000000000000000000000001"}
STOP = {"trigger": {"isMarket": True, "triggerPx": "103", "tpsl": "sl"}}
VECTORS = [
    ({"type": "dummy", "num": 100_000_000_000}, None, True,
     "53749d5b30552aeb2fca34b530185976545bb22d0b3ce6f62e31be961a59298",
     "755c40ba9bf05223521753995abb2f73ab3229be8ec921f350cb447e384d8ed8", 27),
    ({"type": "dummy", "num": 100_000_000_000}, None, False,
     "542af61ef1f429707e3c76c5293c80d01f74ef853e34b76efffcb57e574f9510",
     "17b8b32f086e8cdede991f1e2c529f5dd5297cbe8128500e00cbaf766204a613", 28),
    ({"type": "dummy", "num": 100_000_000_000}, VAULT, True,
     "3c548db75e479f8012acf3000ca3a6b05606bc2ec0c29c50c515066a326239",
     "4d402be7396ce74fbba3795769cda45aec00dc3125a984f2a9f23177b190da2c", 28),
    (order(1, "100", "100", GTC), None, True,
     "d65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
     "2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e", 28),
    (order(1, "100", "100", GTC), None, False,
     "82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
     "6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5", 27),
    (order(1, "100", "100", GTC, **CLOID), None, True,
     "41ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3",
     "3c61f667e747404fe7eea8f90ab0e76cc12ce60270438b2058324681a00116da", 27),
    (order(1, "100", "100", STOP), None, True,
     "98343f2b5ae8e26bb2587daad3863bc70d8792b09af1841b6fdd530a2065a3f9",
     "6b5bb6bb0633b710aa22b721dd9dee6d083646a5f8e581a20b545be6c1feb405", 27),
    ({"type": "scheduleCancel"}, None, True,
     "6cdfb286702f5917e76cd9b3b8bf678fcc49aec194c02a73e6d4f16891195df9",
     "6557ac307fa05d25b8d61f21fb8a938e703b3d9bf575f6717ba21ec61261b2a0", 27),
    ({"type": "scheduleCancel", "time": 123456789}, None, False,
     "4e4f2dbd4107c69783e251b7e1057d9f2b9d11cee213441ccfa2be63516dc5bc",
     "706c656b23428c8ba356d68db207e11139ede1670481a9e01ae2dfcdb0e1a678", 27),
]  # fmt: skip
"""Action, vault, mainnet, r, s, v of tests/signing_test.py in hyperliquid-python-sdk; nonce 0."""


def test_the_connection_id_is_that_of_a_real_order() -> None:
    """Recorded by hyperliquid-python-sdk: 0.0147 ETH at 1670.1 on 2 March 2023."""
    action = order(4, "1670.1", "0.0147", {"limit": {"tif": "Ioc"}})
    found = action_hash(action, 1677777606040, None).hex()
    assert found == "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908"


@pytest.mark.parametrize(("action", "vault", "mainnet", "r", "s", "v"), VECTORS)
def test_signatures_are_those_of_the_sdk(
    action: Any, vault: str | None, mainnet: bool, r: str, s: str, v: int
) -> None:
    signature = sign(KEY, action_hash(action, 0, None, vault), mainnet=mainnet)
    assert signature == {"r": f"0x{r}", "s": f"0x{s}", "v": v}


def test_the_order_of_keys_the_nonce_and_the_expiry_are_signed() -> None:
    action = order(1, "100", "100", GTC)
    [wire] = action["orders"]
    turned = {**action, "orders": [dict(reversed(wire.items()))]}
    hashes = {
        action_hash(one, nonce, expiry)
        for one, nonce, expiry in [(action, 1, None), (turned, 1, None), (action, 2, None), (action, 1, 5)]
    }
    assert len(hashes) == 4


def test_the_text_of_an_action_keeps_its_keys_and_a_jsonb_column_does_not(db: None) -> None:
    text = json.dumps(order(1, "100", "100", GTC))
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [text])
        [stored] = cursor.fetchone()
    assert action_hash(json.loads(text), 1, None) != action_hash(json.loads(stored), 1, None)
    body = request_body(text, 7, {"r": "0x1", "s": "0x2", "v": 27}, None)
    assert text in body
    assert json.loads(body) == {
        "action": json.loads(text), "nonce": 7, "signature": {"r": "0x1", "s": "0x2", "v": 27},
        "vaultAddress": None, "expiresAfter": None,
    }  # fmt: skip


def test_our_order_id_is_a_cloid_of_128_bits() -> None:
    assert cloid_of("mx-1") != cloid_of("mx-2")
    assert len(cloid_of("mx-1")) == 34
    assert int(cloid_of("mx-1"), 16) > 0


@pytest.mark.parametrize(
    ("price", "decimals", "text"),
    [
        ("1234.56", 4, "1234.6"),
        ("0.00123456", 0, "0.001235"),
        ("123456.7", 5, "123457"),
        ("50251.25", 5, "50251"),
        ("2010.05", 4, "2010"),
        ("99.9999", 2, "100"),
        ("0.012345678", 1, "0.01235"),
    ],
)
def test_prices_have_five_figures_and_the_decimals_that_sizes_leave(
    price: str, decimals: int, text: str
) -> None:
    rounded = round_price(D(price), decimals)
    assert number(rounded) == text
    assert is_valid_price(rounded, decimals)


@given(
    st.decimals("0.0001", "9999999", places=8),
    st.integers(0, 5),
    st.sampled_from([ROUND_FLOOR, ROUND_CEILING]),
)
def test_a_rounded_price_is_valid_and_on_the_side_that_was_asked(
    price: Decimal, decimals: int, rounding: str
) -> None:
    rounded = round_price(price, decimals, rounding)
    assert not rounded or is_valid_price(rounded, decimals)
    assert rounded <= price if rounding == ROUND_FLOOR else rounded >= price


@given(st.decimals("0", "99999", places=9), st.integers(0, 5))
def test_sizes_are_rounded_down(size: Decimal, decimals: int) -> None:
    rounded = round_size(size, decimals)
    assert 0 <= size - rounded < D(1).scaleb(-decimals)
    assert "E" not in number(rounded)


@pytest.mark.parametrize(
    ("price", "valid"), [("1234.5", True), ("1234.56", False), ("123456", True), ("0.0012345", False)]
)
def test_integers_are_always_allowed(price: str, valid: bool) -> None:
    assert is_valid_price(D(price), 0) == valid


# --- nonces


def test_the_same_action_keeps_its_nonce_and_others_get_a_higher_one(db: None, time: RecordedClock) -> None:
    first = nonces.take("hl", "a", "mx-1")
    assert first == int(T0.timestamp() * 1000)
    assert [nonces.take("hl", "a", name) for name in ("mx-1", "mx-2", "mx-3")] == [
        first,
        first + 1,
        first + 2,
    ]
    assert nonces.take("hl", "b", "mx-1") == first
    time.move(seconds=1)
    assert nonces.take("hl", "a", "mx-4") == first + 1000
    assert nonces.take("hl", "a", "mx-2") == first + 1


def test_the_notional_of_a_day_is_counted_when_the_nonce_is_given(db: None, time: RecordedClock) -> None:
    for _ in range(2):
        nonces.take("hl", "a", "mx-1", D(500))
    time.move(hours=23)
    nonces.take("hl", "a", "mx-2", D(300))
    assert nonces.notional_of_day("hl", ["a", "b"]) == {"a": D(800)}
    time.move(hours=1)
    assert nonces.notional_of_day("hl", ["a"]) == {"a": D(300)}


@pytest.mark.django_db(transaction=True)
def test_processes_that_ask_at_once_get_different_nonces() -> None:
    barrier, taken = Barrier(8), []

    def ask(number: int) -> None:
        barrier.wait()
        try:
            for part in range(5):
                taken.append(nonces.take("hl", "a", f"mx-{number}-{part}"))
        finally:
            connection.close()

    threads = [Thread(target=ask, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(taken)) == len(taken) == 40
    assert HyperliquidAction.objects.count() == 40


# --- the account


RECORDED = [
    # hyperliquid-python-sdk, tests/cassettes/info_test/test_get_user_state.yaml: twelve positions, cross margin
    ("86.549602", "1182.312496", [
        ("-0.00785", "211.64542"), ("0.1334", "227.675114"), ("-0.45", "4.86"), ("76.6", "79.3576"),
        ("-121.2", "287.244"), ("7.39", "145.5091"), ("28.3", "464.12"), ("1.916", "588.0204"),
        ("-131.8", "509.5388"), ("-76.4", "156.238"), ("5.33", "469.7862"), ("246.5", "290.8207"),
    ]),
    # the documents' example of an isolated position (leverage.rawUsd -95.059824)
    ("13009.454678", "13109.482328", [("0.0335", "100.02765")]),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "value", "held"), RECORDED)
def test_recorded_cash_and_positions_add_up_to_the_account_value(
    raw: str, value: str, held: list[tuple[str, str]]
) -> None:
    """The identity of ADR 30: totalRawUsd = accountValue - the value of the positions, shorts negative."""
    state = state_of(
        {
            "marginSummary": {"totalRawUsd": raw, "accountValue": value, "totalMarginUsed": "0"},
            "withdrawable": "0",
            "assetPositions": [
                {
                    "position": {
                        "coin": f"C{number}", "szi": size, "positionValue": worth, "entryPx": "1", "marginUsed": "1",
                        "liquidationPx": None, "leverage": {"type": "cross", "value": 20},
                    }
                }
                for number, (size, worth) in enumerate(held)
            ],
        }
    )  # fmt: skip
    assert state.balances["USDC"] == D(raw)
    assert len(state.positions) == len(held)


def test_a_deadline_is_sent_in_milliseconds() -> None:
    assert nonces.milliseconds(T0 + timedelta(milliseconds=1)) == int(T0.timestamp()) * 1000 + 1
