"""Safes with the PerpModule and the double of GMX on a chain whose time is that of the contract's clock."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from maxxit.core import clock
from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import Builder, build_world, transact
from tests import builders as make
from tests.chain.lab import USDC
from tests.chain.sending.safe_trader import renew_helpers
from tests.contracts.safe import BUILDING
from tests.trading.venues.gmx.world import OPTIONS, PerpsLab, worker_of
from trading.chain.models import SafePlan
from trading.venues.base import Prepared, Question, Report, Request, VenueAnswer
from trading.venues.gmx import verify
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.venue import GmxVenue

SAFES = 8
"""A Safe has one position in a market, so that each order of the contract gets a Safe of its own."""


class ManySafes(PerpsLab):
    """A world with some Safes that trade perpetual futures."""

    safes: list[str]

    def more(self) -> None:
        """Create the other Safes, each with 10,000 USDC and the policy."""
        owner = self.world.accounts["owner"]
        self.safes = [self.safe]
        for _ in range(SAFES - 1):
            safe = Builder(self.world.rpc_url).safe([owner])
            self.rpc("anvil_setBalance", safe, hex(10**20))
            transact(self.rpc, safe, safe, encode_call("enableModule(address)", self.perps))
            policy = p.set_policy_data(self.perps_policy(self.world), self.rules_of(self.world))
            transact(self.rpc, safe, self.perps, policy)
            self.world.mint("USDC", safe, 10_000 * USDC)
            self.safes.append(safe)


@contextmanager
def chain_at(moment: datetime) -> Iterator[ManySafes]:
    """Run a chain on which ETH costs 2,000 USD and each block is a second after the one before, from `moment` on."""
    with start_anvil(begins=moment - BUILDING) as node:
        built = ManySafes(build_world(node.url, {"WETH": Decimal(2000)}))
        built.more()
        built.rpc("anvil_setBlockTimestampInterval", 1)
        built.rpc("evm_setNextBlockTimestamp", hex(int(moment.timestamp())))
        built.rpc("evm_mine")
        built.world.refresh_feeds()
        built._snapshot = built.rpc("evm_snapshot")
        yield built


class AccountsAsSafes(GmxVenue):
    """The adapter; a keeper comes before each look. `contract:1` is the first Safe, another one has nothing."""

    def __init__(self, lab: ManySafes) -> None:
        super().__init__(**OPTIONS)
        self.lab = lab
        self.given: dict[str, str] = {}
        agent = make.agent(venue="gmx")
        for safe in lab.safes:
            make.deployment(
                agent, funded=False, account=self.account_of(safe), module_address=lab.perps,
                chain_id=lab.world.chain_id, module_enabled=True, verified_at=clock.now(),
            )  # fmt: skip
            SafePlan.objects.create(
                chain_id=lab.world.chain_id, safe=safe, module=lab.perps, created_at=clock.now(),
                verified_at=clock.now(), **verify.as_plan(lab.perps_policy(lab.world), lab.rules_of(lab.world)),
            )  # fmt: skip
        self.deployment = agent.deployments.get(account=self.account_of(lab.safe))

    def _address(self, account: str) -> str:
        safe = self.lab.safe if account == "contract:1" else self.lab.world.accounts["rogue"]
        return self.account_of(safe)

    def prepare(self, request: Request) -> Prepared:
        safe = self.given.setdefault(request.client_order_id, self.lab.safes[len(self.given) % SAFES])
        trade = f"1/{request.client_order_id}"
        return super().prepare(replace(request, account=self.account_of(safe), trade=trade))

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        self.lab.keeper.step()
        return super().find_many(refs)

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        own = [replace(one, deployment=self.deployment.pk) for one in questions]
        return super().answers(own)

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        return super().problem(self.deployment.pk, self._address(account), symbol, purpose)

    def balances(self, account: str) -> dict[str, Decimal]:
        return super().balances(self._address(account))

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        if any(one.startswith("gmx:") for one in accounts):
            return super().balances_of(accounts)
        held = super().balances_of([self._address(one) for one in accounts])
        return {one: held[self._address(one)] for one in accounts}


@contextmanager
def contract_venue(lab: ManySafes, monkeypatch: pytest.MonkeyPatch) -> Iterator[GmxVenue]:
    """Return a venue for the contract, on the chain as it was when it began."""
    lab.fresh()
    with worker_of(lab, monkeypatch):
        venue = AccountsAsSafes(lab)
        yield venue
        for endpoint in venue.chain.endpoints:
            endpoint.close()
        renew_helpers()
