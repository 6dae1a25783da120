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
            parser.add_argument("--user", default="", help="who is notified beside staff")

    def run(self, **options: Any) -> Any:
        return self.rows(getattr(self, f"_{options['action']}")(options))

    def _add(self, options: dict[str, Any]) -> dict[str, Any]:
        user = person_named(options["user"]) if options["user"] else None
        return _as_dict(
            transfers.add(
                options["chain"],
                options["address"],
                label=_label(options),
                min_usd=options["min_usd"],
                user=user,
            )
        )

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        return [_as_dict(row) for row in WatchedAddress.objects.select_related("user")]

    def _label(self, options: dict[str, Any]) -> dict[str, Any]:
        row = _watched(options)
        row.label = _label(options)
        row.save(update_fields=["label"])
        return _as_dict(row)

    def _remove(self, options: dict[str, Any]) -> dict[str, Any]:
        row = _watched(options)
        shown = _as_dict(row)
        transfers.remove(row)
        return shown


def _label(options: dict[str, Any]) -> str:
    label: str = options["label"].strip()
    if len(label) > 60 or not label.isprintable():
        raise Rejected(f"--label has {len(label)} characters: give 60 at most, on one line", code="bad_label")
    return label


def _watched(options: dict[str, Any]) -> WatchedAddress:
    chain = chains.stanza(options["chain"])
    row = WatchedAddress.objects.filter(chain_id=chain.chain_id, address=options["address"]).first()
    if row is None:
        raise Rejected(
            f"{options['address']} on {options['chain']} is not watched: see `manage.py addresses list`",
            code="not_found",
        )
    return row


def _as_dict(row: WatchedAddress) -> dict[str, Any]:
    stanza = chains.chain_of_id(row.chain_id)
    return {
        "chain": chains.name_of(stanza) if stanza else str(row.chain_id),
        "address": row.address,
        "label": row.label,
        "min_usd": plain(row.min_usd),
        "user": row.user.get_username() if row.user else "",
    }
