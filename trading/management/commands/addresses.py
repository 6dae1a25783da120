"""`manage.py addresses`: watch on-chain addresses, whose transfers are reported."""

from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, decimal_number, person_named
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from trading.chain import chains, transfers
from trading.chain.models import WatchedAddress


class Command(OpsCommand):
    help = "Watch addresses, as in: addresses add --chain arbitrum-one --address 0x… --label Treasury --min-usd 1000"
    subcommands = {
        "add": "report the transfers of an address from now on",
        "list": "list the watched addresses",
        "label": "rename a watched address",
        "remove": "watch an address no more",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "list":
            return
        parser.add_argument("--chain", required=True, help="name in config/chains.yaml")
        parser.add_argument("--address", required=True, help="with its checksum, as explorers show it")
        parser.add_argument("--user", default="", help="who is notified beside staff")
        if action in ("add", "label"):
            parser.add_argument(
                "--label", required=action == "label", default="", help="its name in messages"
            )
        if action == "add":
            parser.add_argument(
                "--min-usd",
                type=decimal_number,
                default=Decimal(0),
                metavar="USD",
                help="smaller transfers are not reported (default 0)",
            )

    def run(self, **options: Any) -> Any:
        return self.rows(getattr(self, f"_{options['action']}")(options))

    def _add(self, options: dict[str, Any]) -> dict[str, Any]:
        return _as_dict(
            transfers.add(
                options["chain"],
                options["address"],
                label=options["label"],
                min_usd=options["min_usd"],
                user=_user(options),
            )
        )

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        return [_as_dict(row) for row in WatchedAddress.objects.select_related("user")]

    def _label(self, options: dict[str, Any]) -> dict[str, Any]:
        row = _watched(options)
        row.label = transfers.check_label(options["label"])
        row.save(update_fields=["label"])
        return _as_dict(row)

    def _remove(self, options: dict[str, Any]) -> dict[str, Any]:
        row = _watched(options)
        shown = _as_dict(row)
        transfers.remove(row)
        return shown


def _user(options: dict[str, Any]) -> Any:
    return person_named(options["user"]) if options["user"] else None


def _watched(options: dict[str, Any]) -> WatchedAddress:
    chain = chains.stanza(options["chain"])
    rows = list(WatchedAddress.objects.filter(chain_id=chain.chain_id, address=options["address"]))
    if len(rows) > 1 or options["user"]:
        user = _user(options)
        rows = [row for row in rows if row.user == user]
    if not rows:
        who = f" for {options['user']}" if options["user"] else ""
        raise Rejected(
            f"{options['address']} on {options['chain']} is not watched{who}: see `manage.py addresses list`",
            code="not_found",
        )
    return rows[0]


def _as_dict(row: WatchedAddress) -> dict[str, Any]:
    return {
        "chain": chains.name_of_id(row.chain_id),
        "address": row.address,
        "label": row.label,
        "min_usd": plain(row.min_usd),
        "user": row.user.get_username() if row.user else "",
        "private": row.private,
    }
