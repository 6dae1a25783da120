"""A Safe is planned, signed by its owner and verified for perpetual futures."""

from io import StringIO

import pytest
from django.core.management import call_command

from maxxit.core.errors import Rejected
from maxxit.ops.devchain.world import local_key, transact
from tests import builders as make
from tests.trading.venues.gmx.world import PerpsTrader
from trading.chain.models import SafePlan
from trading.models import LedgerEntry
from trading.venues.safe import plans

pytestmark = [pytest.mark.chain, pytest.mark.django_db]


def run(*args: str) -> str:
    out = StringIO()
    call_command("perps", *args, stdout=out)
    return out.getvalue()


def test_a_safe_is_planned_signed_and_verified_and_then_trades(trader: PerpsTrader) -> None:
    SafePlan.objects.all().delete()
    deployment = trader.deployment
    deployment.verified_at = None
    deployment.save()
    made = plans.plan(deployment, trader.lab.safe)
    with pytest.raises(SystemExit):
        run("verify", "--deployment", str(deployment.pk))
    deployment.refresh_from_db()
    assert deployment.verified_at is None
    assert made.send is not None
    transact(trader.lab.rpc, trader.world.accounts["owner"], made.send.to, bytes.fromhex(made.send.data[2:]))
    assert "verified" in run("verify", "--deployment", str(deployment.pk))
    deployment.refresh_from_db()

    assert deployment.verified_at is not None
    assert LedgerEntry.objects.filter(deployment=deployment, asset="USDC", amount=10_000).exists()
    assert "10000 USDC" in run("show", "--deployment", str(deployment.pk))
    ref = trader.send(trader.request(quantity="0.1"))
    trader.keep()
    assert trader.find(ref).state == "filled"


def test_a_safe_that_trades_elsewhere_or_holds_a_position_is_refused(trader: PerpsTrader) -> None:
    trader.enter()
    with pytest.raises(Rejected, match="holds positions at GMX"):
        plans.plan(trader.deployment, trader.lab.safe)
    other = make.deployment(make.agent(venue="gmx"), funded=False, account="gmx:other")
    with pytest.raises(Rejected, match=f"deployment {trader.deployment.pk} trades from"):
        plans.plan(other, trader.lab.safe)
    spot = make.deployment(
        make.agent(venue="safe"), funded=False, account=trader.lab.safe, safe_wallet=trader.lab.safe
    )
    with pytest.raises(Rejected, match=f"deployment {spot.pk} trades from"):
        plans.plan(trader.deployment, trader.lab.safe)


def test_only_an_owner_of_the_safe_lets_a_deployment_plan_for_it(trader: PerpsTrader) -> None:
    from eth_account import Account
    from eth_account.messages import encode_defunct

    text = plans.consent(trader.deployment, trader.lab.safe)
    for role, accepted in (("owner", True), ("rogue", False)):
        signature = "0x" + Account.sign_message(encode_defunct(text=text), local_key(role)).signature.hex()
        if accepted:
            plans.require_owner(trader.deployment, trader.lab.safe, signature)
        else:
            with pytest.raises(Rejected, match="key of an owner"):
                plans.require_owner(trader.deployment, trader.lab.safe, signature)


def test_the_revocation_ends_the_policy_and_disables_the_module(trader: PerpsTrader) -> None:
    made = plans.revocation(trader.deployment)
    assert made.send is not None
    transact(trader.lab.rpc, trader.world.accounts["owner"], made.send.to, bytes.fromhex(made.send.data[2:]))

    assert trader.venue.problem(trader.deployment.pk, trader.account, "ETH", "close") == "module_disabled"
