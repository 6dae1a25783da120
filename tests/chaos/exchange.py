"""A venue of its own process, over real HTTP, whose answers cannot be trusted; and the adapter that trades there.

    python -m tests.chaos.exchange     prints its port, keeps its book in memory, and is never killed

It takes an order and says nothing, or says 500; it loses one, or takes it a second later; it denies what it has
taken for as long as `find_lag` allows; it reports fills twice, in another order, or as they stood a while ago. Its
book is the truth that the database is compared with: every order that it took is counted as an effect.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from maxxit.core import http
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import USDC, ZERO, usdc
from tests.chaos import simulation_exits
from tests.chaos.simulation_exits import Exit, RestingExits
from trading.venues.base import Capabilities, Leg, Prepared, Report, Request, Venue, VenueFill

CLIENT_SECONDS = 0.2
"""After so long the adapter gives a request up: what the venue did with it is then unknown."""
FIND_LAG = timedelta(seconds=0.4)
"""How long the venue may deny an order that it has taken."""
FEE = Decimal("0.001")

CHANCES = {
    "send": {
        "taken, silent": 0.06,
        "taken, no answer in time": 0.03,
        "taken, 503": 0.05,
        "lost, silent": 0.05,
        "lost, no answer in time": 0.02,
        "lost, 503": 0.03,
        "arrives late": 0.05,
        "delivered twice": 0.06,
        "429": 0.03,
        "slow": 0.05,
        "refused": 0.03,
        "refused, silent": 0.02,
    },
    "find": {
        "denied": 0.10,
        "503": 0.04,
        "silent": 0.04,
        "slow": 0.05,
        "fills shuffled and doubled": 0.08,
        "old": 0.05,
    },
    "cancel": {"silent": 0.1, "lost": 0.1},
}
"""Request -> what goes wrong with it -> how often."""
FILLING = {"at once": 0.5, "in parts": 0.3, "later": 0.1, "a part, then canceled": 0.1}
IN_OUR_PROCESS = ("worker dies before", "worker dies after", "another worker meanwhile")
"""What T0 draws for messages about exits and real processes do here."""


@dataclass
class Taken:
    """One order in the venue's book."""

    ref: str
    terms: dict[str, Any]
    plan: list[Decimal]
    """Quantities that will execute at coming looks at it."""
    visible_at: float
    fills: list[dict[str, str]] = field(default_factory=list)
    state: str = "accepted"
    end: str = "canceled"
    """Its state when the plan is over and it is not filled."""

    @property
    def filled(self) -> Decimal:
        """Tokens so far."""
        return sum((Decimal(one["quantity"]) for one in self.fills), ZERO)


class Book:
    """What really happened. One thread serves it, so that nothing here can race."""

    def __init__(self) -> None:
        self.dice = random.Random(0)
        self.chances: dict[str, dict[str, float]] = {}
        self.plans: dict[str, float] = FILLING
        """How often an order that was taken ends how."""
        self.resting = RestingExits(self, self._fire, {})
        self.orders: dict[str, list[Taken]] = {}
        self.refused: set[str] = set()
        self.faults: Counter[str] = Counter()
        self.balances: dict[tuple[str, str], Decimal] = {}
        self.lowest: dict[tuple[str, str], Decimal] = {}
        self.arrivals: list[tuple[str, str, float]] = []
        """(client order id, purpose, time of day) of every message that carried an order, taken or not."""

    def fault(self, asked: str) -> str:
        """What goes wrong with this request, or an empty string; it counts."""
        point = self.dice.random()
        for name, chance in self.chances.get(asked, {}).items():
            point -= chance
            if point < 0:
                self.faults[f"{asked}: {name}"] += 1
                return name
        return ""

    # -- the lot of its resting exits

    @property
    def intensity(self) -> float:
        """0 while nothing goes wrong."""
        return 1.0 if self.chances else 0.0

    def draw(self, message: str) -> str:
        """What goes wrong with a message about exits, or an empty string."""
        point = self.dice.random() if self.chances else 2.0
        for name, chance in simulation_exits.CHANCES[message].items():
            point -= 0 if name in IN_OUR_PROCESS else chance
            if point < 0:
                return name
        return ""

    def happened(self, message: str, what: str) -> None:
        """It counts."""
        self.faults[f"{message}: {what}"] += 1

    def _fire(self, ref: str, one: Taken, quantity: Decimal, price: Decimal) -> None:
        self.orders.setdefault(ref, [one])
        self._execute(one, quantity)

    # -- orders

    def take(self, ref: str, terms: dict[str, Any]) -> str:
        """Put an order into the book; return "ok" or why it is refused. A repeated id is recognised first."""
        known = self.orders.setdefault(ref, [])
        if terms["dedup"] == "yes":
            if known:
                return "ok"
            if ref in self.refused:
                return "market_closed"
        if datetime.now(UTC) >= datetime.fromisoformat(terms["deadline"]):
            return "deadline_passed"
        whole = Decimal(terms["quantity"])
        part = (whole / 3).quantize(Decimal("0.00001"))
        how = self.dice.choices(list(self.plans), list(self.plans.values()))[0] if self.chances else "at once"
        plan = {
            "at once": [whole],
            "in parts": [part, part, whole - 2 * part],
            "slowly": [ZERO, part, *[ZERO] * 6, whole - part],
            "later": [ZERO, whole],
            "a part, then canceled": [part],
            "refused later": [ZERO],
        }[how]
        hidden = (
            self.dice.random() * float(terms["find_lag"]) * 0.9
            if self.dice.random() < 0.1 and self.chances
            else 0
        )
        taken = Taken(ref, terms, plan, time.time() + hidden)
        taken.end = "rejected" if how == "refused later" else "canceled"
        known.append(taken)
        if terms["exits"] and len(known) == 1:
            side = "sell" if terms["side"] == "buy" else "buy"
            exits = [
                Exit(
                    reason,
                    Decimal(price),
                    Taken(
                        f"{ref}/{reason}",
                        {**terms, "side": side, "reference_price": price},
                        [],
                        time.time(),
                        state="held",
                    ),
                )
                for reason, price in terms["exits"].items()
            ]
            self.resting.add(ref, taken, exits)
        if hidden:
            self.faults["find: not visible at once"] += 1
        if how != "at once":
            self.faults[f"fills: {how}"] += 1
        self.look(taken)
        return "ok"

    def look(self, one: Taken) -> None:
        """The market moves on: the next part of an order executes."""
        if one.state in ("filled", "canceled", "rejected") or "/" in one.ref:
            return
        if one.plan:
            self._execute(one, one.plan.pop(0))
        if one.filled == Decimal(one.terms["quantity"]):
            one.state = "filled"
        elif not one.plan:
            one.state = one.end
        elif one.fills:
            one.state = "partially_filled"

    def _execute(self, one: Taken, quantity: Decimal) -> None:
        if not quantity:
            return
        price = Decimal(one.terms["reference_price"])
        cash = usdc(quantity * price)
        fee = usdc(cash * FEE)
        one.fills.append(
            {
                "id": f"{one.ref}-{len(self.orders[one.ref])}-{len(one.fills)}",
                "quantity": str(quantity),
                "price": str(price),
                "cash": str(cash),
                "fee": str(fee),
                "at": datetime.now(UTC).isoformat(),
            }
        )
        sign = 1 if one.terms["side"] == "buy" else -1
        self.move(one.terms["account"], one.terms["symbol"], sign * quantity)
        self.move(one.terms["account"], USDC, -sign * cash - fee)

    def move(self, account: str, asset: str, amount: Decimal) -> None:
        """A balance changes; the lowest that it ever stood at is kept."""
        key = account, asset
        self.balances[key] = self.balances.get(key, ZERO) + amount
        self.lowest[key] = min(self.lowest.get(key, ZERO), self.balances[key])

    def report(self, ref: str, how: str) -> dict[str, Any] | None:
        """How an order stands, or as `how` distorts it."""
        if ref in self.refused:
            return {"state": "rejected", "fills": [], "reason": "market_closed"}
        known = self.orders.get(ref)
        if not known or time.time() < known[0].visible_at:
            return None
        one = known[0]
        before = {"state": one.state, "fills": list(one.fills)}
        self.look(one)
        if one.state == "rejected":
            return {"state": one.state, "fills": [], "reason": "market_closed"}
        if how == "old":
            return before
        fills = list(one.fills)
        if how == "fills shuffled and doubled":
            fills = fills * 2
            self.dice.shuffle(fills)
        return {"state": one.state, "fills": fills}

    def cancel(self, ref: str) -> None:
        """Nothing more of it executes."""
        for one in self.orders.get(ref, ()):
            if one.state not in ("filled", "rejected"):
                one.state, one.plan = "canceled", []

    def told(self) -> dict[str, Any]:
        """The whole book, for the audit."""
        return {
            "effects": {ref: len(taken) for ref, taken in self.orders.items() if taken},
            "orders": [
                {"ref": ref, "state": one.state, "filled": str(one.filled)} | one.terms
                for ref, taken in self.orders.items()
                for one in taken
            ],
            "fills": [one for taken in self.orders.values() for order in taken for one in order.fills],
            "balances": [[*key, str(amount)] for key, amount in self.balances.items()],
            "lowest": [[*key, str(amount)] for key, amount in self.lowest.items()],
            "live exits": [
                one.order.ref
                for ref, pair in self.resting.pairs.items()
                if any(not leg.ended for leg in self.resting.legs(ref))
                for one in pair.exits
            ],
            "faults": dict(self.faults),
        }


class Drop(Exception):
    """The connection ends here, without an answer."""


class Server:
    """HTTP around the book: just enough of it for one client that we know."""

    def __init__(self) -> None:
        self.book = Book()
        self.late: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                length = 0
                while (header := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = header.decode().partition(":")
                    if name.lower() == "content-length":
                        length = int(value)
                body = await reader.readexactly(length) if length else b""
                status, answer = await self.answer(method, unquote(path), json.loads(body) if body else {})
                text = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                    % (status, len(text))
                    + text
                )
                await writer.drain()
        except (Drop, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, method: str, path: str, told: dict[str, Any]) -> tuple[int, Any]:
        """What this request comes to."""
        book = self.book
        if path == "/tell":
            if "seed" in told:
                book.dice = random.Random(told["seed"])
            book.chances = told.get("chances", book.chances)
            book.plans = told.get("plans", book.plans)
            if "price" in told:
                price = Decimal(told["price"])
                book.resting.market(lambda symbol: price)
            for account, amount in told.get("deposits", ()):
                book.move(account, USDC, Decimal(amount))
            return 200, {"late": len(self.late), "faults": book.faults.total()}
        if path == "/book":
            return 200, book.told()
        if path == "/arrivals":
            arrived, book.arrivals = book.arrivals, []
            return 200, arrived
        if path.startswith("/balances/"):
            account = path.removeprefix("/balances/")
            return 200, {
                asset: str(amount) for (owner, asset), amount in book.balances.items() if owner == account
            }
        if path in ("/exits", "/release"):
            return self._about_exits(path, told["refs"])
        if method == "POST":
            return await self._send(told["ref"], told["terms"])
        ref = path.removeprefix("/orders/")
        return await (self._find(ref) if method == "GET" else self._cancel(ref))

    def _about_exits(self, path: str, refs: list[str]) -> tuple[int, Any]:
        resting = self.book.resting
        try:
            if path == "/release":
                resting.release(refs, SystemExit, lambda: None)
                return 200, {}
            answers = resting.ask(refs, SystemExit, lambda: None)
        except Retryable:
            return 503, {}
        except Unknown as error:
            raise Drop from error
        return 200, {
            ref: None
            if isinstance(legs, Exception)
            else [[leg.ref, leg.reason, str(leg.quantity), str(leg.filled), leg.ended] for leg in legs]
            for ref, legs in answers.items()
        }

    async def _send(self, ref: str, terms: dict[str, str]) -> tuple[int, Any]:
        book, how = self.book, self.book.fault("send")
        book.arrivals.append((ref, terms["purpose"], time.time()))
        if how == "429":
            return 429, {}
        if how == "slow":
            await asyncio.sleep(0.9 * CLIENT_SECONDS)
        verdict = self._act(ref, terms, how)
        if how.endswith("503"):
            return 503, {}
        if how.endswith("in time"):
            await asyncio.sleep(2 * CLIENT_SECONDS)
        if how.endswith(("silent", "in time", "late")):
            raise Drop
        return (200, {}) if verdict == "ok" else (422, {"code": verdict})

    def _act(self, ref: str, terms: dict[str, str], how: str) -> str:
        """What the order comes to here, whatever is said of it."""
        book = self.book
        if how.startswith("lost"):
            return "lost"
        if how == "arrives late":
            task = asyncio.create_task(self._arrive(ref, terms, 1.2 * book.dice.random()))
            self.late.add(task)
            task.add_done_callback(self.late.discard)
            return "late"
        if how.startswith("refused") and not book.orders.get(ref):
            if terms["dedup"] == "yes":
                book.refused.add(ref)
            return "market_closed"
        if how == "delivered twice" and terms["dedup"] == "yes":
            book.take(ref, terms)
        return book.take(ref, terms)

    async def _arrive(self, ref: str, terms: dict[str, str], seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.book.take(ref, terms)

    async def _find(self, ref: str) -> tuple[int, Any]:
        how = self.book.fault("find")
        if how == "silent":
            raise Drop
        if how == "503":
            return 503, {}
        known = self.book.orders.get(ref)
        if (
            how == "denied"
            and known
            and time.time() < known[0].visible_at + float(known[0].terms["find_lag"]) / 10
        ):
            return 404, {}
        found = self.book.report(ref, how)
        if how == "slow":  # and by the time that the answer is there, it is old
            await asyncio.sleep(0.9 * CLIENT_SECONDS)
        return (404, {}) if found is None else (200, found)

    async def _cancel(self, ref: str) -> tuple[int, Any]:
        how = self.book.fault("cancel")
        if how != "lost":
            self.book.cancel(ref)
        if how:
            raise Drop
        return 200, {}


class HttpVenue(Venue):
    """The adapter, built as one for a broker would be: the project's own HTTP client and its three errors."""

    url = ""
    """Where the exchange listens; a campaign sets it."""
    promises: Capabilities | None = None
    """Of the venue of the product that it is like; its `find_lag` is shortened to that of the campaign."""

    def __init__(self, *, dedup: bool, shorts: bool, max_leverage: Decimal) -> None:
        self.capabilities = Capabilities(
            dedup=dedup, shorts=shorts, max_leverage=max_leverage, collects_fees=False, find_lag=FIND_LAG
        )
        if (like := self.promises) is not None:
            self.capabilities = replace(
                self.capabilities, dedup=like.dedup, find_lag=min(FIND_LAG, like.find_lag),
                resting_exits=like.resting_exits,
            )  # fmt: skip
        self.http = http.client(self.url, timeout=CLIENT_SECONDS)

    def prepare(self, request: Request) -> Prepared:
        """The terms as text."""
        names = ("account", "symbol", "side", "purpose", "quantity", "reference_price")
        terms = {name: str(getattr(request, name)) for name in names}
        can = self.capabilities
        keeps = can.resting_exits and request.purpose == "open"
        exits = simulation_exits.levels(request) if keeps else {}
        terms |= {
            "deadline": request.deadline.isoformat(),
            "dedup": "yes" if can.dedup else "no",
            "find_lag": str(can.find_lag.total_seconds()),
        }
        return Prepared(request.client_order_id, {**terms, "exits": exits}, rests_exits=bool(exits))

    def send(self, prepared: Prepared) -> None:
        """Post it. Raises Rejected, Retryable or Unknown."""
        told = {"ref": prepared.ref, "terms": dict(prepared.payload)}
        http.fetch(self.http, "POST", "/orders", writes=True, json=told)

    def find(self, ref: str) -> Report | None:
        """Ask for it; 404 is None."""
        try:
            found = http.fetch(self.http, "GET", f"/orders/{ref}").json()
        except Rejected as no:
            if no.code == "http_404":
                return None
            raise
        return Report(found["state"], tuple(_fill(one) for one in found["fills"]), found.get("reason", ""))

    def cancel(self, ref: str) -> None:
        """Withdraw what is left of it."""
        http.fetch(self.http, "DELETE", f"/orders/{ref}", writes=True)

    def exits(self, refs: Sequence[str]) -> dict[str, tuple[Leg, ...] | Exception]:
        """What became of the exits that it keeps."""
        told = http.fetch(self.http, "POST", "/exits", json={"refs": list(refs)}).json()
        return {
            ref: Retryable("no such order")
            if legs is None
            else tuple(
                Leg(name, reason, Decimal(quantity), Decimal(filled), ended)
                for name, reason, quantity, filled, ended in legs
            )
            for ref, legs in told.items()
        }

    def release(self, refs: Sequence[str]) -> None:
        """Cancel them, if the message arrives."""
        http.fetch(self.http, "POST", "/release", writes=True, json={"refs": list(refs)})

    def balances(self, account: str) -> dict[str, Decimal]:
        """What the account holds."""
        told = http.fetch(self.http, "GET", f"/balances/{account}").json()
        return {asset: Decimal(amount) for asset, amount in told.items()}

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """The newest quote: this venue fills at the reference price."""
        from maxxit.market import quotes

        quote = quotes.latest([symbol], closing=True).get(symbol)
        return quote.price if quote else None

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Never anything: what is refused is refused when it is sent."""
        return ""


def _fill(told: dict[str, str]) -> VenueFill:
    quantity, price, cash, fee = (Decimal(told[name]) for name in ("quantity", "price", "cash", "fee"))
    return VenueFill(told["id"], quantity, price, cash, fee, datetime.fromisoformat(told["at"]))


async def main() -> None:
    """Serve until killed."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
