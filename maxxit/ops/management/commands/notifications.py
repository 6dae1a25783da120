"""`manage.py notifications`: a user's notification settings, a test message, and the delivery log."""

from datetime import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, count, person_named
from maxxit.notify import kinds, preferences, trials
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import NotificationSettings
from maxxit.reports import notifications

NONE = "none"


class Command(OpsCommand):
    help = "Show and set a user's notifications, as in: notifications set --user ann --quiet 22:00-07:00"
    subcommands = {
        "show": "show the kinds, the quiet hours and the channels of a user",
        "set": "set the kinds or the quiet hours of a user",
        "test": "send a test message to a user on one channel",
        "log": "list the messages to a user on every channel, newest first",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--user", required=True, help="user name")
        if action == "set":
            parser.add_argument(
                "--kinds", help=f"some of {','.join(kinds.KINDS)}, or none (default: as before)"
            )
            parser.add_argument("--quiet", help="as in 22:00-07:00, or none (default: as before)")
            parser.add_argument(
                "--zone", help="of the quiet hours, such as Europe/Berlin (default: as before)"
            )
        if action == "test":
            parser.add_argument("--channel", required=True, choices=sorted(CHANNELS.known), help="where to")
        if action == "log":
            parser.add_argument(
                "--limit", type=count, default=20, help=f"how many (default 20, at most {notifications.MOST})"
            )

    def run(self, **options: Any) -> Any:
        user = person_named(options["user"])
        return self.rows(getattr(self, f"_{options['action']}")(user, options))

    def _show(self, user: Any, options: dict[str, Any]) -> dict[str, Any]:
        return _as_dict(user, preferences.of(user))

    def _set(self, user: Any, options: dict[str, Any]) -> dict[str, Any]:
        row = preferences.of(user)
        names, begin, end = row.kinds, row.quiet_from, row.quiet_to
        if options["kinds"] is not None:
            names = [] if options["kinds"] == NONE else options["kinds"].split(",")
        if options["quiet"] is not None:
            begin, end = _hours(options["quiet"])
        row = preferences.choose(user, names, begin, end, options["zone"] or row.time_zone)
        return _as_dict(user, row)

    def _test(self, user: Any, options: dict[str, Any]) -> dict[str, Any]:
        alert = trials.send_to_channel(user, options["channel"])
        return {"user": options["user"], "channel": alert.channel, "text": alert.event.data["text"]}

    def _log(self, user: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "at": iso_utc(row.at),
                "what": row.what,
                "text": row.text,
                "channel": row.channel,
                "state": row.state,
                "error": row.error,
            }
            for row in notifications.log_of(user, limit=options["limit"]).rows
        ]


def _hours(text: str) -> tuple[time | None, time | None]:
    if text == NONE:
        return None, None
    begin, _, end = text.partition("-")
    try:
        return time.fromisoformat(begin), time.fromisoformat(end)
    except ValueError:
        raise CommandError(f"--quiet {text}: use 22:00-07:00, or none") from None


def _as_dict(user: Any, row: NotificationSettings) -> dict[str, Any]:
    return {
        "user": user.get_username(),
        "kinds": ",".join(row.kinds) or NONE,
        "quiet": preferences.quiet_text(row) or NONE,
        "channels": ",".join(one.name for one in notifications.channels_of(user) if one.usable),
    }
