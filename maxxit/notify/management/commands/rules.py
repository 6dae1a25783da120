"""manage.py rules: users' price rules on the command line."""

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, count, person_named
from maxxit.core.money import plain
from maxxit.market import rules
from maxxit.market.models import Condition, PriceRule, RuleDelivery
from maxxit.notify import endpoints
from maxxit.notify.channels import CHANNELS


class Command(OpsCommand):
    help = "Add, list and remove price rules, as in: rules add --user ann --symbols BTC --above 70000"
    subcommands = {
        "add": "make a rule",
        "list": "active rules",
        "inbox": "what a user was told, the newest first",
        "webhook": "where a user's rules of the channel webhook are sent, signed",
        "test": "would it match now?",
        "remove": "it matches no more",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        """Whose rule, which rule, and what it waits for."""
        if action in ("test", "remove"):
            parser.add_argument("rule_id")
            return
        parser.add_argument("--user", required=action != "list", default="")
        if action == "add":
            parser.add_argument("--symbols", required=True, help="for example BTC,ETH, or * for every one")
            when = parser.add_mutually_exclusive_group(required=True)
            when.add_argument("--above", metavar="USD")
            when.add_argument("--below", metavar="USD")
            when.add_argument("--change", metavar="PERCENT", help="up or down, within --window")
            when.add_argument("--any", action="store_true", help="every new price")
            parser.add_argument(
                "--window", type=count, default=60, metavar="MINUTES", help="for --change (default 60)"
            )
            parser.add_argument("--channel", default="inbox", choices=sorted(CHANNELS.known))
        if action == "inbox":
            parser.add_argument("--limit", type=count, default=20)
        if action == "webhook":
            where = parser.add_mutually_exclusive_group(required=True)
            where.add_argument("--url", help="https://…, public; prints the secret that signs what is sent")
            where.add_argument("--off", action="store_true")

    def run(self, **options: Any) -> Any:
        return self.rows(getattr(self, f"_{options['action']}")(options))

    def _add(self, options: dict[str, Any]) -> dict[str, Any]:
        user = person_named(options["user"])
        endpoints.require(user, options["channel"])
        given = {Condition.GT: "above", Condition.LT: "below", Condition.CHANGE_PCT: "change"}
        condition, text = next(
            ((one, options[name]) for one, name in given.items() if options[name]), (Condition.ANY, None)
        )
        rule = rules.add(
            user,
            [name.strip() for name in options["symbols"].split(",") if name.strip()],
            condition,
            threshold=_number(text) if text else None,
            window=timedelta(minutes=options["window"]),
            channel=options["channel"],
        )
        return _shown(rule)

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        found = PriceRule.objects.filter(active=True).select_related("user")
        if options["user"]:
            found = found.filter(user_id=person_named(options["user"]).pk)
        return [_shown(rule) for rule in found]

    def _inbox(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        rows = RuleDelivery.objects.filter(user_id=person_named(options["user"]).pk).select_related(
            "rule", "match"
        )
        return [
            {
                "at": iso_utc(row.at),
                "rule": row.rule.rule_id,
                "symbol": row.symbol,
                "price": plain(row.match.price),
                "channel": row.channel,
                "state": row.state,
                "error": row.last_error,
            }
            for row in rows.order_by("-pk")[: options["limit"]]
        ]

    def _webhook(self, options: dict[str, Any]) -> dict[str, Any]:
        user = person_named(options["user"])
        if options["off"]:
            return {"user": options["user"], "removed": endpoints.forget(user, "webhook")}
        made = endpoints.set_endpoint(user, "webhook", options["url"])
        return {"user": options["user"], "url": made.address, "secret": endpoints.secret_of(made)}

    def _test(self, options: dict[str, Any]) -> dict[str, Any]:
        hits = rules.holds_now(_rule(options["rule_id"]))
        said = [{"symbol": hit.symbol, "price": plain(hit.price), "value": plain(hit.value)} for hit in hits]
        return {"rule": options["rule_id"], "matches": bool(hits), "hits": said}

    def _remove(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"rule": options["rule_id"], "removed": rules.remove(_rule(options["rule_id"]))}


def _rule(rule_id: str) -> PriceRule:
    found = PriceRule.objects.filter(rule_id=rule_id).first()
    if found is None:
        raise CommandError(f"no rule {rule_id!r}: see `manage.py rules list`")
    return found


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise CommandError(f"{text!r} is no number") from None


def _shown(rule: PriceRule) -> dict[str, Any]:
    return {
        "rule": rule.rule_id,
        "user": rule.user.get_username(),
        "symbols": ",".join(rule.symbols),
        "condition": rule.condition,
        "threshold": plain(rule.threshold) if rule.threshold else "",
        "window_seconds": rule.window_seconds or "",
        "channel": rule.channel,
    }
