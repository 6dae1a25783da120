"""What `verify-venue` and `verify-alpaca` share: show accounts at venues, what their keys may do and their cash."""

from collections.abc import Sequence
from typing import Any

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.commands import OpsCommand
from maxxit.core.errors import MaxxitError
from trading.wiring import venue


class VerificationCommand(OpsCommand):
    """Verifies the accounts of deployments; the exit code is 1 if one may not trade."""

    def verify(self, names: Sequence[str], number: int | None) -> list[dict[str, Any]]:
        """Show the accounts of one deployment, or of all at these venues that are not revoked; return the answers."""
        rows = Deployment.objects.filter(agent__venue__in=names).select_related("agent").order_by("pk")
        rows = rows.filter(pk=number) if number else rows.exclude(state=DeploymentState.REVOKED)
        answers = [self._answer(row) for row in rows]
        if not answers:
            self.say(f"no deployment trades on {', '.join(names)}", "WARNING")
        return answers

    def _answer(self, deployment: Deployment) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "deployment": deployment.pk,
            "account": deployment.account,
            "may_trade": False,
        }
        try:
            answer |= venue(deployment.agent.venue).verify(deployment.account)
        except MaxxitError as error:
            answer["error"] = str(error)
        self._print(answer)
        if not answer["may_trade"]:
            self.exit_code = 1
        return answer

    def _print(self, answer: dict[str, Any]) -> None:
        name = f"deployment {answer['deployment']} ({answer['account']})"
        if "error" in answer:
            self.say(f"{name}: {answer['error']}", "ERROR")
            return
        colour = "SUCCESS" if answer["may_trade"] else "ERROR"
        self.say(f"{name}: {', '.join(answer['permissions'])}; {answer['cash']} USD in cash", colour)
        for note in answer["notes"]:
            self.say(f"  {note}")
