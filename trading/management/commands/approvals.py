"""`manage.py approvals`: list and show requests for changes that need a second person; refuse or withdraw one."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, by_option, clock_text, count, operator
from trading.models import ChangeRequest
from trading.operations import change_requests
from trading.operations.change_requests import PAGE
from trading.operations.changes import in_words


class Command(OpsCommand):
    help = (
        "List the changes that wait for a second person. They are approved on the page Change requests alone: a "
        "command line does not say who sits before it."
    )
    subcommands = {
        "list": "list the requests that wait; with --all the newest of every state",
        "show": "show one request: what changes from and to, who asked, why, who decided",
        "refuse": "refuse a request",
        "withdraw": "take a request back",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "list":
            parser.add_argument("--all", action="store_true", help="decided ones too")
            parser.add_argument("-n", type=count, default=50, help="requests at most (default 50)")
            return
        parser.add_argument("request", type=count, help="the number of the request, as in `list`")
        if action == "refuse":
            parser.add_argument("--reason", required=True, help="why; recorded with the request")
        if action != "show":
            by_option(parser)

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> Any:
        rows = (
            list(ChangeRequest.objects.all()[: options["n"]])
            if options["all"]
            else change_requests.open_requests()[: options["n"]]
        )
        self.table(
            ("request", "state", "what", "asked by", "until (UTC)", "decided by"),
            [
                (
                    row.pk, row.state, in_words(change_requests.lines_of(row)), row.asked_by,
                    clock_text(row.expires_at), row.decided_by,
                )
                for row in rows
            ],
        )  # fmt: skip
        return [change_requests.described(row) for row in rows]

    def _show(self, options: dict[str, Any]) -> Any:
        return self._shown(change_requests.find(options["request"]))

    def _refuse(self, options: dict[str, Any]) -> Any:
        by = operator(options["by"])
        return self._shown(change_requests.refuse(options["request"], by=by, reason=options["reason"]))

    def _withdraw(self, options: dict[str, Any]) -> Any:
        return self._shown(change_requests.withdraw(options["request"], by=operator(options["by"])))

    def _shown(self, row: ChangeRequest) -> Any:
        data = change_requests.described(row)
        self.say(f"request {row.pk} is {row.state}: {in_words(change_requests.lines_of(row))}")
        for name in (
            "reason",
            "asked_by",
            "asked_at",
            "expires_at",
            "decided_by",
            "decided_at",
            "decision",
            "sha256",
        ):
            if data[name]:
                self.say(f"{name.replace('_', ' ')}: {data[name]}")
        if row.state == "requested":
            step = "approve" if row.asked_user_id else "confirm, and another person to approve"
            self.say(f"a person who is logged in has to {step} it: {PAGE}", "WARNING")
        return data
