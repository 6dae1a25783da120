"""The commands of the chat: what each answers, and which permission it needs. Nothing here knows a transport."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maxxit.access.permissions import allowed
from maxxit.chat import answers, codes, stopping
from maxxit.chat.answers import Answer
from maxxit.chat.connecting import CHANNEL
from maxxit.chat.models import ChatCode
from maxxit.core.errors import Rejected
from maxxit.notify import kinds, preferences

VIEW_POSITIONS = "positions.view_position"
CHANGE_SETTINGS = "notify.change_notificationsettings"
MUTE_HOURS = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks what."""

    person: Any
    argument: str
    at: datetime
    """When the message was sent, UTC."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, with the buttons that send a text when they are pressed."""

    answer: Answer
    buttons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the chat."""

    name: str
    """With the first word of its argument where that has a permission of its own."""
    usage: str
    about: str
    run: Callable[[Asked], Reply]
    permission: str = ""
    """Of Django, which staff need; customers need none. Empty: for every connected chat."""
    staff_only: bool = False
    changes: bool = False

    def may(self, person: Any) -> bool:
        """Return whether `person` may use it."""
        return not self.permission or allowed(person, self.permission, operators_only=self.staff_only)


def _said(*lines: str, **data: Any) -> Reply:
    return Reply(Answer(data, lines))


def _help(asked: Asked) -> Reply:
    mine = [one for one in COMMANDS.values() if one.may(asked.person)]
    return _said(
        f"This chat is connected to the account {asked.person.get_username()}. Commands:",
        *(f"{one.usage} – {one.about}" for one in mine),
        "Nothing here resumes, approves, enlarges or withdraws: that is done on the pages.",
    )


def _start(asked: Asked) -> Reply:
    """Show the commands; a connected chat stays with its account, whatever code it sends."""
    if not asked.argument:
        return _help(asked)
    return _said(
        f"This chat is connected to the account {asked.person.get_username()} already, so the code was not used. To "
        "connect the chat to another account, disconnect it first: log in with this account, and open Settings, Chat."
    )


def _whole(text: str, otherwise: int, what: str) -> int:
    if not text:
        return otherwise
    if not text.isdecimal() or len(text) > 9:
        raise Rejected(f"{text[:20]!r} is no number of {what}", code="invalid")
    return int(text)


def _pnl(asked: Asked) -> Reply:
    return Reply(answers.daily_pnl(asked.person, _whole(asked.argument, answers.DAYS, "days")))


def _mute(asked: Asked) -> Reply:
    hours = _whole(asked.argument, MUTE_HOURS, "hours")
    preferences.snooze(asked.person, hours)
    if not hours:
        return _said("Messages are sent again.")
    return _said(f"For {hours} hours only critical messages are sent. /mute 0 ends it.")


def _notify(asked: Asked, wanted: Any) -> None:
    row = preferences.of(asked.person)
    choices = {name: choice for name, choice in row.by_channel.items() if name != CHANNEL}
    preferences.choose(
        asked.person, row.kinds, row.quiet_from, row.quiet_to, row.time_zone,
        by_channel=choices if wanted is None else choices | {CHANNEL: wanted},
    )  # fmt: skip


def _notify_off(asked: Asked) -> Reply:
    _notify(asked, {"kinds": [], "severity": kinds.SEVERITIES[-1]})
    text = "No alert is sent to this chat any more, except price rules that name it"
    text += " and, as you are staff, critical ones" if asked.person.is_staff else ""
    return _said(f"{text}. /notify_on ends that; the inbox on the pages holds all.")


def _notify_on(asked: Asked) -> Reply:
    _notify(asked, None)
    return _said("This chat gets the alerts that you chose for all channels.")


def _ask_to_confirm(asked: Asked, target: str, *lines: str) -> Reply:
    code = codes.new_code(asked.person, ChatCode.STOP, target)
    minutes = int(codes.LIFETIME[ChatCode.STOP].total_seconds()) // 60
    text = (
        f"Press the button or send /confirm {code} within {minutes} minutes. Anything else changes nothing."
    )
    return Reply(Answer({}, (*lines, text)), (f"/confirm {code}",))


def _stop(asked: Asked) -> Reply:
    number = None
    if asked.argument:
        number = _whole(asked.argument, 0, "a deployment")
    rows = stopping.deployments_to_stop(asked.person, number)
    named = [f"#{row.pk} {row.agent.name}" for row in rows[: answers.ROWS]]
    rest = [f"and {len(rows) - answers.ROWS} more"] if len(rows) > answers.ROWS else []
    return _ask_to_confirm(
        asked, "" if number is None else str(number),
        f"Stop {', '.join(named + rest)}? No position is opened until you release the stop on the page My agents. "
        "Open positions keep their stop loss and target.",
    )  # fmt: skip


def _stop_platform(asked: Asked) -> Reply:
    stopping.check_platform(asked.person)
    return _ask_to_confirm(
        asked, stopping.PLATFORM,
        "Stop the whole platform? No position of any customer is opened until a member of staff releases the kill "
        "switch. Exits continue.",
    )  # fmt: skip


def _confirm(asked: Asked) -> Reply:
    row = codes.use_code(ChatCode.STOP, asked.argument, at=asked.at, user=asked.person)
    if row is None:
        raise Rejected("this code is wrong, used or has expired: send /stop again", code="wrong_code")
    by = f"{asked.person.get_username()} by Telegram"
    if row.target == stopping.PLATFORM:
        level = stopping.stop_platform(asked.person, by=by)
        return _said(f"The platform is stopped ({level}). A member of staff releases it on the page Stop.")
    done = stopping.stop_own(asked.person, by=by, number=int(row.target) if row.target else None)
    return _said(
        *(
            f"#{one.deployment} {one.agent}: "
            + (
                f"not stopped: {one.problem}"
                if one.problem
                else "stopped, no position is opened until you release it."
            )
            for one in done
        )
    )


def _read(answer: Callable[[Any], Answer]) -> Callable[[Asked], Reply]:
    return lambda asked: Reply(answer(asked.person))


_ALL = (
    Command("start", "/start", "connect this chat with the code of the page Settings, Chat", _start),
    Command("help", "/help", "this list", _help),
    Command("status", "/status", "equity, today, deployments, their stops", _read(answers.status), VIEW_POSITIONS),
    Command("profit", "/profit", "PnL of today, the last days and all time", _read(answers.profit), VIEW_POSITIONS),
    Command("positions", "/positions", "open positions, each with its post", _read(answers.positions), VIEW_POSITIONS),
    Command(
        "why", "/why 12, /why order 12, /why Momentum ETH", "the reason why it traded, or did not",
        lambda asked: Reply(answers.why(asked.person, asked.argument)), "signals_app.view_signal",
    ),
    Command(
        "trace", "/trace 12", "every step of a trade, from the post to the result",
        lambda asked: Reply(answers.trace(asked.person, asked.argument)), "events.view_event",
    ),
    Command("pnl", "/pnl 7", "results of the last days, one line each", _pnl, VIEW_POSITIONS),
    Command(
        "authors", "/authors, /authors cobie", "records of the accounts",
        lambda asked: Reply(answers.authors(asked.person, asked.argument)), "agents.view_ctaccount",
    ),
    Command("rules", "/rules", "your price rules", _read(answers.rules), "notify.view_pricerule"),
    Command(
        "mute", "/mute 8", "only critical messages for so many hours; 0 ends it",
        _mute, CHANGE_SETTINGS, changes=True,
    ),
    Command("notify_on", "/notify_on", "send notifications to this chat", _notify_on, CHANGE_SETTINGS, changes=True),
    Command("notify_off", "/notify_off", "send none to this chat", _notify_off, CHANGE_SETTINGS, changes=True),
    Command(
        "stop", "/stop, /stop 7", "stop your deployments, or one of them; asks for confirmation",
        _stop, stopping.PERMISSION, changes=True,
    ),
    Command(
        "stop platform", "/stop platform", "staff: stop the whole platform; asks for confirmation",
        _stop_platform, stopping.PERMISSION, staff_only=True, changes=True,
    ),
    Command("confirm", "/confirm CODE", "confirm a stop", _confirm, stopping.PERMISSION, changes=True),
)  # fmt: skip
COMMANDS = {one.name: one for one in _ALL}


def find(text: str) -> tuple[Command | None, str]:
    """Return the command that a text names, with the rest of the text; None where it names none."""
    word, _, rest = text.strip().partition(" ")
    if not word.startswith("/"):
        return None, text
    name, rest = word[1:].partition("@")[0].lower(), rest.strip()
    special = COMMANDS.get(f"{name} {rest.partition(' ')[0].lower()}")
    if special is not None:
        return special, rest.partition(" ")[2].strip()
    return COMMANDS.get(name), rest


def run(command: Command, asked: Asked) -> Reply:
    """Run a command. Raises Rejected where the role of the person does not allow it, and what the command raises."""
    if not command.may(asked.person):
        who = "staff with the permission" if command.staff_only else "the permission"
        raise Rejected(f"/{command.name} needs {who} {command.permission}", code="forbidden")
    return command.run(asked)


ROLES = ("stranger", "customer", "staff without permissions", "support", "operator", "superuser")


def may(role: str, command: Command) -> bool:
    """Return whether a role may use a command: support has the permissions to view, operators those to change too."""
    if role == "stranger":
        return False
    if not command.permission or role == "superuser":
        return True
    if role == "customer":
        return not command.staff_only
    action = command.permission.partition(".")[2].partition("_")[0]
    return action in {"support": ("view",), "operator": ("view", "change")}.get(role, ())


def matrix() -> str:
    """Return the table role × command of docs/chat.md."""
    head = ("command", "permission", "changes something", *ROLES)
    rows = [
        (
            f"`/{one.name}`",
            f"`{one.permission}`" if one.permission else "–",
            "yes" if one.changes else "no",
            *("yes" if may(role, one) else "no" for role in ROLES),
        )
        for one in _ALL
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))
