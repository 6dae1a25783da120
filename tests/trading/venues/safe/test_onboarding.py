"""What owners sign and wallets send, byte for byte as it was before safe-eth-py encoded it (`owners_sign.json`).

The file was written by the encoding of our own that safe-eth-py replaced, for Safes of one to five owners and plans
with and without rules. `tests/chain/test_onboarding.py` compares the hash with the Safe contract's own.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from safe_eth.safe import ProxyFactory

from maxxit.ops.devchain.world import safe_artifact
from trading.venues.safe import library, onboarding
from trading.venues.safe.contract import module as m

RECORDED: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name("owners_sign.json").read_text()
)


@pytest.mark.parametrize("safe", RECORDED["created"], ids=lambda safe: safe["safe"])
def test_a_new_safe_is_created_by_the_same_bytes_at_the_same_address(
    safe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    owners, threshold, salt = safe["owners"], safe["threshold"], int(safe["salt"])
    monkeypatch.setattr(ProxyFactory, "get_proxy_creation_code", lambda _: safe_artifact("Proxy"))

    setup = onboarding.safe_setup_data(owners, threshold)
    assert "0x" + setup.hex() == safe["initializer"]
    assert "0x" + onboarding.create_safe_data(setup, salt).hex() == safe["data"]
    assert onboarding.predict_safe(library.offline(1), setup, salt) == safe["safe"]


@pytest.mark.parametrize("plan", RECORDED["planned"], ids=lambda plan: plan["hash"][:10])
def test_a_plan_is_signed_and_executed_by_the_same_bytes(plan: dict[str, Any]) -> None:
    policy, rules = m.Policy(*plan["policy"]), [m.TokenRule(*rule) for rule in plan["rules"]]
    tx = onboarding.enable_tx(
        plan["chain_id"], plan["safe"], plan["module"], policy, rules, plan["nonce"], enabled=plan["enabled"]
    )

    assert "0x" + onboarding.safe_tx_hash(tx).hex() == plan["hash"]
    assert json.dumps(onboarding.safe_tx_json(tx)) == plan["json"]
    tx.signatures = bytes.fromhex(plan["signatures"][2:])
    assert "0x" + onboarding.exec_data(tx).hex() == plan["execute"]


@pytest.mark.parametrize("plan", RECORDED["revoked"], ids=lambda plan: plan["hash"][:10])
def test_a_revocation_is_signed_by_the_same_bytes(plan: dict[str, Any]) -> None:
    tx = onboarding.revoke_tx(plan["chain_id"], plan["safe"], plan["module"], plan["nonce"], plan["before"])

    assert "0x" + onboarding.safe_tx_hash(tx).hex() == plan["hash"]
    assert json.dumps(onboarding.safe_tx_json(tx)) == plan["json"]


def test_the_addresses_of_safes_contracts_are_those_that_people_know() -> None:
    assert {name: library.deployed(name) for name in ("SafeL2", "SafeProxyFactory", "MultiSendCallOnly")} == {
        "SafeL2": "0x29fcB43b46531BcA003ddC8FCB67FFE91900C762",
        "SafeProxyFactory": "0x4e1DCf7AD4e460CfD30791CCC4F9c8a4f820ec67",
        "MultiSendCallOnly": "0x9641d764fc13c8B624c04430C7356C1C7C8102e2",
    }
    assert library.singletons() == {
        "0xd9Db270c1B5E3Bd161E8c8503c55cEABeE709552": "1.3.0",
        "0x3E5c63644E683549055b9Be8653de26E0B4CD36E": "1.3.0 L2",
        "0x69f4D1788e39c87893C980c06EdF4b7f686e2938": "1.3.0",
        "0xfb1bffC9d739B8D520DaF37dF666da4C687191EA": "1.3.0 L2",
        "0x41675C099F32341bf84BFc5382aF534df5C7461a": "1.4.1",
        "0x29fcB43b46531BcA003ddC8FCB67FFE91900C762": "1.4.1 L2",
    }, "an update of safe-eth-py must not widen what may be traded unseen"
    assert library.proxies() == {
        "b89c1b3bdf2cf8827818646bce9a8f6e372885f8c55e5c07acbd307cb133b000": "1.3.0",
        "d7d408ebcd99b2b70be43e20253d6d92a8ea8fab29bd3be7f55b10032331fb4c": "1.4.1",
    }
