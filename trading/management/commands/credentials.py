"""`manage.py credentials …`: the keys that customers give for their accounts at venues. Nothing prints them."""

import json
import sys
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, by_option, clock_text, confirm, count, operator
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.notify import endpoints
from maxxit.notify.channels import push
from trading.credentials import sealing, store
from trading.credentials.models import VenueCredential
from trading.deployments.describe import deployment_numbered
from trading.wiring import venue

HEADS = ("venue", "account", "hint", "permissions", "stored by", "stored", "tested")


class Command(OpsCommand):
    help = (
        "Store, test, list and remove the keys of accounts at venues, and rotate the key that encrypts them."
    )
    subcommands = {
        "list": "show which accounts have keys, never the keys",
        "set": "ask for the keys of a deployment's account, test them and store them encrypted",
        "test": "ask the venue what the stored keys of a deployment may do",
        "remove": "delete the keys of a deployment's account",
        "new-key": "make the private key that opens customers' keys, and print its public key",
        "new-push-key": "print a new key pair for notifications of browsers",
        "rotate": "encrypt every stored key, and every address of a channel, again with the public key in force",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("set", "test", "remove"):
            parser.add_argument("deployment", type=count, help="its id")
        if action == "set":
            parser.add_argument(
                "--stdin", action="store_true", help="read a JSON object of the fields from standard input"
            )
        if action == "remove":
            parser.add_argument("--yes", action="store_true", help="do not ask")
        if action in ("set", "remove"):
            by_option(parser)
        if action == "new-key":
            parser.add_argument("path", type=Path, help="file of the private key; it must not exist")
            parser.add_argument(
                "--addresses", action="store_true", help="for the addresses of notification channels instead"
            )

    def run(self, **options: Any) -> Any:
        action = options["action"]
        if action == "list":
            return self._list()
        if action == "new-key":
            public = sealing.encode(sealing.new_key(options["path"]))
            keys, where = (
                (endpoints.KEYS, "the notify worker")
                if options["addresses"]
                else (sealing.KEYS, "the workers that trade")
            )
            self.say(f"private key: {options['path']} ({keys.private_name}_FILE of {where})")
            self.say(f"{keys.public_name}={public}")
            return {"public_key": public, "file": str(options["path"])}
        if action == "rotate":
            rows = store.rotate() + endpoints.rotate()
            self.say(f"{rows} encrypted again", "SUCCESS")
            return {"encrypted_again": rows}
        if action == "new-push-key":
            private, public = push.new_key()
            self.say(f"{push.PRIVATE}={private}  (the notify worker alone)\n{push.PUBLIC}={public}  (web)")
            return {"public_key": public}
        deployment = deployment_numbered(options["deployment"])
        name, account = deployment.agent.venue, deployment.account
        if action == "test":
            permissions = store.test(name, account)
            self.say(f"{name} accepts the keys of {account}: {', '.join(permissions)}", "SUCCESS")
            return {"venue": name, "account": account, "permissions": permissions}
        by = operator(options["by"])
        if action == "remove":
            if not (options["yes"] or confirm(f"Delete the keys of {account} at {name}? Exits stop, too.")):
                raise CommandError("nothing was deleted: confirm with yes, or give --yes")
            removed = store.remove(name, account, by=by)
            self.say(f"the keys of {account} are deleted" if removed else f"{account} had no keys")
            return {"venue": name, "account": account, "removed": removed}
        row = store.store(name, account, self._fields(name, options["stdin"]), by=by)
        self.say(f"stored: {row}; they may {', '.join(row.permissions)}", "SUCCESS")
        return _row(row)

    def _fields(self, name: str, from_stdin: bool) -> dict[str, str]:
        fields = venue(name).credential_fields
        if not fields:
            raise Rejected(f"{name} needs no keys of its customers", code="no_credentials_needed")
        if not from_stdin:
            return {field: getpass(f"{field.replace('_', ' ')} (not shown): ") for field in fields}
        try:
            given = json.load(sys.stdin)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise InvalidInput({"stdin": f"give a JSON object with {', '.join(fields)}"})
        return {str(field): str(value) for field, value in given.items()}

    def _list(self) -> Any:
        rows = list(VenueCredential.objects.order_by("venue", "account"))
        self.table(
            HEADS,
            [
                (
                    row.venue,
                    row.account,
                    f"…{row.hint}",
                    ", ".join(row.permissions),
                    row.stored_by,
                    clock_text(row.stored_at),
                    clock_text(row.tested_at),
                )
                for row in rows
            ],
        )
        return [_row(row) for row in rows]


def _row(row: VenueCredential) -> dict[str, Any]:
    return {
        "venue": row.venue,
        "account": row.account,
        "hint": row.hint,
        "permissions": row.permissions,
        "stored_by": row.stored_by,
        "stored_at": iso_utc(row.stored_at),
        "tested_at": row.tested_at and iso_utc(row.tested_at),
    }
