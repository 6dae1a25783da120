"""`manage.py billing list | show | run | pay | waive`: subscriptions, debts to the platform, and their payment."""

from typing import Any

from django.core.management.base import CommandParser

from agents.fee_terms import policy
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, by_option, confirm, count, operator
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO, plain
from trading import ledger
from trading.billing import debts, payments, subscriptions
from trading.billing.models import BillingEvent
from trading.billing.states import UNCHARGED
from trading.billing.terms import read_terms
from trading.deployments.describe import deployment_numbered
from trading.risk.limits_in_force import protective_limits


class Command(OpsCommand):
    help = "Show what deployments owe the platform, charge subscriptions, and book payments. Amounts are in USDC."
    subcommands = {
        "list": "every deployment that owes, since when, and every charge that is due or failed",
        "show": "one deployment: its fees in words, what it owes, its billing events",
        "run": "charge the months that have begun, as the scheduled job does",
        "pay": "book a payment of what a deployment owes, received outside its account",
        "waive": "never charge an event that is due or failed",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("show", "pay"):
            parser.add_argument("deployment", type=count, help="number; `manage.py portfolio` lists them")
        if action == "pay":
            parser.add_argument("amount", help="USDC, for example 12.50; at most what is owed")
            parser.add_argument(
                "--reference", required=True, help="of the transfer; a payment is booked once per reference"
            )
            parser.add_argument("--yes", action="store_true", help="book it without asking")
        if action == "waive":
            parser.add_argument("event", type=count, help="number; `manage.py billing list` shows them")
            parser.add_argument("--reason", required=True, help="why; recorded with the event")
        if action in ("pay", "waive"):
            by_option(parser)

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> Any:
        rule, now = policy().uncollected, clock.now()
        rows = debts.debts()
        owing = [debt.as_json() | {"uncollected": debts.is_uncollected(debt, rule, now)} for debt in rows]
        self.table(
            ("deployment", "account", "owner", "owed (USDC)", "since (UTC)", "alert"),
            [
                (
                    debt.deployment, debt.account, debt.owner, plain(debt.owed), debt.since,
                    "uncollected" if debts.is_uncollected(debt, rule, now) else "",
                )
                for debt in rows
            ],
        )  # fmt: skip
        total = sum((debt.owed for debt in rows), ZERO)
        self.say(
            f"owed: {plain(total)} USDC by {len(rows)} deployments; alert above {plain(rule.limit_usdc)} USDC "
            f"or after {rule.max_days} days"
        )
        uncharged = BillingEvent.objects.filter(state__in=UNCHARGED)
        events = self._events(uncharged.order_by("pk"))
        return {"debts": owing, "owed": plain(total), "uncharged": events}

    def _events(self, rows: Any) -> list[dict[str, Any]]:
        events = [_as_json(row) for row in rows]
        shown = ("amount", "status", "reason")
        if events:
            self.say()
            self.table(
                ("event", "deployment", "kind", "month from", "USDC", "state", "reason"),
                [
                    (
                        one["id"],
                        one["deployment"],
                        one["kind"],
                        one["from"][:10],
                        *(one[name] for name in shown),
                    )
                    for one in events
                ],
            )
        return events

    def _show(self, options: dict[str, Any]) -> Any:
        deployment = deployment_numbered(options["deployment"])
        words = read_terms([deployment.pk], protective_limits().fees)[deployment.pk].words()
        self.say(f"deployment {deployment.pk}, {deployment.agent.name} on {deployment.account}")
        for occasion, text in words.items():
            self.say(f"  {occasion}: {text}")
        found = debts.debts([deployment.pk])
        debt = found[0].as_json() if found else None
        self.say(f"owed: {debt['owed']} USDC since {debt['since']}" if debt else "owed: nothing")
        return {
            "deployment": deployment.pk,
            "account": deployment.account,
            "terms": words,
            "debt": debt,
            "events": self._events(deployment.billing_events.order_by("pk")),
        }

    def _run(self, options: dict[str, Any]) -> Any:
        billed = subscriptions.bill()
        alerts = debts.alert_uncollected()
        self.say(
            f"{billed.due} months are new, {billed.charged} charged, {billed.failed} failed; {alerts} alerts of debts",
            "ERROR" if billed.failed else "SUCCESS",
        )
        return {"due": billed.due, "charged": billed.charged, "failed": billed.failed, "alerts": alerts}

    def _pay(self, options: dict[str, Any]) -> Any:
        deployment, amount = (
            deployment_numbered(options["deployment"]),
            payments.parse_amount(options["amount"]),
        )
        question = (
            f"Book {plain(amount)} USDC from {options['reference']!r} as paid by deployment {deployment.pk} "
            f"({deployment.account}), which owes {plain(-ledger.owed(deployment.pk))} USDC?"
        )
        if not options["yes"] and not confirm(question):
            raise Rejected("nothing was booked: confirm with yes, or give --yes", code="not_confirmed")
        new = payments.pay(deployment.pk, amount, options["reference"], by=operator(options["by"]))
        owed = -ledger.owed(deployment.pk)
        booked = "booked" if new else "was booked before, nothing changed"
        self.say(
            f"{plain(amount)} USDC {booked}; deployment {deployment.pk} owes {plain(owed)} USDC", "SUCCESS"
        )
        return {"deployment": deployment.pk, "amount": plain(amount), "booked": new, "owed": plain(owed)}

    def _waive(self, options: dict[str, Any]) -> Any:
        event = subscriptions.waive(options["event"], by=operator(options["by"]), reason=options["reason"])
        self.say(f"{event}: {plain(event.amount)} USDC waived", "SUCCESS")
        return _as_json(event)


def _as_json(row: BillingEvent) -> dict[str, Any]:
    return {
        "id": row.pk,
        "deployment": row.deployment_id,
        "kind": row.kind,
        "from": iso_utc(row.period_start),
        "to": iso_utc(row.period_end),
        "amount": plain(row.amount),
        "status": row.state.upper(),
        "reason": row.reason,
        "journal": row.journal,
    }
