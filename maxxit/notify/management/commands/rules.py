"""`manage.py rules`: add, list, test, pause and remove users' price rules; show their inbox; set their webhook."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, count, decimal_number, person_named
from maxxit.core.money import plain
from maxxit.notify import endpoints, rules, trials
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Condition, PriceRule, RuleDelivery
from maxxit.notify.rules import Part


class Command(OpsCommand):
    help = "Add, list and remove price rules, as in: rules add --user ann --symbols BTC --above 70000"
    subcommands = {
        "add": "add a rule",
        "list": "list active and paused rules",
        "inbox": "show a user's notifications, the newest first",
        "endpoint": "set the address that a user's notifications on a channel are sent to",
        "webhook": "set the URL that a user's webhook notifications are sent to, signed",
        "test": "check whether a rule matches now",
        "fire": "send a test message of a rule to its user",
        "pause": "stop matching a rule until it is resumed",
        "resume": "match a paused rule again",
        "remove": "delete a rule",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("test", "fire", "pause", "resume", "remove"):
            parser.add_argument("rule_id", help="as in `list`: r_…")
            return
        user = {"add": "whose rule", "list": "only this user's (default: every user's)"}
        parser.add_argument(
            "--user", required=action != "list", default="", help=user.get(action, "user name")
        )
        if action == "add":
            parser.add_argument("--symbols", required=True, help="for example BTC,ETH, or * for every one")
            parser.add_argument("--above", type=decimal_number, metavar="USD", help="at a price above this")
            parser.add_argument("--below", type=decimal_number, metavar="USD", help="at a price below this")
            parser.add_argument(
                "--change", type=decimal_number, metavar="PERCENT", help="up or down, within --window"
            )
            parser.add_argument(
                "--change-24h", type=decimal_number, metavar="PERCENT", help="up or down, within 24 hours"
            )
            parser.add_argument(
                "--volume", type=decimal_number, metavar="USD", help="traded in 24 hours, above this"
            )
            parser.add_argument(
                "--spread", type=decimal_number, metavar="BPS", help="between price sources, above this"
            )
            parser.add_argument(
                "--funding",
                type=decimal_number,
                metavar="PERCENT",
                help="funding rate of 8 hours, either side pays",
            )
            parser.add_argument("--any", action="store_true", help="every new price")
            parser.add_argument(
                "--match",
                choices=("all", "any"),
                default="all",
                help="of several conditions: all at the same price, or any of them (default all)",
            )
            parser.add_argument(
                "--window",
                type=count,
                default=60,
                metavar="MINUTES",
                help=f"for --change (default 60), up to {rules.LONGEST_WINDOW.days} days",
            )
            parser.add_argument(
                "--channel", default="inbox", choices=sorted(CHANNELS.known), help="where to (default inbox)"
            )
        if action == "inbox":
            parser.add_argument("--limit", type=count, default=20, help="how many (default 20)")
        if action == "endpoint":
            parser.add_argument(
                "--channel", required=True, choices=sorted(CHANNELS.known), help="whose address it is"
            )
            where = parser.add_mutually_exclusive_group(required=True)
            where.add_argument("--address", help="as the channel needs it; prints the signing secret")
            where.add_argument("--off", action="store_true", help="remove the address")
        if action == "webhook":
            where = parser.add_mutually_exclusive_group(required=True)
            where.add_argument("--url", help="a public https:// URL; prints the signing secret")
            where.add_argument("--off", action="store_true", help="remove the webhook")

    def run(self, **options: Any) -> Any:
        return self.rows(getattr(self, f"_{options['action']}")(options))

    def _add(self, options: dict[str, Any]) -> dict[str, Any]:
        user = person_named(options["user"])
        endpoints.require(user, options["channel"])
        parts = _parts(options)
        combined = len(parts) > 1
        one = parts[0]
        kind = Condition.ALL if options["match"] == "all" else Condition.ANY_OF
        rule = rules.add(
            user,
            [name.strip() for name in options["symbols"].split(",") if name.strip()],
            kind if combined else one.condition,
            threshold=None if combined else one.threshold,
            window=None if combined else one.window,
            channel=options["channel"],
            parts=parts if combined else (),
        )
        return _as_dict(rule)

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        standing = PriceRule.objects.filter(removed_at=None).select_related("user")
        if options["user"]:
            standing = standing.filter(user_id=person_named(options["user"]).pk)
        return [_as_dict(rule) for rule in standing]

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

    def _endpoint(self, options: dict[str, Any]) -> dict[str, Any]:
        user, channel = person_named(options["user"]), options["channel"]
        if options["off"]:
            return {"user": options["user"], "channel": channel, "removed": endpoints.forget(user, channel)}
        endpoint = endpoints.set_endpoint(user, channel, options["address"])
        return {
            "user": options["user"],
            "channel": channel,
            "address": endpoint.hint,
            "confirmed": endpoint.verified_at is not None,
            "secret": endpoints.secret_of(endpoint),
        }

    def _webhook(self, options: dict[str, Any]) -> dict[str, Any]:
        user = person_named(options["user"])
        if options["off"]:
            return {"user": options["user"], "removed": endpoints.forget(user, "webhook")}
        endpoint = endpoints.set_endpoint(user, "webhook", options["url"])
        return {"user": options["user"], "url": options["url"], "secret": endpoints.secret_of(endpoint)}

    def _test(self, options: dict[str, Any]) -> dict[str, Any]:
        hits = rules.holds_now(_rule(options["rule_id"]))
        listed = [
            {"symbol": hit.symbol, "price": plain(hit.price), "value": plain(hit.value)} for hit in hits
        ]
        return {"rule": options["rule_id"], "matches": bool(hits), "hits": listed}

    def _fire(self, options: dict[str, Any]) -> dict[str, Any]:
        alert = trials.send_of_rule(_rule(options["rule_id"]))
        return {"rule": options["rule_id"], "channel": alert.channel, "text": alert.event.data["text"]}

    def _pause(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"rule": options["rule_id"], "paused": rules.pause(_rule(options["rule_id"]))}

    def _resume(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"rule": options["rule_id"], "resumed": rules.resume(_rule(options["rule_id"]))}

    def _remove(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"rule": options["rule_id"], "removed": rules.remove(_rule(options["rule_id"]))}


def _parts(options: dict[str, Any]) -> list[Part]:
    """Return the conditions that were given. Raises CommandError without any."""
    window = timedelta(minutes=min(options["window"], 10**6))  # a longer one is refused, and may overflow
    given = {
        "above": (Condition.GT, None),
        "below": (Condition.LT, None),
        "change": (Condition.CHANGE_PCT, window),
        "change_24h": (Condition.CHANGE_PCT, timedelta(hours=24)),
        "volume": (Condition.VOLUME_USD, None),
        "spread": (Condition.SPREAD_BPS, None),
        "funding": (Condition.FUNDING, None),
    }
    parts = [
        Part(kind, options[name], within)
        for name, (kind, within) in given.items()
        if options[name] is not None
    ]
    if options["any"]:
        parts.append(Part(Condition.ANY))
    if not parts:
        raise CommandError(
            "give a condition: --above, --below, --change, --change-24h, --volume, --spread, --funding or --any"
        )
    return parts


def _rule(rule_id: str) -> PriceRule:
    rule = PriceRule.objects.filter(rule_id=rule_id).first()
    if rule is None:
        raise CommandError(f"no rule {rule_id!r}: see `manage.py rules list`")
    return rule


def _as_dict(rule: PriceRule) -> dict[str, Any]:
    return {
        "rule": rule.rule_id,
        "user": rule.user.get_username(),
        "symbols": ",".join(rule.symbols),
        "condition": rules.condition_text(rule) if rule.parts else rule.condition,
        "threshold": plain(rule.threshold) if rule.threshold else "",
        "window_seconds": rule.window_seconds or "",
        "channel": rule.channel,
        "state": rule.state,
    }
