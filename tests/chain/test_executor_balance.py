"""An executor that runs out of gas money alerts staff before it cannot send."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.pipeline.stages import ALERTS
from trading.chain.models import Signer
from trading.venues.safe.reconcile import warn_if_low

pytestmark = pytest.mark.django_db


def test_a_low_balance_is_reported_once_a_day_until_it_is_filled() -> None:
    at: Any = SimpleNamespace(
        stanza=SimpleNamespace(executor_low_wei=10**16), sending=SimpleNamespace(coin="ETH")
    )
    signer = Signer.objects.create(chain_id=31337, address="0x" + "1" * 40)
    low = Event.objects.filter(name="executor.balance_low")
    now = clock.now()
    with clock.frozen(now):
        warn_if_low(at, signer, 10**16)
        assert not low.exists()
        warn_if_low(at, signer, 10**16 - 1)
        warn_if_low(at, signer, 0)
        assert low.count() == 1
    with clock.frozen(now + timedelta(days=1, seconds=1)):
        warn_if_low(at, signer, 0)
    assert low.count() == 2
    assert low.latest("pk").data == {"left": "0 ETH", "limit": "0.01 ETH"}
    assert "executor.balance_low" in ALERTS
