"""The table of planted bugs (I29): zeros mean something only where a planted bug is found.

    python -m tests.chaos.mutants                 every mutant against T0, then T1, then the test named for it
    python -m tests.chaos.mutants --only "timeout" --faults 20000 --seed 3
    python -m tests.chaos.mutants --test-first    the named test before T0 and T1: the whole table in less time

A mutant is one edit of the product's own source, made in this process's memory and taken back afterwards: the files
are never touched. An edit whose place no longer exists fails loudly.
"""

import argparse
import ast
import importlib
import inspect
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from django.db import connection

from tests import planting
from tests.chaos.simulation import Campaign, arena, wipe

DEPLOYMENTS, ROUNDS = 3, 60
"""Worlds of mutants are small, so that the audit comes soon."""


@dataclass(frozen=True)
class Edit:
    """`old` becomes `new` in a function or a text of the product.

    In a function both are fragments of code, whose layout and local names do not matter (`tests.planting`); `Text`
    for a part of the function's string constants.
    """

    where: str
    """module:name, or module:Class.method"""
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    name: str
    edits: tuple[Edit, ...]
    listed: bool = False
    """Named in money-path.md, I29."""
    test: str = ""
    """The test that finds it where T0 and T1 need more than the given faults."""
    beyond: bool = False
    """Out of their reach: races need threads. Only the test is tried."""
    drops: tuple[str, str] | None = None
    """(unique index, its table): dropped too, where it would catch the bug a second time."""


def bug(
    name: str,
    *places: tuple[str, str, str],
    listed: bool = False,
    test: str = "",
    beyond: bool = False,
    drops: tuple[str, str] | None = None,
) -> Mutant:
    """A row of the table."""
    return Mutant(name, tuple(Edit(*one) for one in places), listed, test, beyond, drops)


OUTBOX = "trading.chain.outbox"
EXECUTE, SETTLE, PLANNING = "trading.execute", "trading.settle", "trading.entries.planning"
FACTS, QUARANTINE, LEDGER = "trading.risk.facts", "trading.quarantine", "trading.ledger"
BOOK, ENDING, WATCH = "positions.book", "positions.closing", "positions.exits.sweep"
DELIVERIES, CLAIMS = "maxxit.notify.worker", "maxxit.notify.delivery_queue"
GATE, RISK, LIMITS, RECORD = (
    "trading.gate",
    "trading.risk.checks",
    "trading.risk.limits",
    "maxxit.events.record",
)
SAFE_VENUE, STOPS_STAY = "trading.venues.safe.venue:SafeVenue", "tests/chain/sending/test_stops_stay.py"
GUARD, HEALTH = "positions.guard", "positions.health"
PAPER, BULK = "trading.venues.paper", "maxxit.postgres.bulk"
BATCHES, RACE = "tests/trading/test_batches.py", "tests/trading/test_race.py"
SAFE_CHECKS = "tests/chain/sending/test_safe_checks.py"
ALPACA, ALPACA_ORDERS, ALPACA_ACCOUNTS = (
    "trading.venues.alpaca",
    "tests/trading/venues/alpaca/test_orders.py",
    "tests/trading/venues/alpaca/test_accounts.py",
)
PERPS_EXITS = "tests/trading/venues/hyperliquid/test_exits.py"
PERPS_MOVES = "tests/trading/venues/hyperliquid/test_moves.py"
PERPS, PERPS_ORDERS, PERPS_ACCOUNTS, PERPS_SIGNER, PERPS_WIRE = (
    "trading.venues.hyperliquid",
    "tests/trading/venues/hyperliquid/test_orders.py",
    "tests/trading/venues/hyperliquid/test_accounts.py",
    "tests/trading/venues/hyperliquid/test_signer.py",
    "tests/trading/venues/hyperliquid/test_wire.py",
)
COINBASE, COINBASE_ORDERS, COINBASE_ACCOUNTS, COINBASE_TOKENS = (
    "trading.venues.coinbase",
    "tests/trading/venues/coinbase/test_orders.py",
    "tests/trading/venues/coinbase/test_accounts.py",
    "tests/trading/venues/coinbase/test_tokens.py",
)
AT_VENUE, RESTING = "positions.exits.at_venue", "trading.entries.resting_exits"
AT_VENUE_TEST, BRACKETS_TEST = (
    "tests/positions/exits/test_at_venue.py",
    "tests/trading/venues/alpaca/test_brackets.py",
)
KNOWN_404 = "not at_venue.capabilities.dedup or clock.now() >= order.deadline"

MUTANTS = (
    bug(
        "the stop of an entry at Hyperliquid may open a position",
        (f"{PERPS}.signer:_check_leg", "not known or not same or leg['r'] is not True or _", "False"),
        test=PERPS_SIGNER,
        beyond=True,
    ),
    bug(
        "an exit that Hyperliquid keeps has ended before its fills are seen",
        (f"{PERPS}.exits:_leg", "has_ended(row, filled)", "row['status'] not in ('open', 'triggered')"),
        test=PERPS_EXITS,
        beyond=True,
    ),
    bug(
        "watching exits uses up the rate limit of Hyperliquid",
        (f"{PERPS}.client:Client._spend", "background.is_on()", "False"),
        test=PERPS_EXITS,
        beyond=True,
    ),
    bug(
        "the exits of the oldest entries are watched first",
        (f"{AT_VENUE}:_longest_not_read", "(_read_at.get(pk, NEVER), pk)", "pk"),
        test=AT_VENUE_TEST,
        beyond=True,
    ),
    bug(
        "exits that Hyperliquid does not know have ended",
        (f"{PERPS}.exits:legs_of", "if not known:\n    ...", "if not known:\n    return ()"),
        test=PERPS_EXITS,
        beyond=True,
    ),
    bug(
        "the stop at Hyperliquid is canceled at the deadline of its entry",
        (
            f"{PERPS}.venue:HyperliquidVenue._cancel_late",
            "LEG not in ref.client_order_id and ref.is_over(clock.now())",
            "ref.is_over(clock.now())",
        ),
        test=PERPS_EXITS,
        beyond=True,
    ),
    bug(
        "funding of Hyperliquid is a transfer of the owner",
        (
            "trading.perps.funding:_journal",
            "Move(source, target, venue_policy(venue).cash, abs(one.amount), 'funding')",
            "Move(source, target, venue_policy(venue).cash, abs(one.amount), 'external')",
        ),
        test=PERPS_MOVES,
        beyond=True,
    ),
    bug(
        "funding that was paid is booked as received",
        ("trading.perps.funding:_journal", "one.amount > 0", "one.amount != 0"),
        test=PERPS_MOVES,
        beyond=True,
    ),
    bug(
        "the fee of a withdrawal from Hyperliquid is forgotten",
        (
            f"{PERPS}.moves:amount_of",
            "if kind == 'withdraw':\n    return -Decimal(delta['usdc']) - fee",
            "if kind == 'withdraw':\n    return -Decimal(delta['usdc'])",
        ),
        test=PERPS_MOVES,
        beyond=True,
    ),
    bug(
        "an unknown ledger update of Hyperliquid moves nothing",
        (f"{PERPS}.moves:amount_of", "ZERO if kind in NO_CASH else None", "ZERO"),
        test=PERPS_MOVES,
        beyond=True,
    ),
    bug(
        "the other side of a liquidation counts as liquidated",
        (
            f"{PERPS}.moves:liquidations_of",
            "liquidation and str(liquidation.get('liquidatedUser', '')).lower() == address",
            "liquidation",
        ),
        test=PERPS_MOVES,
        beyond=True,
    ),
    bug(
        "a liquidation is an unexplained difference until it is adopted",
        (
            f"{PERPS}.venue:HyperliquidVenue.unexplained",
            "one.symbol in left and liquidations.awaits_adoption(self.name, account, one.ref)",
            "False",
        ),
        test=PERPS_MOVES,
        beyond=True,
    ),
    bug(
        "a closing order of ours does not wait for the venue's exits",
        (f"{EXECUTE}:_reserve", "order.closes_id in resting", "False"),
        test=AT_VENUE_TEST,
    ),
    bug(
        "asking for a cancellation ends the venue's exits",
        (
            f"{AT_VENUE}:_cancel",
            "Order.objects.filter(pk__in=[entry.pk for entry in entries]).update(exits_canceled_at=clock.now())",
            "Order.objects.filter(pk__in=[entry.pk for entry in entries]).update(exits_at_venue=ExitsAtVenue.ENDED)",
        ),
        test=AT_VENUE_TEST,
    ),
    bug(
        "an exit of the venue is adopted again with each fill",
        (f"{RESTING}:key_of", "leg.reason", "leg.reason + str(leg.filled)"),
        test=AT_VENUE_TEST,
    ),
    bug(
        "a venue's exit that filled in part and stands still is waited for",
        (f"{AT_VENUE}:watch", "closed | _stalled(entries)", "closed"),
        test=AT_VENUE_TEST,
    ),
    bug(
        "an exit that may still fill counts as ended",
        (f"{AT_VENUE}:adopt", "not all((leg.ended for leg in legs))", "False"),
        (f"{AT_VENUE}:_apply", "all((leg.ended for leg in legs))", "True"),
        test=AT_VENUE_TEST,
    ),
    bug(
        "what the venue's exit filled is not adopted",
        (
            f"{AT_VENUE}:adopt",
            "{resting_exits.key_of(entry_id, leg): leg for leg in legs if leg.filled}",
            "{}",
        ),
        test=AT_VENUE_TEST,
    ),
    bug(
        "ours stays planned beside an exit that was adopted",
        (
            f"{AT_VENUE}:close_by",
            "advance(ours, OrderState.BLOCKED, why=Reason.EXITS_AT_VENUE, reason=Reason.EXITS_AT_VENUE)",
            "None",
        ),
        test=AT_VENUE_TEST,
    ),
    bug(
        "an exit with fills takes the place of one that is not booked",
        (f"{AT_VENUE}:is_free", "position.state != PositionState.CLOSING or waiting", "True"),
        test=AT_VENUE_TEST,
    ),
    bug(
        "legs that Alpaca does not show are gone",
        (f"{ALPACA}.brackets:legs_of", 'row["status"] in ENDED and row["status"] != "filled"', "True"),
        test=BRACKETS_TEST,
        beyond=True,
    ),
    bug(
        "a leg at Alpaca whose status is unknown has ended",
        (f"{ALPACA}.brackets:legs_of", 'chain[-1]["status"] in ENDED', "not is_open(chain[-1])"),
        test=BRACKETS_TEST,
        beyond=True,
    ),
    bug(
        "a leg that its owner moved at Alpaca is another leg",
        (f"{ALPACA}.brackets:_read", "reader.whole_chain(leg)", "[leg]"),
        test=BRACKETS_TEST,
        beyond=True,
    ),
    bug(
        "a leg at Alpaca is canceled at the entry's deadline",
        ("trading.venues.broker:Ref.is_over", "now >= self.deadline", "True"),
        test=BRACKETS_TEST,
        beyond=True,
    ),
    bug(
        "a bracket for Alpaca has fractions of a share",
        (f"{ALPACA}.terms:_levels", "if request.quantity % 1: ...", "if False: ..."),
        test=BRACKETS_TEST,
        beyond=True,
    ),
    bug(
        "an order at Hyperliquid gets a new nonce when it is prepared again",
        (
            f"{PERPS}.nonces:INSERT",
            "ON CONFLICT (venue, account, name) DO NOTHING",
            "ON CONFLICT (venue, account, name) DO UPDATE SET nonce = excluded.nonce",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "an order at Hyperliquid gets a new nonce each time it is sent",
        (
            f"{PERPS}.venue:HyperliquidVenue._send",
            "self.signer.body(keys, payload['action'], payload['nonce'], deadline, facts)",
            "self.signer.body(keys, payload['action'], payload['nonce'] + "
            "__import__('time').monotonic_ns() % 1_000_000, deadline, facts)",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "two processes read the same highest nonce",
        (f"{PERPS}.nonces:LOCK", "SELECT pg_advisory_xact_lock(", "SELECT length(%s) + length(%s) + ("),
        test=PERPS_WIRE,
        beyond=True,
    ),
    bug(
        "an order that Hyperliquid refuses is not looked up",
        (f"{PERPS}.venue:HyperliquidVenue._send", "self._arrived(keys, sent)", "False"),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "a duplicate nonce at Hyperliquid is a rejection",
        (f"{PERPS}.venue:HyperliquidVenue._send", "refusal.arrived_before", "False"),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "reconciliation sends again what is being sent",
        ("trading.reconciliation.orders:reconcile_orders", "SENT", "IN_FLIGHT"),
        test="tests/trading/reconciliation/test_cycle.py",
        beyond=True,
    ),
    bug(
        "a size leaves for Hyperliquid as a float",
        (f"{PERPS}.orders:order_action", "number(limit.size)", "float(limit.size)"),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "the action for Hyperliquid is stored with sorted keys, as a jsonb column does",
        (
            f"{PERPS}.orders:order_action",
            "compact(action)",
            "__import__('json').dumps(action, sort_keys=True)",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "an exit at Hyperliquid may open a position",
        (f"{PERPS}.orders:order_action", "request.purpose == Purpose.CLOSE", "False"),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "an unknown status of Hyperliquid is the end",
        (f"{PERPS}.orders:is_open", "found['status'] != 'filled'", "found['status'] in PENDING"),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "an order at Hyperliquid ends before its fills are seen",
        (
            f"{PERPS}.orders:has_ended",
            "clock.now() < moment(found['statusTimestamp']) + LATE_FILLS",
            "False",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "the builder fee of a fill at Hyperliquid is charged twice",
        (f"{PERPS}.orders:fill_of", "Decimal(row['fee']) - builder_fee", "Decimal(row['fee'])"),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "a refusal that Hyperliquid sends with HTTP 200 is a success",
        (
            f"{PERPS}.venue:HyperliquidVenue._send",
            "isinstance(status, Mapping) and isinstance(status.get('error'), str)",
            "False",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "every 4xx is a refusal in Hyperliquid's words",
        (
            f"{PERPS}.client:Client._post",
            "error.code == 'http_422' and not error.body.lstrip().startswith('<')",
            "True",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "an order leaves for Hyperliquid before its leverage is known to be set",
        (
            f"{PERPS}.venue:HyperliquidVenue._set_leverage",
            "self.client.exchange(body)",
            "self.client.exchange(body) if False else None",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "the margin of a position at Hyperliquid is the whole account",
        (
            f"{PERPS}.orders:leverage_action",
            "{'type': 'updateLeverage', 'asset': market.asset, 'isCross': False, 'leverage': leverage}",
            "{'type': 'updateLeverage', 'asset': market.asset, 'isCross': True, 'leverage': leverage}",
        ),
        test=PERPS_ORDERS,
        beyond=True,
    ),
    bug(
        "the signer of Hyperliquid knows no price band",
        (f"{PERPS}.signer:_check_order", "abs(price - quote) > quote * band", "False"),
        test=PERPS_SIGNER,
        beyond=True,
    ),
    bug(
        "the signer of Hyperliquid signs every action",
        (f"{PERPS}.signer:Signer.body", "check(content, self.policy, facts)", "None"),
        test=PERPS_SIGNER,
        beyond=True,
    ),
    bug(
        "the signer of Hyperliquid forgets the notional of the day",
        (f"{PERPS}.signer:_check_order", "facts.notional_today_usd > policy.daily_notional_usd", "False"),
        test=PERPS_SIGNER,
        beyond=True,
    ),
    bug(
        "another market at the configured place is traded",
        (f"{PERPS}.markets:Listing.check", "told != (market.coin, market.sz_decimals, False)", "False"),
        test=PERPS_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "the main wallet's own key is taken as an agent's",
        (f"{PERPS}.accounts:access_of", "agent == keys.address", "False"),
        test=PERPS_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "another agent of an account is no alarm",
        (f"{PERPS}.access:Access.problem", "valid - {own}", "set()"),
        test=PERPS_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "the account value is taken for the cash of a perps account",
        (f"{PERPS}.accounts:state_of", "Decimal(summary['totalRawUsd'])", "Decimal(summary['accountValue'])"),
        test=PERPS_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "Coinbase's success false counts as taken",
        (
            f"{COINBASE}.venue:CoinbaseVenue._note_answer",
            'if answer["success"] is False: ...',
            'if answer["success"] is False: return None',
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a refusal by Coinbase without a reason counts",
        (f"{COINBASE}.venue:CoinbaseVenue._refuse", "if not word: ...", "if False: ..."),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a repeat to Coinbase gets another id",
        (
            f"{COINBASE}.venue:CoinbaseVenue.prepare",
            "body_of(request, sent_id_of(ref), limit)",
            'body_of(request, sent_id_of(ref)[:-1] + __import__("random").choice("0123456789"), limit)',
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a repeat is sent to Coinbase where nothing shows that it knows one",
        (
            f"{COINBASE}.venue:CoinbaseVenue.__init__",
            "self.capabilities = _",
            "self.capabilities = Capabilities(True, False, Decimal(1), False, FIND_LAG)",
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a quantity leaves for Coinbase as a float",
        (
            f"{COINBASE}.orders:_terms",
            '{"base_size": plain(quantity)}',
            '{"base_size": float(quantity)}',
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "an unknown status of Coinbase is the end",
        (
            f"{COINBASE}.orders:_state",
            'ENDED.get(row["status"])',
            'ENDED.get(row["status"], OrderState.CANCELED)',
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "an order at Coinbase ends before its fills are seen",
        (f"{COINBASE}.orders:report_of", "None in states or known != filled", "None in states"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "the token of a request to Coinbase names its query",
        (
            f"{COINBASE}.client:Client._request",
            "keys.token(method, API + path, expires_at)",
            'keys.token(method, API + path + "?limit=250", expires_at)',
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a token for Coinbase outlives its order",
        (
            f"{COINBASE}.token:Keys.token",
            "min(end, int(expires_at.timestamp())) if expires_at else end",
            "end",
        ),
        test=COINBASE_TOKENS,
        beyond=True,
    ),
    bug(
        "an order at Coinbase has the deadline of every venue",
        (
            f"{COINBASE}.venue:CoinbaseVenue.prepare",
            "min(request.deadline, clock.now() + LIFETIME)",
            "request.deadline",
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "an order leaves for Coinbase after its deadline",
        (f"{COINBASE}.venue:CoinbaseVenue._send", "clock.now() >= deadline", "False"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "an order at Coinbase may fill long after its deadline",
        (f"{COINBASE}.venue:CoinbaseVenue._find", "ref.is_over(clock.now())", "False"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "an entry at Coinbase has no bound",
        (f"{COINBASE}.venue:CoinbaseVenue.prepare", "request.purpose == Purpose.OPEN", "False"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "an exit at Coinbase waits for a price",
        (f"{COINBASE}.venue:CoinbaseVenue.prepare", "request.purpose == Purpose.OPEN", "True"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "the bound of an entry at Coinbase is rounded against its owner",
        (f"{COINBASE}.orders:bound", "(1, ROUND_FLOOR)", "(1, ROUND_CEILING)"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "any 4xx page is Coinbase's refusal",
        (
            f"{COINBASE}.client:Client._request",
            "_refusal(error)",
            '(_refusal(error) or Refusal(404, "NOT_FOUND", ""))',
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a wrong clock is a refusal of the key by Coinbase",
        (f"{COINBASE}.client:Client._check_clock", "abs(skew) > SKEW_SECONDS", "False"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "orders beyond a page of Coinbase's are absent",
        (
            f"{COINBASE}.client:Client.pages",
            'answer.get("has_next") is False',
            "True",
        ),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a correction of Coinbase's is booked as a fill",
        (f"{COINBASE}.reader:_is_fill", 'row.get("trade_type", "FILL") == "FILL"', "True"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "a known order that Coinbase does not show is absent",
        (f"{COINBASE}.reader:Reader.reports", "self.unread.get(sent_id_of(ref))", "None"),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "Coinbase is asked on through its rate limit",
        (f"{COINBASE}.client:Client._request", "if error.limited: ...", "if False: ..."),
        test=COINBASE_ORDERS,
        beyond=True,
    ),
    bug(
        "any host may be Coinbase",
        (f"{COINBASE}.client:checked_url", "url == URL", 'url.startswith("https")'),
        test=COINBASE_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "a key of Coinbase's that does not tell whether it can transfer is stored",
        (
            f"{COINBASE}.access:Access.key_access",
            'row.get("can_transfer") is not False',
            'row.get("can_transfer") is True',
        ),
        test=COINBASE_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "a product of Coinbase's that is closed is entered",
        (f"{COINBASE}.access:_product", 'row.get("status") not in ("online", "", None) or _', "False"),
        test=COINBASE_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "what Coinbase's preview objects to is entered",
        (f"{COINBASE}.venue:CoinbaseVenue._preview", 'preview.get("errs") or ()', "()"),
        test=COINBASE_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "what open orders hold at Coinbase is no balance",
        (
            f"{COINBASE}.access:Access.balances",
            '_amount(row, "available_balance") + _amount(row, "hold")',
            '_amount(row, "available_balance")',
        ),
        test=COINBASE_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "a venue's earlier deadline is not kept",
        (f"{EXECUTE}:_reserved", "prepared.deadline or deadline", "deadline"),
        test=COINBASE_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "a repeated client order id is a rejection at Alpaca",
        (
            f"{ALPACA}.venue:AlpacaVenue._send",
            "refusal.number == BAD_REQUEST and DUPLICATE in refusal.text or self._arrived(*_)",
            "False",
        ),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "every bad request at Alpaca is a repeat",
        (
            f"{ALPACA}.venue:AlpacaVenue._send",
            "refusal.number == BAD_REQUEST and DUPLICATE in refusal.text",
            "refusal.number == BAD_REQUEST",
        ),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "a refusal by Alpaca counts although the order arrived before",
        (f"{ALPACA}.venue:AlpacaVenue._send", "_ or self._arrived(*_)", "_"),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "a quantity leaves for Alpaca as a float",
        (f"{ALPACA}.terms:terms_of", "plain(request.quantity)", "float(request.quantity)"),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "an unknown status of Alpaca is the end",
        (
            f"{ALPACA}.orders:report_of",
            'ENDED.get(last["status"])',
            'ENDED.get(last["status"], OrderState.CANCELED)',
        ),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "an order at Alpaca ends before its fills are seen",
        (f"{ALPACA}.orders:report_of", "state is None or known != filled", "state is None"),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "an order that was replaced at Alpaca is lost",
        (
            f"{ALPACA}.reader:Reader._with_replacements",
            'chain[-1]["status"] == "replaced" and _',
            "False and _",
        ),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "any 404 makes an order at Alpaca absent",
        (
            f"{ALPACA}.client:Client._request",
            "_refusal(error) or _",
            '_refusal(error) or Refusal(404, 40410000, "")',
        ),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "fills beyond a page of Alpaca's are lost",
        (f"{ALPACA}.reader:Reader.activities", "len(page) < ACTIVITY_PAGE", "True"),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "Alpaca is asked on through its rate limit",
        (f"{ALPACA}.client:Client._request", "if error.limited: ...", "if False: ..."),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "an order at Alpaca may fill long after its deadline",
        (f"{ALPACA}.venue:AlpacaVenue._find", "order.is_over(clock.now())", "False"),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "an order leaves for Alpaca after its deadline",
        (f"{ALPACA}.venue:AlpacaVenue._send", "clock.now() >= deadline", "False"),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "any host may be Alpaca",
        (f"{ALPACA}.client:paper_host", "url == PAPER_URL", 'url.startswith("https")'),
        test=ALPACA_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "Alpaca's coins are booked without its fee",
        (f"{ALPACA}.orders:report_of", "crypto_fee if crypto else ZERO", "ZERO"),
        test=ALPACA_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "an order for stocks leaves while their exchange is closed",
        (f"{ALPACA}.venue:AlpacaVenue.problem", "if stock and not _: ...", "if False: ..."),
        test=ALPACA_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "what an owner moved before the start is booked again",
        (f"{ALPACA}.transfers:choose", "one.day > since", "True"),
        (f"{ALPACA}.transfers:choose", "abs(rest) < abs(difference)", "True"),
        test=ALPACA_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "an owner's transfers that an operator booked are booked again",
        (f"{ALPACA}.transfers:choose", "if not difference: ...", "if False: ..."),
        (f"{ALPACA}.transfers:choose", "abs(rest) < abs(difference)", "True"),
        test=ALPACA_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "what an operator booked hides an owner's later transfer",
        (f"{ALPACA}.transfers:book", "_booked_by_operators(deployment)", "[]"),
        test=ALPACA_ACCOUNTS,
        beyond=True,
    ),
    bug(
        "reads use up Alpaca's minute",
        (f"{ALPACA}.client:Client.leave_reserve", "left <= RESERVED and seconds > 0", "False"),
        test=ALPACA_ORDERS,
        beyond=True,
    ),
    bug(
        "a month whose event was lost is charged again",
        (
            "trading.ledger:book_subscription",
            'f"{deployment_id}:{reference}"',
            'f"{deployment_id}:{reference}:{LedgerEntry.objects.count()}"',
        ),
        test="tests/trading/billing/test_subscriptions.py",
        beyond=True,
    ),
    bug(
        "a month that begins while paused is charged",
        (
            "trading.billing.subscriptions:months_begun",
            "state == DeploymentState.ACTIVE and start > now - LOOK_BACK",
            "start > now - LOOK_BACK",
        ),
        test="tests/trading/billing/test_subscriptions.py",
        beyond=True,
    ),
    bug(
        "a payment may be more than what is owed",
        ("trading.billing.payments:pay", "if amount > owed: ...", "if False: ..."),
        test="tests/trading/billing/test_debts.py",
        beyond=True,
    ),
    bug(
        "a small debt never alerts, however old",
        (
            "trading.billing.debts:is_uncollected",
            "debt.owed > rule.limit_usdc or _",
            "debt.owed > rule.limit_usdc",
        ),
        test="tests/trading/billing/test_debts.py",
        beyond=True,
    ),
    bug(
        "a raised fee holds for those who agreed to a lower one",
        (
            "agents.fee_terms:terms",
            "now.trade if now.trade.never_above(signed.trade) else signed.trade",
            "now.trade",
        ),
        test="tests/agents/test_fee_terms.py",
        beyond=True,
    ),
    bug(
        "one retired id fails a whole request to Pyth",
        (
            "maxxit.market.feeds.pyth:Pyth._parsed",
            '{"ignore_invalid_price_ids": "true", **_}',
            '{"ignore_invalid_price_ids": "false", **_}',
        ),
        test="tests/market/test_rows.py",
        beyond=True,
    ),
    bug(
        "one malformed row silences a price feed",
        ("maxxit.market.feeds.wire:each", "if refused and not found: ...", "if refused: ..."),
        test="tests/contracts/test_feeds.py",
        beyond=True,
    ),
    bug(
        "an empty page that names a next one counts for nothing",
        (
            "signals_app.sources.x:XSource.fetch",
            "places += max(1, len(items))",
            "places += max(0, len(items))",
        ),
        test="tests/signals_app/test_x.py",
        beyond=True,
    ),
    bug(
        "the application may empty and change what is written once",
        (
            "maxxit.ops.roles:_application",
            'f"REVOKE UPDATE, DELETE ON {written_once} FROM {{app}}"',
            'f"GRANT UPDATE, TRUNCATE ON {written_once} TO {{app}}"',
        ),
        test="tests/ops/test_roles.py",
        beyond=True,
    ),
    bug(
        "staff sees every row without a permission",
        (
            "maxxit.access.rows:sees_all",
            "staff.has_perm(wanted)",
            "staff.has_perm(wanted) or True",
        ),
        test="tests/surface/test_access.py",
        beyond=True,
    ),
    bug(
        "a NUL character reaches the database",
        ("maxxit.access.inputs:refuse_nul", 'b"\\0" not in query and _', "True"),
        test="tests/surface/test_inputs.py",
        beyond=True,
    ),
    bug(
        "a query parameter that does not exist is ignored",
        ("maxxit.access.inputs:known_query", "request.GET.keys() - known", "set() - known"),
        test="tests/surface/test_refusals.py",
        beyond=True,
    ),
    bug(
        "a customer gets a key with the scope admin",
        ("maxxit.access.auth:create_key", "ADMIN in wanted", "False"),
        test="tests/surface/test_refusals.py",
        beyond=True,
    ),
    bug(
        "a file without posts of the span is backtested",
        (
            "signals_app.inputs:check_posts",
            """
                within = [_1 for _2 in posts if _3]
                if within:
                    return within
            """,
            """
                within = [_1 for _2 in posts if _3]
                if within or posts:
                    return within
            """,
        ),
        test="tests/signals_app/authors/test_record.py",
        beyond=True,
    ),
    bug(
        "a job that is switched off alerts nobody",
        (
            "maxxit.pipeline.sync:report_disabled_jobs",
            "[name for name in _ if name not in told]",
            "[name for name in _ if name in told]",
        ),
        test="tests/pipeline/test_schedule.py",
        beyond=True,
    ),
    bug(
        "an executor runs out of gas money without an alert",
        (
            "trading.venues.safe.reconcile:warn_if_low",
            "max(_.executor_low_wei, needed)",
            "0 * max(_.executor_low_wei, needed)",
        ),
        test="tests/chain/test_executor_balance.py",
        beyond=True,
    ),
    bug(
        "the cache loads pickles",
        (
            "maxxit.core.json_cache:JsonSerializer.loads",
            "return json.loads(data)",
            "import pickle; return pickle.loads(data)",
        ),
        test="tests/platform/test_settings.py",
        beyond=True,
    ),
    bug(
        "a login attempt is counted only once it failed",
        ("maxxit.access.attempts:begin", "row.failures + 1", "row.failures"),
        test="tests/surface/test_login.py",
        beyond=True,
    ),
    bug(
        "a block of a login never alerts",
        ("maxxit.access.attempts:failed", "row.blocked_until and _", "False and _"),
        test="tests/surface/test_login.py",
        beyond=True,
    ),
    bug(
        "a password alone opens an account with a second factor",
        (
            "maxxit.web.login:LoginForm._check_second_factor",
            "if user.otp_device is None: ...",
            "if False: ...",
        ),
        test="tests/surface/test_login.py",
        beyond=True,
    ),
    bug(
        "a fresh id per attempt",
        (
            f"{SETTLE}:_handle_not_found",
            "Prepared(order.venue_ref, order.prepared)",
            "Prepared(f'{order.venue_ref}{clock.now():%f%S}', order.prepared)",
        ),
        listed=True,
    ),
    bug(
        "a timeout counts as rejected",
        (
            f"{SETTLE}:note_send_errors",
            "Transition(order, OrderState.UNKNOWN, str(error))",
            "Transition(order, OrderState.REJECTED, str(error), fields={'reason': 'timeout'})",
        ),
        listed=True,
    ),
    bug(
        "no dedup, and sent again after a 404",
        (f"{SETTLE}:_handle_not_found", KNOWN_404, "clock.now() >= order.deadline"),
        listed=True,
    ),
    bug(
        "committed after sending",
        (
            f"{EXECUTE}:place",
            """
                ready = quarantine.by_halves(*_)
                ...
                return placed
            """,
            """
                with transaction.atomic():
                    ready = quarantine.by_halves(*_)
                    ...
                    return placed
            """,
        ),
        listed=True,
    ),
    bug(
        "a claim without fencing",
        (f"{RECORD}:advance_all", "_lock(table, ids, old)", "_lock(table, ids)"),
        (f"{RECORD}:lock_unmoved", "states.get(row.pk) == row.state", "True"),
        listed=True,
    ),
    bug(
        "the gate is read from a cache",
        (
            f"{GATE}:read_many",
            """
                cursor.execute(GATE, _1 | {"venue": venue, "accounts": _2})
                dry_run, approved, not_revoked, switches = cursor.fetchone()
            """,
            """
                cursor.execute(GATE, _1 | {"venue": venue, "accounts": _2})
                row = read_many.__dict__.setdefault(venue, cursor.fetchone())
                dry_run, approved, not_revoked, switches = row
            """,
        ),
        listed=True,
    ),
    bug(
        "an error of a cap is swallowed",
        (
            f"{RISK}:check_throttles",
            """
                if facts.account is None or facts.platform is None:
                    return _stop(Reason.THROTTLES_UNREADABLE)
            """,
            """
                if facts.account is None or facts.platform is None:
                    return PASS
            """,
        ),
        (f"{RISK}:check_exposure", "return _stop(Reason.EXPOSURE_UNREADABLE)", "return PASS"),
        listed=True,
        test="tests/trading/risk/test_checks.py",
    ),
    bug(
        "a failed read is an empty answer",
        (
            f"{SETTLE}:book_answers",
            "report is None",
            "report is None or isinstance(report, Retryable | Unknown)",
        ),
        listed=True,
        test="tests/trading/test_settle.py",
    ),
    bug(
        "a move that changes no row goes on",
        (f"{RECORD}:advance", "if not moved: ...", "if False: ..."),
        listed=True,
        test="tests/events/test_record.py",
    ),
    bug(
        "a lock that locks nothing",
        (
            f"{LIMITS}:LOCK",
            "SELECT pg_advisory_xact_lock(key)",
            "SELECT key",
        ),
        listed=True,
        test="tests/trading/test_race.py",
        beyond=True,
    ),
    bug(
        "midnight releases the kill switch",
        (
            f"{GATE}:kill_level",
            "KillSwitch.objects.filter(released_at=None, **_)",
            "KillSwitch.objects.filter(released_at=None, pulled_at__date=clock.now().date(), **_)",
        ),
        listed=True,
        test="tests/trading/test_execute.py",
    ),
    bug(
        "given up at the deadline, though the venue may still deny it",
        (f"{SETTLE}:_handle_not_found", "order.deadline + at_venue.capabilities.find_lag", "order.deadline"),
    ),
    bug(
        "a slow answer counts from when it came",
        (f"{SETTLE}:_handle_not_found", "asked >= order.deadline + _", "clock.now() >= order.deadline + _"),
        test="tests/trading/test_settle.py",
    ),
    bug(
        "sent again past a shut gate",
        (f"{SETTLE}:allowed_by_gate", "if verdict.allowed: ...", "if True: ..."),
        test="tests/trading/test_settle.py",
    ),
    bug(
        "signed bytes leave through a shut gate",
        (f"{OUTBOX}:_send", "if not may_send(tx): ...", "if False: ..."),
        (f"{OUTBOX}:follow", "if not may_send(tx): ...", "if False: ..."),
        test="tests/chain/sending/test_gate.py",
    ),
    bug(
        "fees of an entry are raised behind a shut gate",
        (f"{OUTBOX}:_bump_fees", "if not may_send(tx): ...", "if False: ..."),
        (f"{OUTBOX}:follow", "if not may_send(tx): ...", "if False: ..."),
        (f"{OUTBOX}:_send", "if not may_send(tx): ...", "if False: ..."),
        test="tests/chain/sending/test_gate.py",
    ),
    bug(
        "an exit waits behind the nonce of an entry that is held back",
        (f"{OUTBOX}:_cancel_earlier_nonces", "held.state == TxState.EXPIRED or not may_send(held)", "False"),
        test="tests/chain/sending/test_gate.py",
    ),
    bug(
        "what is held back ends before the module refuses it",
        (f"{OUTBOX}:_expire", "chain.block(final).timestamp <= tx.deadline.timestamp()", "False"),
        test="tests/chain/sending/test_gate.py",
    ),
    bug(
        "a nonce that stays unmined in front of an exit is told to nobody",
        (f"{OUTBOX}:_cancel_earlier_nonces", "held.state in NOT_MINED and _", "False and _"),
        test="tests/chain/sending/test_gate.py",
    ),
    bug(
        "a vote compares how clients write their JSON",
        ("maxxit.evm.facts:core", "optional = dict.fromkeys(_optional(fact))", "optional = {}"),
        test="tests/chain/test_zoo.py",
    ),
    bug(
        "a majority of those who answer decides",
        ("maxxit.evm.rpc:quorum_of", "configured // 2 + 1", "1"),
        test="tests/chain/sending/test_rpc.py",
    ),
    bug(
        "the chain's nonce is adopted however far it is ahead",
        (f"{OUTBOX}:_refuse_far_nonce", "floor <= row.next_nonce + NONCE_GAP", "True"),
        test="tests/chain/sending/test_outbox.py",
    ),
    bug(
        "the amount that a refusal names is not read",
        ("maxxit.evm.node_errors:fees_named", "_amount(_TIPS, said, tip)", "0"),
        test="tests/chain/test_zoo.py",
    ),
    bug(
        "fees that are refused climb by fifteen percent only",
        (
            f"{OUTBOX}:fees_after_refusal",
            "least = TIP_LADDER[step] if step < len(TIP_LADDER) else 2 * tip",
            "least = 0",
        ),
        test="tests/chain/sending/test_outbox.py",
    ),
    bug(
        "a refusal that repeats is told to nobody",
        (f"{OUTBOX}:_count_refusal", "if tx.refusals >= ALERT_AFTER_REFUSALS: ...", "if False: ..."),
        test="tests/chain/sending/test_outbox.py",
    ),
    bug(
        "a refused range shrinks by one block at a time",
        ("maxxit.evm.rpc:_smaller", "return size // 2", "return size - 1"),
        test="tests/chain/sending/test_rpc.py",
    ),
    bug(
        "limit exceeded on eth_getLogs is busy",
        (
            "maxxit.evm.node_errors:is_busy",
            'if method == "eth_getLogs" and code == -32005: ...',
            "if False: ...",
        ),
        test="tests/chain/test_zoo.py",
    ),
    bug(
        "an old report moves an order back",
        (
            f"{SETTLE}:_moves",
            "return report.state not in IN_FLIGHT or report.state in ORDER[OrderState(order.state)]",
            "return True",
        ),
        test=f"{BATCHES}::test_reports_that_are_older_than_their_orders_change_nothing",
    ),
    bug(
        "the report is applied to the row as it was read",
        (
            f"{SETTLE}:apply_reports",
            """
                with connection.cursor() as cursor:
                    cursor.execute(LOCK, [[one.order.pk for one in reports]])
                    current = _1
            """,
            """
                with connection.cursor() as cursor:
                    cursor.execute(LOCK, [[one.order.pk for one in reports]])
                    current = {one.order.pk: __import__("copy").copy(one.order) for one in reports}
            """,
        ),
        test="tests/trading/test_settle.py",
    ),
    bug(
        "a fill that stands twice in a report is booked twice",
        (
            f"{SETTLE}:_new_fills",
            """
                offered = {fill.fill_id: fill for fill in one.report.fills}
                new = [fill for fill_id, fill in offered.items() if fill_id not in before]
            """,
            "new = [fill for fill in one.report.fills if fill.fill_id not in before]",
        ),
    ),
    bug(
        "known fills are not known",
        (f"{SETTLE}:_new_fills", "fill_id not in before", "True"),
    ),
    bug(
        "the venue's fee is not booked",
        (f"{LEDGER}:fill_journal", "[token, cash, fee]", "[token, cash]"),
    ),
    bug(
        "the platform's fee is booked for exits, too",
        (f"{SETTLE}:_trade_fees", "one.order.purpose == Purpose.OPEN and all(_)", "all(_)"),
    ),
    bug(
        "only accepted orders are asked about",
        (
            f"{SETTLE}:settle_due",
            "_.filter(state__in=IN_FLIGHT)",
            '_.filter(state__in=("accepted", "partially_filled", "unknown"))',
        ),
    ),
    bug(
        "fan-out asks no one what it did before, and no index forbids a second order",
        (f"{PLANNING}:FAN_OUT", "AND o.deployment_id = d.id AND o.purpose = 'open')", "AND false)"),
        (
            f"{PLANNING}:FAN_OUT",
            "'open:' || d.id || ':' || s.id",
            "'open:' || d.id || ':' || s.id || random()",
        ),
        drops=("one_order_per_deployment_signal_and_purpose", "orders"),
    ),
    bug(
        "a signal is concluded while orders of it wait",
        (f"{PLANNING}:FINISHED_SIGNALS", "HAVING bool_and(o.state IS DISTINCT FROM 'planned')", ""),
        test=f"{BATCHES}::test_a_signal_is_finished_once_none_of_its_orders_waits",
    ),
    bug(
        "the duplicate check is off, and a placed order is taken from its planned copy",
        (f"{RISK}:check_duplicate", "facts.duplicate", "False"),
        (f"{RECORD}:lock_unmoved", "states.get(row.pk) == row.state", "True"),
    ),
    bug(
        "two monitors may claim one position",
        (f"{WATCH}:CLAIM", "::bigint[]) AND p.state = 'open'", "::bigint[])"),
        test="tests/positions/test_book.py",
    ),
    bug(
        "an exit sells the whole, whatever was sold before",
        (f"{WATCH}:CLAIM", "p.quantity - p.closed_quantity AS quantity", "p.quantity AS quantity"),
    ),
    bug(
        "the closing orders of one pass all close the oldest entry",
        (
            f"{WATCH}:CLAIM",
            "exit_reason, entry_order_id,",
            "exit_reason, (SELECT min(entry_order_id) FROM claimed),",
        ),
        test="tests/positions/exits/test_levels.py",
    ),
    bug(
        "what a deployment owes the platform names no deployment",
        (
            f"{LEDGER}:post_all",
            "deployment_of(account)",
            "None if account.endswith(':payable') else deployment_of(account)",
        ),
        test="tests/trading/test_ledger.py",
    ),
    bug(
        "an exit waits for the fills of its entry, and they for the exit",
        (
            f"{BOOK}:open_positions",
            '_.select_for_update(of=("self",), no_key=True)',
            '_.select_for_update(of=("self",))',
        ),
        test="tests/trading/test_race.py",
        beyond=True,
    ),
    bug(
        "an exit that was half filled closes the whole",
        (f"{ENDING}:end_exits", "if closed_quantity < position.quantity: ...", "if False: ..."),
    ),
    bug(
        "a position closes while its entry still fills",
        (
            f"{ENDING}:with_ended_entry",
            "Position.objects.filter(pk__in=position_ids, entry_order__state__in=IN_FLIGHT)",
            "Position.objects.none()",
        ),
        test="tests/positions/test_book.py",
    ),
    bug(
        "a position closes without the fills that settled meanwhile",
        (f"{ENDING}:end_exits", "entry.booked_quantity == entry.filled_quantity", "True"),
        (f"{BOOK}:ENDED", "AND e.filled_quantity = e.booked_quantity ", ""),
        test="tests/positions/test_book.py",
    ),
    bug(
        "more fills of an entry do not make its position larger",
        (
            f"{BOOK}:_enlarge",
            '{"quantity": _1, "entry_price": _2, "fees": _3}',
            '{"fees": _3}',
        ),
    ),
    bug(
        "a rejected exit is never tried again",
        (
            f"{BOOK}:ENDED",
            "'accepted', 'partially_filled')",
            "'accepted', 'partially_filled', 'rejected', 'expired')",
        ),
    ),
    bug(
        "reduce only stops nothing",
        (
            f"{RISK}:gate_verdict",
            "if gate.kill_level and not reduces: ...",
            "if gate.kill_level == 'flatten' and not reduces: ...",
        ),
    ),
    bug(
        "an approval has no end",
        (
            f"{GATE}:GATE",
            "approved_at <= %(now)s AND expires_at > %(now)s",
            "approved_at <= %(now)s",
        ),
        test="tests/trading/test_gate.py",
    ),
    bug(
        "what cannot be read of the gate is open",
        (f"{GATE}:read_many", "dry_run is None or dry_run", "False"),
    ),
    bug(
        "a stale price is used",
        ("maxxit.market.validation:fault", "if now - at > max_age: ...", "if False: ..."),
    ),
    bug(
        "a price of nothing is used",
        ("maxxit.market.validation:fault", "not price.is_finite() or price <= 0", "False"),
    ),
    bug(
        "one order a minute too many",
        (f"{RISK}:check_throttles", "if measured >= limit: ...", "if measured > limit: ..."),
        test="tests/trading/risk/test_checks.py",
    ),
    bug(
        "no cooldown",
        (
            f"{RISK}:check_throttles",
            "since < mine.cooldown_seconds_per_symbol",
            "since < 0 * mine.cooldown_seconds_per_symbol",
        ),
        test="tests/trading/risk/test_checks.py",
    ),
    bug(
        "entries go against what is held",
        (f"{RISK}:check_venue", "facts.buys != (facts.held > 0)", "False"),
        test="tests/trading/test_execute.py",
    ),
    bug(
        "a broken order is tried for ever",
        (f"{QUARANTINE}:_count_failure", 'Least(F("attempts") + 1, MAX_ATTEMPTS)', 'F("attempts")'),
        test="tests/trading/test_settle.py",
        beyond=True,
    ),
    bug(
        "a time limit is charged to the order under way",
        (f"{QUARANTINE}:quarantine_on_error", "ends_the_pass(error)", "False"),
        test="tests/trading/test_quarantine.py",
        beyond=True,
    ),
    bug(
        "a quarantined exit is set aside for good",
        (f"{QUARANTINE}:is_retried", "order.purpose == Purpose.CLOSE", "False"),
        test="tests/trading/test_quarantine.py",
        beyond=True,
    ),
    bug(
        "the venue is asked before the gate",
        (
            f"{EXECUTE}:place",
            "if not at_venue.capabilities.local: ...",
            "if False: ...",
        ),
        test="tests/trading/test_execute.py",
        beyond=True,
    ),
    bug(
        "an exit waits for the platform's lock",
        (
            f"{EXECUTE}:_reserve",
            "limits.lock(_1, platform=_2)",
            "limits.lock(_1)",
        ),
        test="tests/trading/test_execute.py",
        beyond=True,
    ),
    bug(
        "two closing orders of one account under way at once",
        (
            "trading.closing:Lanes.next_batch",
            "due.venue == venue_name and due.account not in busy",
            "due.venue == venue_name",
        ),
        test="tests/trading/test_closing.py",
        beyond=True,
    ),
    bug(
        "a flatten waits for a fresh quote",
        (f"{FACTS}:Exits._price", "if not order.is_urgent: ...", "if True: ..."),
        test="tests/positions/test_flatten.py",
        beyond=True,
    ),
    bug(
        "every stop loss takes the last known price",
        (f"{FACTS}:Exits._price", "if not order.is_urgent: ...", "if False: ..."),
        test="tests/positions/test_flatten.py",
    ),
    bug(
        "what flatten left behind a shut gate is not said",
        (
            "positions.flatten:gate_reason",
            "return checks.gate_verdict(gate.read(venue), reduces=True).reason",
            "return ''",
        ),
        test="tests/positions/test_flatten.py",
        beyond=True,
    ),
    bug(
        "the back-off of an exit is never forgotten",
        (f"{ENDING}:_refusals", "before is None or _", "False and before is None or _"),
        test="tests/positions/test_flatten.py",
        beyond=True,
    ),
    bug(
        "an approval expires without a word",
        ("trading.operations.approvals:_step", 'return "expired"', 'return ""'),
        test="tests/trading/operations/test_approvals.py",
        beyond=True,
    ),
    bug(
        "the profit share is booked twice",
        (
            f"{ENDING}:_close",
            """
                [
                    ledger.profit_share_journal(result.position.pk, _1, _2, _3, collected=False)
                    for result in results
                    if _4
                ]
            """,
            """
                [
                    ledger.profit_share_journal(number, _1, _2, _3, collected=False)
                    for result in results
                    if _4
                    for number in (result.position.pk, -result.position.pk)
                ]
            """,
        ),
    ),
    bug(
        "every thread asks the endpoints for their heads at once",
        ("maxxit.evm.rpc:Chain.healthy", "if not mine and self._healthy: ...", "if False: ..."),
        test="tests/chain/sending/test_rpc.py",
        beyond=True,
    ),
    bug(
        "an exit that fails for months overflows its counter",
        (f"{QUARANTINE}:_count_failure", 'Least(F("attempts") + 1, MAX_ATTEMPTS)', 'F("attempts") + 1'),
        test="tests/trading/test_quarantine.py",
        beyond=True,
    ),
    bug(
        "a silent receiver delays the others",
        (f"{DELIVERIES}:Pass._claim", "ThreadPoolExecutor(threads)", "ThreadPoolExecutor(1)"),
        test="tests/notify/test_neighbours.py",
        beyond=True,
    ),
    bug(
        "a silent receiver is asked again for each of its deliveries",
        (f"{DELIVERIES}:Pass._finish", "failed or lane.seconds >= _", "lane.seconds >= _"),
        test="tests/notify/test_neighbours.py",
        beyond=True,
    ),
    bug(
        "a resting endpoint uses up the tries of its deliveries",
        (f"{CLAIMS}:ELIGIBLE", "AND coalesce(e.rests_until, %(now)s) <= %(now)s", ""),
        test="tests/notify/test_neighbours.py",
        beyond=True,
    ),
    bug(
        "one person's flood is delivered before anyone else's first",
        (f"{CLAIMS}:ELIGIBLE", "ORDER BY turn, failures > 0, id", "ORDER BY id"),
        test="tests/notify/test_neighbours.py",
        beyond=True,
    ),
    bug(
        "alerts wait behind price rules",
        (
            f"{DELIVERIES}:deliver",
            """
                done = deliver_alerts()
                _pass(RuleDelivery, _1, DELIVER_TASK, done)
            """,
            """
                _pass(RuleDelivery, _1, DELIVER_TASK, DeliveryResult())
                done = deliver_alerts()
            """,
        ),
        test="tests/notify/test_neighbours.py",
        beyond=True,
    ),
    bug(
        "a proposed plan ends the verification",
        ("trading.venues.safe.plans:_store_plan", "if deployment.safe_wallet != safe: ...", "if True: ..."),
        test=STOPS_STAY,
        beyond=True,
    ),
    bug(
        "a plan that nobody signed is in force",
        (
            "trading.venues.safe.safes:_store_result",
            """
                if wrong:
                    record(_1, _2, entries=_3 if stands else _4, **_)
                    return
            """,
            """
                if not stands:
                    record(_1, _2, entries=_3 if stands else _4, **_)
                    return
            """,
        ),
        test=STOPS_STAY,
        beyond=True,
    ),
    bug(
        "an exit waits for the verification",
        (f"{SAFE_VENUE}._problem", "purpose == Purpose.OPEN and _", "_"),
        test=STOPS_STAY,
        beyond=True,
    ),
    bug(
        "a soft stop of the guardian holds exits",
        (
            "trading.venues.safe.verify:closing_problem",
            "_.stop_level >= m.HALTED",
            "_.stop_level >= m.NO_ENTRIES",
        ),
        test=STOPS_STAY,
        beyond=True,
    ),
    bug(
        "any deployment trades a verified Safe",
        (f"{SAFE_VENUE}._entry_problem", "_.filter(pk=deployment, **_)", "_.filter(**_)"),
        test=STOPS_STAY,
        beyond=True,
    ),
    bug(
        "the new key signs for every Safe",
        (
            f"{SAFE_VENUE}._allowed",
            "self.signers[allowed.policy.executor]",
            "next(iter(self.signers.values()))",
        ),
        test=STOPS_STAY,
        beyond=True,
    ),
    bug(
        "an ordinary refusal counts as a blocked rate",
        (
            f"{HEALTH}:ORDERS",
            "AND NOT (state = 'blocked' AND reason = ANY(%(ordinary)s))",
            "AND %(ordinary)s::text[] IS NOT NULL",
        ),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "one account's loss stops everybody",
        (
            f"{GUARD}:_account_pulls",
            "Pull(cause, level, measured, limit, one.account)",
            "Pull(cause, level, measured, limit)",
        ),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "the worst account counts for the platform's ceilings",
        (f"{GUARD}:_all_but_worst", "[one for one in _ if one is not worst]", "[one for one in _]"),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "an order in flight hides everybody's drift",
        ("trading.reconcile:compare_settled", "(account, asset) not in moving", "not moving"),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "a deposit counts as a gain",
        (f"{HEALTH}:_figures", '{"pnl": equity - deposits, **_}', '{"pnl": equity, **_}'),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "a roll-up leaves the watermark where it was",
        ("positions.performance.roll_up:_add_batch", 'mark.until = span["until"]', "pass"),
        test="tests/positions/performance/test_parts.py",
        beyond=True,
    ),
    bug(
        "a roll-up passes a transaction that is still writing",
        ("positions.performance.roll_up:COMPLETE", "min(a.xact_start) - interval '1 minute'", "NULL"),
        test="tests/positions/performance/test_parts.py",
        beyond=True,
    ),
    bug(
        "what closed since the roll-up is in no part",
        (
            "positions.performance.parts:_Span.params",
            '{"after": max(self.first, self.rolled_up), **_}',
            '{"after": END, **_}',
        ),
        test="tests/positions/performance/test_parts.py",
        beyond=True,
    ),
    bug(
        "an author gets the weight of all earlier ones too",
        ("maxxit.core.money:split", "parts.append(upto - before)", "parts.append(upto)"),
        test="tests/core/test_money.py",
        beyond=True,
    ),
    bug(
        "an account's best PnL follows its last midnight",
        ("positions.performance.equity:BEST", "WHERE best_pnls.pnl < excluded.pnl", ""),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "an account that cannot be read trades on",
        (f"{HEALTH}:_balances", '_["unread"] = name', '_["unread"] = ""'),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "an order may stay unknown for ever",
        (f"{GUARD}:_account_pulls", "_is_over(one.unknown_for, stuck.unknown_seconds)", "False"),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "a release quiets its cause for every account",
        (
            f"{GUARD}:watch",
            "(one.account, one.cause) not in quiet",
            "one.cause not in {cause for _, cause in quiet}",
        ),
        test="tests/positions/test_guard.py",
        beyond=True,
    ),
    bug(
        "the sweep reads every order while the switch of one account is latched",
        (
            "positions.exits.sweep:SEARCH",
            "SELECT FROM agent_deployments d WHERE d.id = o.deployment_id AND d.account = k.account",
            "SELECT FROM orders e WHERE e.id = o.entry_order_id AND e.account = k.account",
        ),
        test="tests/test_plans.py",
        beyond=True,
    ),
    bug(
        "a list counts all of its rows",
        ("maxxit.paging:bounded_count", "_[:COUNTED]", "_"),
        test="tests/test_plans.py",
        beyond=True,
    ),
    bug(
        "a Safe's guard is not looked at",
        (
            "trading.venues.safe.safe_contract:read",
            "contract.retrieve_transaction_guard()",
            "contract.retrieve_module_guard()",
        ),
        test=SAFE_CHECKS,
        beyond=True,
    ),
    bug(
        "a Safe that reverts goes on",
        ("trading.venues.safe.entry_stops:note_failure", "len(newest) == limit", "len(newest) > limit"),
        test=SAFE_CHECKS,
        beyond=True,
    ),
    bug(
        "the first pool that quotes is taken",
        ("trading.venues.safe.pools:best_pool", "max(enough, key=lambda one: one.returned)", "enough[0]"),
        test=SAFE_CHECKS,
        beyond=True,
    ),
    bug(
        "a shallow pool is not told from a deep one",
        (
            "trading.venues.safe.spot:Spot.shallow",
            "pool.impact_bps > at.stanza.max_price_impact_bps",
            "False",
        ),
        test=SAFE_CHECKS,
        beyond=True,
    ),
    bug(
        "the card leaves out that a feed deviates when it is sold too",
        ("trading.venues.safe.card:worst_case", "-2 * notional", "-1 * notional"),
        test="tests/chain/test_card.py",
        beyond=True,
    ),
    bug(
        "the card says the loss budget is all",
        (
            "trading.venues.safe.card:worst_case",
            "policy.loss_budget + turned_over(policy.daily_notional)",
            "policy.loss_budget",
        ),
        test="tests/chain/test_card.py",
        beyond=True,
    ),
    bug(
        "a content filter on one post stops all reading",
        (
            "maxxit.llm.providers.wire:HttpProvider.unanswered",
            'return Unanswered(_1, code=f"answer_{kind}", **_)',
            "raise Retryable(kind)",
        ),
        test="tests/llm/test_ask.py",
        beyond=True,
    ),
    bug(
        "a refused batch is blamed as a whole",
        ("signals_app.classify:ClassifyPass._finish", "len(batch) > 1", "False"),
        test="tests/signals_app/test_classify.py",
        beyond=True,
    ),
    bug(
        "a flood of posts starves the other authors",
        (
            "signals_app.classify:ClassifyPass._finish",
            "self.waiting.append(author)",
            "self.waiting.appendleft(author)",
        ),
        test="tests/signals_app/test_classify.py",
        beyond=True,
    ),
    bug(
        "an author has two model calls at once",
        ("signals_app.classify:ClassifyPass._find_authors", "author.account not in busy", "True"),
        test="tests/signals_app/test_many_accounts.py",
        beyond=True,
    ),
    bug(
        "an answer to a call from before an outage blames the posts that were not read",
        ("signals_app.classify:Unserved.provider_answers", "calls < number", "True"),
        test="tests/signals_app/test_many_accounts.py",
        beyond=True,
    ),
    bug(
        "with little budget left the oldest posts are read first",
        ("signals_app.classify:_due", '"p.id DESC" if newest_first else "p.id"', '"p.id"'),
        test="tests/signals_app/test_many_accounts.py",
        beyond=True,
    ),
    bug(
        "a pass over accounts that ran out of time begins anew",
        ("signals_app.ingest:_in_order", 'account.pk == place.get("account")', "False"),
        test="tests/signals_app/test_many_accounts.py",
        beyond=True,
    ),
    bug(
        "accounts fetched at once ask for more than the rate limit allows",
        ("signals_app.sources.x:XSource._may_send", "self._in_flight >= self._remaining", "False"),
        test="tests/signals_app/test_x.py",
        beyond=True,
    ),
    bug(
        "a call takes a slot before those that wait for one",
        ("maxxit.llm.slots:_take", "not _wait_for_turn(_1, _2)", "False"),
        test="tests/llm/test_limits.py",
        beyond=True,
    ),
    bug(
        "an author's money of the day is not bounded",
        (
            "maxxit.llm.budget:limits",
            "Limit(*_, stanza.budget_usd_per_account_per_day, **_)",
            "Limit(*_, None, **_)",
        ),
        test="tests/llm/test_limits.py",
        beyond=True,
    ),
    bug(
        "a duplicate key is read as if it stood once",
        ("maxxit.llm.answers:_unique", "if len(made) < len(pairs): ...", "if False: ..."),
        test="tests/llm/test_answers.py",
        beyond=True,
    ),
    bug(
        "a looser limit holds at once",
        ("trading.operations.limit_changes:limits_now", "if one.at <= now: ...", "if True: ..."),
        test="tests/trading/operations/test_limit_changes.py",
        beyond=True,
    ),
    bug(
        "the limit of one order is never read",
        (f"{RISK}:check_exposure", "((Reason.MAX_TRADE, ZERO, policy.max_trade_usd), *_)", "(*_,)"),
        test="tests/trading/risk/test_each_limit.py",
        beyond=True,
    ),
    bug(
        "a misspelt limit is ignored",
        (
            "maxxit.core.config:_read",
            "schema.model_validate(_floats_to_text(values))",
            "schema.model_validate(_floats_to_text(values), extra='ignore')",
        ),
        test="tests/core/test_config.py",
        beyond=True,
    ),
    bug(
        "a limits row that cannot be read stops exits",
        (
            "trading.risk.limits_in_force:protective_limits",
            "UNREADABLE",
            "MemoryError",
        ),
        test="tests/trading/operations/test_limit_changes.py",
        beyond=True,
    ),
    bug(
        "exits wait for the lock of the limits",
        (
            "trading.risk.limits_in_force:risk_limits",
            "if _differs(row, standing): ...",
            "if row.waiting: ...",
        ),
        test="tests/trading/operations/test_limit_changes.py",
        beyond=True,
    ),
    bug(
        "status hides the limits that wait",
        (
            "maxxit.ops.management.commands.status:Command.waiting",
            "sorted(limits_in_force.waiting_limits().items())",
            "[]",
        ),
        test="tests/surface/test_commands.py",
        beyond=True,
    ),
    bug(
        "a code that nobody knows finds nothing instead of being refused",
        ("maxxit.access.inputs:coded", "if code not in known and not found.exists(): ...", "if False: ..."),
        test="tests/surface/test_refusals.py",
        beyond=True,
    ),
    bug(
        "a receipt is waited for without end",
        ("maxxit.ops.devchain.world:wait_receipt", "waited >= RECEIPT_SECONDS", "False"),
        test="tests/chain/test_world.py",
        beyond=True,
    ),
    bug(
        "every target is a rise",
        (
            "signals_app.reading.rules.targets:side",
            "return sides.pop() if len(sides) == 1 else 0",
            "return UP",
        ),
        test="tests/signals_app/reading/test_positions.py",
        beyond=True,
    ),
    bug(
        "a target in bitcoin is held against the price in USD",
        ("signals_app.reading.rules.targets:_units", "dollar or not in_bitcoin", "True"),
        test="tests/signals_app/reading/test_positions.py",
        beyond=True,
    ),
    bug(
        "a long road is a long position",
        (
            "signals_app.reading.rules.positions:_statement",
            "deed not in EXITS and _is_no_position(match)",
            "False",
        ),
        test="tests/signals_app/reading/test_positions.py",
        beyond=True,
    ),
    bug(
        "a negation always turns round what follows it",
        (
            "signals_app.reading.rules.read:_cues",
            "negated and not marks.EXTREME.match(*_)",
            "negated or marks.EXTREME.match(*_)",
        ),
        test="tests/signals_app/reading/test_positions.py",
        beyond=True,
    ),
    bug(
        "a model's side is followed against the author's own words",
        (
            "signals_app.verify:verify",
            "SIGN[side] in stated.get(token, SIGN.values())",
            "True",
        ),
        test="tests/signals_app/test_verify.py",
        beyond=True,
    ),
    bug(
        "the cursor moves over posts that were not read",
        ("signals_app.ingest:_land", "unfinished if unread_below else moved", "moved"),
        test="tests/signals_app/test_x.py",
        beyond=True,
    ),
    bug(
        "bars of fifteen minutes are read as bars of five",
        ("maxxit.market.feeds.file:_check_spacing", "min(gaps) > BAR", "False"),
        test="tests/market/test_file.py",
        beyond=True,
    ),
    bug(
        "a row that cannot be read is dropped without a word",
        ("maxxit.market.feeds.wire:each", 'log.warning("row_refused", **_)', 'log.debug("row_refused", **_)'),
        test="tests/fuzz/test_campaign.py",
        beyond=True,
    ),
    bug(
        "a round from the future is a price",
        ("maxxit.market.feeds.chainlink:Chainlink._tick", "if age < 0: ...", "if False: ..."),
        test="tests/market/test_chain_feeds.py",
        beyond=True,
    ),
    bug(
        "a sequencer without a round is up",
        ("maxxit.market.feeds.chainlink:Chainlink._check_sequencer", "if not since: ...", "if False: ..."),
        test="tests/market/test_chain_feeds.py",
        beyond=True,
    ),
    bug(
        "a keystore that takes days to open is opened",
        ("trading.chain.signer:_check_cost", "_ > MAX_COST[kdf]", "_ > 10**40"),
        test="tests/chain/sending/test_signer.py",
        beyond=True,
    ),
    bug(
        "an evaluation writes into the live traces",
        ("maxxit.llm.trace:write", "call.keep and stored()", "stored()"),
        test="tests/llm/test_evaluate.py",
        beyond=True,
    ),
    bug(
        "an evaluation spends the live budget",
        ("maxxit.llm.call:Caller._answer", "_ if self._call.keep else _measure", "_"),
        test="tests/llm/test_evaluate.py",
        beyond=True,
    ),
    bug(
        "a session makes a refused key good for the metrics",
        ("maxxit.web.metrics:_allowed", "if has_key(request): ...", "if False: ..."),
        test="tests/surface/test_health.py",
        beyond=True,
    ),
    bug(
        "a broken order counts as a failure of its whole batch",
        (
            f"{QUARANTINE}:by_halves",
            """
                if len(rows) == 1:
                    failed(rows[0], error)
                    return []
            """,
            """
                for row in rows:
                    failed(row, error)
                return []
            """,
        ),
        test=f"{BATCHES}::test_one_broken_order_is_counted_alone_and_all_others_are_filled",
        beyond=True,
    ),
    bug(
        "what stands behind a broken order of a batch is dropped",
        (
            f"{QUARANTINE}:by_halves",
            "by_halves(rows[:middle], step, failed) + by_halves(rows[middle:], step, failed)",
            "by_halves(rows[:middle], step, failed)",
        ),
        test=f"{BATCHES}::test_one_broken_order_is_counted_alone_and_all_others_are_filled",
        beyond=True,
    ),
    bug(
        "a time limit is charged to the orders of the batch under way",
        (f"{QUARANTINE}:by_halves", "ends_the_pass(error)", "False"),
        (f"{QUARANTINE}:counted_for_each", "ends_the_pass(error)", "False"),
        (f"{QUARANTINE}:quarantine_on_error", "ends_the_pass(error)", "False"),
        test=f"{BATCHES}::test_what_ends_the_pass_is_charged_to_no_order_of_the_batch",
        beyond=True,
    ),
    bug(
        "an order that works again in a batch stays quarantined",
        (f"{QUARANTINE}:redrive_working", "order.attempts >= TRIES", "False"),
        test=f"{BATCHES}::test_what_works_again_in_a_batch_gets_new_tries",
        beyond=True,
    ),
    bug(
        "rows in memory keep the state of a batch that was rolled back",
        (
            f"{EXECUTE}:_reserve",
            "moved = advance_each(transitions, locked=True)",
            """
                moved = advance_each(transitions, locked=True)
                [step.apply() for step in moved]
            """,
        ),
        test=f"{BATCHES}::test_one_broken_order_is_counted_alone_and_all_others_are_filled",
        beyond=True,
    ),
    bug(
        "the orders of a batch are not counted against the limits of the same batch",
        (f"{EXECUTE}:_reserve", "facts.reserve(order, of_order)", "None"),
        test=f"{BATCHES}::test_the_cap_counts_the_orders_of_the_same_batch",
    ),
    bug(
        "the orders of a batch are counted for their accounts and not for the platform",
        (
            f"{LIMITS}:Holdings.add_entry",
            "self.gross[symbol] += abs(before + tokens) - abs(before)",
            "self.gross[symbol] += 0 * (abs(before + tokens) - abs(before))",
        ),
        test=f"{BATCHES}::test_the_cap_counts_the_orders_of_the_same_batch",
    ),
    bug(
        "the platform's pace does not count the orders of the same batch",
        (
            f"{LIMITS}:OrderRates.add_entry",
            "self.platform_last_minute += 1",
            "self.platform_last_minute += 0",
        ),
        test=f"{BATCHES}::test_the_pace_counts_the_orders_of_the_same_batch",
        beyond=True,
    ),
    bug(
        "the venue's answers are given to the wrong orders of a batch",
        (
            f"{EXECUTE}:place",
            "answers.update(zip((order.pk for order in passing), asked, strict=True))",
            "answers.update(zip((order.pk for order in passing), asked[::-1], strict=True))",
        ),
        test=f"{BATCHES}::test_each_order_gets_the_objection_of_its_own_deployment",
        beyond=True,
    ),
    bug(
        "an order that the venue's answer leaves out never arrived",
        (f"{SETTLE}:book_answers", "answers.get(order.venue_ref, LEFT_OUT)", "answers.get(order.venue_ref)"),
        test=f"{BATCHES}::test_an_order_that_the_venues_answer_leaves_out_stays_as_it_is",
        beyond=True,
    ),
    bug(
        "the venue's errors are given to the first orders of a batch",
        (
            f"{EXECUTE}:send_orders",
            "[(order, errors[prepared.ref]) for order, prepared in sent if prepared.ref in errors]",
            "[(order, error) for (order, prepared), error in zip(sent, errors.values())]",
        ),
        test=f"{BATCHES}::test_each_order_of_a_batch_gets_its_own_answer",
        beyond=True,
    ),
    bug(
        "the gate is read once for all batches that leave",
        (
            f"{EXECUTE}:place",
            """
                size = _
                for start in range(0, len(reserved), size):
                    send_orders(reserved[start : start + size], at_venue)
            """,
            "send_orders(reserved, at_venue)",
        ),
        test=f"{BATCHES}::test_the_gate_is_read_before_each_batch_that_leaves",
        beyond=True,
    ),
    bug(
        "a kill switch of one account stops no batch",
        (f"{GATE}:read_many", 'levels[""] + levels[account]', 'levels[""]'),
        test=f"{BATCHES}::test_a_kill_switch_of_one_account_holds_back_its_order_alone",
    ),
    bug(
        "each row of a batch moves to the state of another",
        (
            f"{RECORD}:advance_each",
            "bulk.update(model, [one.row.pk for one in rows], *_)",
            "bulk.update(model, [one.row.pk for one in rows[::-1]], *_)",
        ),
        test=f"{BATCHES}::test_each_row_moves_to_its_own_state_with_its_own_columns_and_events",
    ),
    bug(
        "columns of a batch are shifted by one row",
        (f"{BULK}:update", "array(ids)", "array([*ids[1:], *ids[:1]])"),
        test=f"{BATCHES}::test_each_row_gets_its_own_values",
    ),
    bug(
        "ids of new rows are given to the wrong rows of a batch",
        (f"{BULK}:insert", "cursor.fetchall()", "cursor.fetchall()[::-1]"),
        test=f"{BATCHES}::test_each_row_gets_its_own_values",
    ),
    bug(
        "values that are too long for their column are cut off",
        (
            f"{BULK}:_unlimited",
            'str(field.db_type(connection)).partition("(")[0]',
            "str(field.db_type(connection))",
        ),
        test=f"{BATCHES}::test_a_value_that_is_too_long_for_its_column_is_refused",
        beyond=True,
    ),
    bug(
        "fills are stored at the wrong orders of a batch",
        (
            f"{SETTLE}:_book_fills",
            "[booking.order.pk for booking, _ in fills]",
            "[booking.order.pk for booking, _ in fills[::-1]]",
        ),
        test=f"{BATCHES}::test_fills_are_booked_at_their_own_orders",
    ),
    bug(
        "every position of a batch has the costs of the first",
        (
            f"{ENDING}:_results",
            "costs[position.entry_order_id], marks[position.deployment_id]",
            "next(iter(costs.values())), marks[position.deployment_id]",
        ),
        test=f"{BATCHES}::test_a_batch_does_what_its_orders_do_one_by_one",
    ),
    bug(
        "a loss is not carried forward within a batch",
        (f"{ENDING}:_results", "mark.carried_loss = shared.carried_loss", "pass"),
        test=f"{BATCHES}::test_a_loss_is_carried_forward_to_the_next_position_of_the_same_batch",
    ),
    bug(
        "several trades of an account in a batch change its paper balance once",
        ("trading.venues.paper_balances:MOVE", "sum(amount)", "max(amount)"),
        test=f"{BATCHES}::test_the_paper_exchange_answers_a_batch_as_it_answers_each_order",
        beyond=True,
    ),
    bug(
        "the accounts of a batch are locked in the order of its orders",
        (f"{LIMITS}:LOCK", "SELECT DISTINCT name", "SELECT name"),
        (f"{LIMITS}:LOCK", "ORDER BY later, key", ""),
        test=f"{RACE}::test_two_batches_never_wait_for_each_other_s_accounts",
        beyond=True,
    ),
    bug(
        "only the first account of a batch is locked",
        (
            f"{EXECUTE}:_reserve",
            "limits.lock([order.account for order in orders], **_)",
            "limits.lock([orders[0].account], **_)",
        ),
        test=f"{RACE}::test_a_batch_waits_for_each_of_its_accounts",
        beyond=True,
    ),
    bug(
        "the rows of a batch are locked one by one",
        (
            f"{RECORD}:lock_unmoved",
            "states = {pk: state for pk, state, _1 in _lock(type(rows[0]), [row.pk for row in rows])}",
            "states = {row.pk: _lock(type(rows[0]), [row.pk])[0][1] for row in rows}",
        ),
        test=f"{RACE}::test_two_batches_never_wait_for_each_other_s_rows",
        beyond=True,
    ),
)


def target_of(where: str) -> tuple[Any, str, Any]:
    """The module that `where` names, the name in it, and what stands there: a function or a text."""
    module_name, _, name = where.partition(":")
    module = importlib.import_module(module_name)
    return module, name, attrgetter(name)(module)


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Inside this block the product has the bug."""
    undo: list[Any] = []
    trees: dict[str, planting.Function] = {}
    index = _drop(*mutant.drops) if mutant.drops else ""
    try:
        for edit in mutant.edits:
            module, name, target = target_of(edit.where)
            if isinstance(target, str):
                undo.append((setattr, module, name, target))
                setattr(module, name, _edited(target, edit))
                continue
            function = inspect.unwrap(target)
            undo.append((setattr, function, "__code__", function.__code__))
            tree = trees.get(edit.where) or tree_of(function)
            planting.replace(tree, edit.old, edit.new, vars(module))
            trees[edit.where] = tree
            function.__code__ = _compiled(module, tree, function.__code__.co_freevars)
        yield
    finally:
        for act, *args in reversed(undo):
            act(*args)
        if index:
            wipe()  # of what the index forbids
            connection.cursor().execute(index)
        for edit in mutant.edits:
            vars(target_of(edit.where)[2]).clear() if edit.where == f"{GATE}:read_many" else None


def _drop(index: str, table: str) -> str:
    """Without this unique index; returns the statement that makes it anew."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = %s AND tablename = %s", [index, table]
        )
        [(made,)] = cursor.fetchall()
        cursor.execute(f"DROP INDEX {index}")
    return str(made)


def _edited(text: str, edit: Edit) -> str:
    if edit.old not in text:
        raise LookupError(f"{edit.where} has no {edit.old!r} any more: write the mutant anew")
    return text.replace(edit.old, edit.new)


def tree_of(function: Any) -> planting.Function:
    """The syntax tree of a function of the product, as it stands in its file."""
    return planting.parsed(textwrap.dedent(inspect.getsource(function)))


def _compiled(module: Any, function: planting.Function, free: tuple[str, ...]) -> Any:
    """Return the code of a function; one with the free variable `__class__`, for `super()`, is compiled in a class."""
    space = dict(vars(module))
    body: ast.stmt = function
    if "__class__" in free:
        body = ast.parse(f"class {function.name}: pass").body[0]
        assert isinstance(body, ast.ClassDef)
        body.body = [function]
    exec(compile(ast.Module([body], []), f"<{function.name}, mutated>", "exec"), space)
    found = space[function.name]
    return inspect.unwrap(vars(found)[function.name] if body is not function else found).__code__


@dataclass
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    by: str = ""
    """T0, T1 or the named test; empty: nobody found it."""
    faults: int = 0
    seconds: float = 0.0
    first: str = ""
    """The first rule that broke."""


def hunt(mutant: Mutant, *, faults: int, seed: int, examples: int = 60, test_first: bool = False) -> Verdict:
    """Hunt with T0, then T1, then the test named for the bug (`test_first`: before T0), until one finds it."""
    began, verdict = time.monotonic(), Verdict(mutant)
    early = test_first and bool(mutant.test)
    if early and _test_fails(mutant):
        verdict.by, verdict.first = mutant.test, "the test fails"
    if not verdict.by and not mutant.beyond:
        with planted(mutant):
            one = Campaign(seed, deployments=DEPLOYMENTS, rounds=ROUNDS)
            try:
                one.run(faults)
            except Exception as error:
                one.violations.append(f"the world itself failed: {type(error).__name__} {error}")
                connection.close()
            if one.violations:
                verdict.by, verdict.first = "T0", one.violations[0]
            verdict.faults = one.faults
        if not verdict.by:
            from tests.chaos import machines

            with planted(mutant):
                verdict.first = machines.broken(examples=examples, seed=seed)
                verdict.by = "T1" if verdict.first else ""
    if not verdict.by and mutant.test and not early and _test_fails(mutant):
        verdict.by, verdict.first = mutant.test, "the test fails"
    verdict.seconds = time.monotonic() - began
    return verdict


def _test_fails(mutant: Mutant) -> bool:
    """Run the named test in a pytest of its own with the bug planted."""
    code = (
        "import sys, pytest\n"
        "from tests.chaos import mutants\n"
        "class Plant:\n"
        "    def pytest_collection_finish(self, session):\n"
        "        block = mutants.planted(next(m for m in mutants.MUTANTS if m.name == sys.argv[1]))\n"
        "        block.__enter__()\n"
        "        self.block = block\n"
        "sys.exit(pytest.main([sys.argv[2], '-q', '-x', '--no-header', '-p', 'no:cacheprovider'], plugins=[Plant()]))\n"
    )
    command = [sys.executable, "-c", code, mutant.name, mutant.test]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.test} did not run:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.returncode == 1


def table(verdicts: Sequence[Verdict]) -> str:
    """Markdown: bug, who found it, after how many faults, by which rule."""
    lines = ["| planted bug | found by | faults until the audit | first rule broken |", "|---|---|---|---|"]
    for one in verdicts:
        name = f"**{one.mutant.name}**" if one.mutant.listed else one.mutant.name
        rule = " ".join(one.first.split(" [world")[0].split())[:90].replace("|", "/")
        lines.append(f"| {name} | {one.by or 'nobody'} | {one.faults or ''} | {rule} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=15_000, help="for each mutant, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="mutants with this text in their name")
    parser.add_argument("--examples", type=int, default=60, help="of T1, for a mutant that T0 did not find")
    parser.add_argument("--test-first", action="store_true", help="run the named test before T0 and T1")
    parser.add_argument("--part", default="1/1", help="2/3: the second third, for several processes at once")
    given = parser.parse_args()
    part, parts = (int(number) for number in given.part.split("/"))
    chosen = [one for one in MUTANTS if given.only in one.name][part - 1 :: parts]
    began = time.monotonic()
    verdicts = []
    with arena():
        for number, mutant in enumerate(chosen, 1):
            verdicts.append(
                hunt(
                    mutant,
                    faults=given.faults,
                    seed=given.seed,
                    examples=given.examples,
                    test_first=given.test_first,
                )
            )
            last = verdicts[-1]
            print(
                f"{number}/{len(chosen)} {mutant.name}: {last.by or 'NOT FOUND'} "
                f"({last.faults} faults, {last.seconds:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
    found = sum(bool(one.by) for one in verdicts)
    print(table(verdicts))
    print(
        f"\n{found} of {len(verdicts)} planted bugs found ({found / len(verdicts):.0%}), seed {given.seed}, "
        f"at most {given.faults} faults each, {time.monotonic() - began:.0f} s"
    )
    listed = all(one.by for one in verdicts if one.mutant.listed)
    return 0 if listed and found >= 0.95 * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
