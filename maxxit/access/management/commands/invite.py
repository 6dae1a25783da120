"""`manage.py invite`."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from maxxit.access import invitations, sign_up
from maxxit.core.commands import OpsCommand, by_option, clock_text, count, operator, time_ahead


class Command(OpsCommand):
    help = (
        "Create an invitation: a link with which one person creates an account. It works once and is shown once; only "
        "its hash is stored. The admin lists invitations and withdraws them."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--email", default="", help="whom it is for, for the list; nothing is sent there")
        parser.add_argument(
            "--days",
            type=count,
            default=invitations.DAYS,
            help=f"until it expires (default: {invitations.DAYS})",
        )
        by_option(parser)

    def run(self, **options: Any) -> Any:
        expires_at = time_ahead(days=options["days"])
        code, row = invitations.create(
            expires_at=expires_at, by=operator(options["by"]), email=options["email"][:254]
        )
        link = site() + invitations.path(code)
        self.say(f"{link}\nworks once, until {clock_text(expires_at)} UTC. It is not shown again.")
        if settings.SIGN_UP == sign_up.CLOSED:
            self.say("SIGN_UP=closed: nobody can use it until SIGN_UP is `invitation` or `open`", "WARNING")
        return {"id": row.pk, "link": link, "code": code, "email": row.email, "expires_at": expires_at}


def site() -> str:
    """Return the address under which the pages are reached: the first of ALLOWED_HOSTS, or this machine's."""
    if settings.PRODUCTION:
        return f"https://{settings.ALLOWED_HOSTS[0]}"
    return f"http://{settings.ENV.bind}:{settings.ENV.web_port}"
