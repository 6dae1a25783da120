"""Play money: a paper deployment that a person activates has its starting balance before its first order."""

from decimal import Decimal

import pytest

from maxxit.events.record import advance
from tests import builders as make
from tests.passes import execute_pass
from trading import ledger, reconcile
from trading.deployments.funding import fund_due
from trading.models import Order, PaperBalance

pytestmark = pytest.mark.django_db

D = Decimal


def test_a_deployment_that_was_activated_is_funded_once_before_its_first_order() -> None:
    make.price("ETH", "2000")
    make.open_gate()
    agent = make.agent()
    deployment = make.deployment(agent, usdc="2500", state="draft", funded=False)
    signal = make.signal(agent)
    assert fund_due() == 0, "a draft has nothing"

    advance(deployment, "active")
    execute_pass()

    assert Order.objects.get(signal=signal).state == "filled"
    assert ledger.balance("external", "USDC") == D(-2500)
    assert fund_due() == 0
    assert reconcile.drifts() == {}


@pytest.mark.parametrize(
    "case", [{"state": "paused"}, {"state": "revoked"}, {"usdc": "0"}, {"funded": True}], ids=str
)
def test_nobody_else_is_funded(case: dict[str, object]) -> None:
    make.deployment(make.agent(), **{"funded": False} | case)  # type: ignore[arg-type]
    before = dict(PaperBalance.objects.values_list("account", "amount"))

    assert fund_due() == 0
    assert dict(PaperBalance.objects.values_list("account", "amount")) == before


def test_a_safe_gets_no_play_money() -> None:
    make.deployment(make.agent(venue="safe"), account="0x1", funded=False)

    assert fund_due() == 0
