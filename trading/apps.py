from typing import Any

from django.apps import AppConfig
from django.core import checks


class TradingConfig(AppConfig):
    name = "trading"
    label = "trading"
    verbose_name = "Trading"

    def ready(self) -> None:
        """Register the check of the executor's keys, for `check --deploy`."""
        checks.register(check_executor_keys, checks.Tags.security, deploy=True)


def check_executor_keys(**options: Any) -> list[checks.CheckMessage]:
    """Return an error where this process has an executor key that must not sign on a public chain; asks nobody."""
    # both load the chain's libraries, which other processes and commands do without
    from maxxit.core.errors import Misconfigured
    from trading.chain.signer import check_public_keys

    try:
        check_public_keys()
    except Misconfigured as error:
        return [checks.Error(str(error), id="trading.E001")]
    return []
