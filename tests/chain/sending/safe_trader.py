"""What the tests of the venue `safe` do again and again."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from agents.models import Deployment
from maxxit.core import clock
from maxxit.postgres import threads
from tests.chain.lab import Lab
from trading.chain.models import ChainTransaction, SafePlan
from trading.venues.base import Report, Request
from trading.venues.safe import venue as safe
from trading.venues.safe import verify
from trading.venues.safe.contract import module as m
from trading.venues.safe.venue import SafeVenue

D = Decimal
SLOT = timedelta(minutes=5)


def store_plan(lab: Lab) -> SafePlan:
    """The demo policy as its owner signed it and the chain confirmed it."""
    world = lab.world
    plan, _ = SafePlan.objects.update_or_create(
        chain_id=world.chain_id,
        safe=world.safe,
        defaults={
            "module": world.module,
            "created_at": clock.now(),
            "verified_at": clock.now(),
            **verify.as_plan(world.policy(), world.rules()),
        },
    )
    return plan


def verified(deployment: Deployment, lab: Lab) -> Deployment:
    """The deployment as `manage.py safe verify` leaves it."""
    deployment.safe_wallet, deployment.module_address = lab.world.safe, lab.world.module
    deployment.chain_id, deployment.module_enabled = lab.world.chain_id, True
    deployment.verified_at = clock.now()
    deployment.save()
    return deployment


def renew_helpers() -> None:
    """End the threads that all Safe venues of this process share, with their connections."""
    old, safe.HELPERS = safe.HELPERS, threads.Pool(safe.HELPERS.size, "safe")
    old.close()


class SafeTrader:
    """A Safe, its venue, and requests for it."""

    def __init__(self, lab: Lab, slippage_bps: int = 50) -> None:
        self.lab, self.world = lab, lab.world
        self.venue = SafeVenue(chain="local", slippage_bps=slippage_bps)
        self.signal = 0

    def close(self) -> None:
        """Let go of the connections."""
        for one in self.venue.chain.endpoints:
            one.close()
        renew_helpers()

    def request(self, purpose: str = "open", quantity: str = "0.2", **changes: Any) -> Request:
        """An order for WETH at the feed's price; each open is a new signal's."""
        self.signal += purpose == "open"
        values: dict[str, Any] = {
            "client_order_id": f"mx-{uuid4().hex[:24]}",
            "account": self.world.safe,
            "symbol": "ETH",
            "side": "buy" if purpose == "open" else "sell",
            "purpose": purpose,
            "quantity": D(quantity),
            "reference_price": self.world.price("WETH"),
            "deadline": clock.now() + SLOT,
            "trade": f"1/{self.signal}",
        }
        return Request(**values | changes)

    def send(self, request: Request) -> str:
        """Prepare and send; the reference."""
        prepared = self.venue.prepare(request)
        self.venue.send(prepared)
        return prepared.ref

    def trade(self, *args: str, **changes: Any) -> Report:
        """Prepare, send, and what the venue says of it."""
        found = self.venue.find(self.send(self.request(*args, **changes)))
        assert found is not None
        return found

    def problem(self, symbol: str = "ETH", purpose: str = "open") -> str:
        """What the venue objects to an order of the newest deployment."""
        return self.venue.problem(Deployment.objects.latest("pk").pk, self.world.safe, symbol, purpose)

    def tx(self, ref: str) -> ChainTransaction:
        return ChainTransaction.objects.get(idempotency_key=ref)

    def executor_nonce(self) -> int:
        """How many transactions of the executor are in the chain."""
        return int(self.lab.rpc("eth_getTransactionCount", self.world.accounts["executor"], "latest"), 16)

    def opened(self) -> list[bytes]:
        """Trade ids of every position that was ever opened."""
        return [log.args["trade_id"] for log in self.lab.logs() if log.name == "PositionOpened"]

    def trade_id(self, request: Request) -> bytes:
        return m.trade_id(*request.trade.split("/"))
