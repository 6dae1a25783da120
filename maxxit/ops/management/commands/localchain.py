"""`manage.py localchain`: run the local chain of `make up` in the foreground."""

import signal
from types import FrameType
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from maxxit.core.errors import MaxxitError
from maxxit.ops.devchain import local
from maxxit.ops.devchain.anvil import AnvilError


class Command(BaseCommand):
    help = "Run anvil with Safe, Uniswap, our module and a demo user's Safe; pools follow the quotes. For chain 31337."
    requires_system_checks: list[str] = []

    def handle(self, *_: Any, **__: Any) -> None:
        """Run until SIGTERM, on which anvil writes its state."""
        signal.signal(signal.SIGTERM, _exit)
        try:
            local.serve()
        except (AnvilError, MaxxitError) as error:
            raise CommandError(str(error)) from None


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
