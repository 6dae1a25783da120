"""A Safe on a chain whose time is that of the contract's clock, for the contract of all venues."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from maxxit.core import clock
from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import WORLD_FILE, build_world, local_key
from tests import builders as make
from tests.chain.lab import Lab
from trading.chain.models import SafePlan
from trading.chain.signer import write_keystore
from trading.venues.base import Prepared, Question, Request, VenueAnswer
from trading.venues.safe import verify
from trading.venues.safe.venue import SafeVenue

D = Decimal
PASSWORD = "correct horse battery staple"
POLICY: dict[str, Any] = {"cooldown": 0, "loss_budget": 400 * 10**6}
"""Bounds for many orders at one moment."""
BUILDING = timedelta(hours=1)
"""More than the seconds, one for each block, that it takes to build the world."""


@contextmanager
def chain_at(moment: datetime) -> Iterator[Lab]:
    """Run a chain on which ETH costs 2,000 USD and each block is a second after the one before, from `moment` on."""
    with start_anvil(begins=moment - BUILDING) as node:
        built = Lab(build_world(node.url, {"WETH": D(2000)}))
        built.rpc("anvil_setBlockTimestampInterval", 1)
        built.set_policy(**POLICY)
        built.rpc("evm_setNextBlockTimestamp", hex(int(moment.timestamp())))
        built.rpc("evm_mine")
        built.world.refresh_feeds()
        built._snapshot = built.rpc("evm_snapshot")
        yield built


class AccountsAsSafes(SafeVenue):
    """The adapter; the contract's account is the world's Safe, another one is empty. Each order is its own trade."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(chain="local", slippage_bps=50)
        self.lab = lab
        self.deployment = make.deployment(
            make.agent(venue="safe"), funded=False, account=lab.safe, safe_wallet=lab.safe,
            module_address=lab.module, chain_id=lab.world.chain_id, module_enabled=True, verified_at=clock.now(),
        )  # fmt: skip
        SafePlan.objects.create(
            chain_id=lab.world.chain_id, safe=lab.safe, module=lab.module, created_at=clock.now(),
            verified_at=clock.now(), **verify.as_plan(lab.world.policy(**POLICY), lab.world.rules()),
        )  # fmt: skip

    def _address(self, account: str) -> str:
        return self.lab.safe if account == "contract:1" else self.lab.world.accounts["rogue"]

    def prepare(self, request: Request) -> Prepared:
        trade = f"{self.deployment.pk}/{request.client_order_id}"
        return super().prepare(replace(request, account=self._address(request.account), trade=trade))

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        return super().answers(
            [
                replace(one, deployment=self.deployment.pk, account=self._address(one.account))
                for one in questions
            ]
        )

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        return super().problem(self.deployment.pk, self._address(account), symbol, purpose)

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        return super().expected_price(self._address(account), symbol, side, cash)

    def balances(self, account: str) -> dict[str, Decimal]:
        return super().balances(self._address(account))

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        held: Mapping[str, dict[str, Decimal]] = super().balances_of([self._address(one) for one in accounts])
        return {one: held[self._address(one)] for one in accounts}


@contextmanager
def worker_of(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give this process what a worker that signs on the chain has: its addresses, the executor's key, an open gate."""
    with tempfile.TemporaryDirectory() as folder:
        write_keystore(Path(folder) / "executor.json", local_key("executor"), PASSWORD, iterations=1_000)
        lab.world.save(Path(folder) / WORLD_FILE)
        monkeypatch.setattr(settings, "DATA_DIR", Path(folder))
        monkeypatch.setenv("EXECUTOR_KEYSTORE", str(Path(folder) / "executor.json"))
        monkeypatch.setenv("EXECUTOR_PASSWORD", PASSWORD)
        monkeypatch.setenv("MAXXIT_LOCAL_RPC", lab.world.rpc_url)
        make.open_gate("safe")
        yield


@contextmanager
def contract_venue(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[SafeVenue]:
    """Return a venue for the contract, on the chain as it was when it began."""
    lab.fresh()
    with worker_of(lab, monkeypatch):
        venue = AccountsAsSafes(lab)
        yield venue
        for endpoint in venue.chain.endpoints:
            endpoint.close()
