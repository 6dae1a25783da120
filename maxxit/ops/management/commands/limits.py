"""`manage.py limits`: list the risk limits with their use now, override one, or return it to config/risk.yaml."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, operator
from maxxit.reports.operators import limits
from trading.management.waiting import said_that_it_waits
from trading.operations import change_requests, changes, limit_overrides
from trading.operations.change_requests import Asker
from trading.risk.limits_in_force import value_text
from trading.second_person import Kind


class Command(OpsCommand):
    help = "List the risk limits with their use now, and change one, as in: limits set max_trade_usd 2000 --reason …"
    subcommands = {
        "list": "list the limits: in force, use now, value of config/risk.yaml, override, waiting value",
        "set": "override a limit; a looser value needs a second person, then waits for its delay",
        "unset": "remove an override: the value of config/risk.yaml applies again",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "list":
            return
        parser.add_argument("limit", help="as in `list`, such as account.max_open_orders")
        if action == "set":
            parser.add_argument("value", help="a number, a word, on, off or none")
        parser.add_argument("--reason", required=True, help="why; it is kept in the event log")
        parser.add_argument("--by", default="", help="who (default: the login name)")

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> dict[str, Any]:
        read = limits.read_limits()
        rows = [row.as_json() for row in read.rows]
        if read.problem:
            self.say(f"the limits in force cannot be read, so entries are stopped: {read.problem}", "ERROR")
        self.table(
            ("limit", "in force", "used", "%", "risk.yaml", "override", "waits", "from"),
            [
                (
                    row["limit"], row["in_force"], row["used"], row["used_pct"], row["default"], row["override"],
                    row["waiting"], row["waiting_until"],
                )
                for row in rows
            ],
        )  # fmt: skip
        return {"limits": rows, "problem": read.problem}

    def _set(self, options: dict[str, Any]) -> dict[str, Any]:
        return self._ask(changes.set_limit(options["limit"], options["value"]), options)

    def _unset(self, options: dict[str, Any]) -> dict[str, Any]:
        return self._ask(changes.unset_limit(options["limit"]), options)

    def _ask(self, content: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        by = Asker(operator(options["by"]))
        asked = change_requests.ask(Kind.RAISE_LIMIT, content, by=by, reason=options["reason"])
        return said_that_it_waits(self, asked.request) if asked.request else self._show_effect(asked.result)

    def _show_effect(self, effect: limit_overrides.Effect) -> dict[str, Any]:
        old, new = value_text(effect.old), value_text(effect.new)
        self.say(f"{effect.key}: {old} to {new}, {limits.in_words(effect.in_force_at)}", "SUCCESS")
        return {
            "limit": effect.key, "old": old, "new": new, "looser": effect.looser,
            "in_force_at": iso_utc(effect.in_force_at),
        }  # fmt: skip
