"""`manage.py apikey create | list | revoke`."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.access import auth
from maxxit.access.models import READ, ApiKey
from maxxit.core.commands import OpsCommand, by_option, count, operator, person_named, time_ahead
from maxxit.core.errors import Rejected


class Command(OpsCommand):
    help = (
        "Create, list and revoke keys of the REST API. A key is shown once, when it is created; only its hash is "
        "stored. Times are UTC."
    )
    subcommands = {
        "create": "create a key for a user",
        "list": "list all keys by their first characters",
        "revoke": "revoke a key at once",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "create":
            parser.add_argument("owner", help="user name; the key sees what this user may see")
            parser.add_argument("--name", default="key", help="what it is for (default: key)")
            parser.add_argument(
                "--scope", action="append", choices=auth.SCOPES, help="read unless given; may be repeated"
            )
            parser.add_argument("--days", type=count, help="days until it expires (default: never)")
        if action == "revoke":
            parser.add_argument("prefix", help="its first characters as shown by `list`")
        if action != "list":
            by_option(parser)

    def run(self, **options: Any) -> Any:
        if options["action"] == "list":
            return self._list()
        by = operator(options["by"])
        if options["action"] == "revoke":
            count = auth.revoke_key(options["prefix"], by=by)
            if not count:
                raise Rejected(
                    f"no active key begins with {options['prefix']!r}: see `manage.py apikey list`"
                )
            self.say(f"{count} revoked", "SUCCESS")
            return {"revoked": count}
        until = time_ahead(days=options["days"]) if options["days"] else None
        owner = person_named(options["owner"])
        key = auth.create_key(owner, options["name"], options["scope"] or [READ], by=by, expires_at=until)
        self.say(
            f"{key}\nsave it now: it is shown only once. Send it as `X-API-Key` or `Authorization: Bearer`."
        )
        return {"key": key, "scopes": options["scope"] or [READ]}

    def _list(self) -> dict[str, Any]:
        rows = list(ApiKey.objects.select_related("owner"))
        self.table(
            ("prefix", "owner", "name", "scopes", "created (UTC)", "last used (UTC)", "state"),
            [
                (
                    row.prefix,
                    row.owner,
                    row.name,
                    " ".join(row.scopes),
                    row.created_at,
                    row.last_used,
                    row.standing,
                )
                for row in rows
            ],
        )
        return {"keys": [_as_dict(row) for row in rows]}


def _as_dict(row: ApiKey) -> dict[str, Any]:
    names: dict[str, Any] = {"prefix": row.prefix, "owner": str(row.owner), "name": row.name}
    return names | {"scopes": row.scopes, "state": row.standing}
