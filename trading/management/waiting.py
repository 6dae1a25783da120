"""What commands print of a change that waits for a second person."""

from typing import Any

from maxxit.core.commands import OpsCommand, clock_text
from trading.models import ChangeRequest
from trading.operations.change_requests import PAGE, described, lines_of
from trading.operations.changes import in_words


def said_that_it_waits(command: OpsCommand, row: ChangeRequest) -> dict[str, Any]:
    """Print that nothing changed yet and who has to do what; return the request for JSON."""
    command.say(
        f"nothing changed yet: request {row.pk} waits for people who are logged in. One confirms it, another approves "
        f"it on the page {PAGE} until {clock_text(row.expires_at)} UTC. {in_words(lines_of(row))}",
        "WARNING",
    )
    return {"change_request": described(row)}
