"""manage.py rules: users' price rules on the command line."""

import json
from argparse import ArgumentParser, _SubParsersAction
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from maxxit.console.auth import person_named
from maxxit.console.schemas import moment
from maxxit.core.errors import MaxxitError
from maxxit.core.money import plain
from maxxit.market import rules
from maxxit.market.models import Condition, PriceRule, RuleDelivery
from maxxit.notify import endpoints
from maxxit.notify.channels import CHANNELS


class Command(BaseCommand):
    """See the module."""

    help = "Price rules: add, list, test, remove, inbox, webhook. As in: rules add --user ann --symbols BTC --above 1"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One subcommand each."""
        verbs: _SubParsersAction[Any] = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add", help="make a rule")
        add.add_argument("--user", required=True)
        add.add_argument("--symbols", required=True, help="for example BTC,ETH, or * for every one")
        when = add.add_mutually_exclusive_group(required=True)
        when.add_argument("--above", metavar="USD")
        when.add_argument("--below", metavar="USD")
        when.add_argument("--change", metavar="PERCENT", help="up or down, within --window")
        when.add_argument("--any", action="store_true", help="every new price")
        add.add_argument(
            "--window", type=int, default=60, metavar="MINUTES", help="for --change (default 60)"
        )
        add.add_argument("--channel", default="inbox", choices=sorted(CHANNELS.known))
        listed = verbs.add_parser("list", help="active rules")
        listed.add_argument("--user", default="")
        inbox = verbs.add_parser("inbox", help="what a user was told, the newest first")
        inbox.add_argument("--user", required=True)
        inbox.add_argument("--limit", type=int, default=20)
        webhook = verbs.add_parser(
            "webhook", help="where a user's rules of the channel webhook are sent, signed"
        )
        webhook.add_argument("--user", required=True)
        where = webhook.add_mutually_exclusive_group(required=True)
        where.add_argument("--url", help="https://…, public; prints the secret that signs what is sent")
        where.add_argument("--off", action="store_true")
        for verb, what in (("test", "would it match now?"), ("remove", "it matches no more")):
            verbs.add_parser(verb, help=what).add_argument("rule_id")
        for one in verbs.choices.values():
            one.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb; every problem is one line."""
        try:
            said = getattr(self, f"_{options['verb']}")(options)
        except MaxxitError as error:
            raise CommandError(str(error)) from None
        rows = said if isinstance(said, list) else [said]
        if options["json"]:
            self.stdout.write(json.dumps(said, indent=2))
        else:
            for row in rows:
                self.stdout.write("  ".join(f"{name} {value}" for name, value in row.items() if value != ""))

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
                "at": moment(row.at),
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
        made = endpoints.name(user, "webhook", options["url"])
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
