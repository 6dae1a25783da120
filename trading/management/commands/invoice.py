"""`manage.py invoice DEPLOYMENT --month 2026-11`: what a deployment was charged, paid and owes, by the ledger."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, count
from maxxit.core.money import plain
from trading.billing.invoice import Invoice, invoice, parse_month
from trading.deployments.describe import deployment_numbered


class Command(OpsCommand):
    help = "Print a deployment's invoice for one month: fees and profit shares, collected, paid and owed, in USDC."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("deployment", type=count, help="number; `manage.py portfolio` lists them")
        parser.add_argument("--month", help="as 2026-11, in UTC (default: this month)")
        parser.add_argument(
            "--chain",
            action="store_true",
            help="of a Safe: read the module's events from the nodes instead of the stored receipts; exit code 1 where "
            "ledger and chain differ",
        )

    def run(self, **options: Any) -> Any:
        deployment = deployment_numbered(options["deployment"])
        month = parse_month(options["month"] or f"{clock.now():%Y-%m}")
        bill = invoice(deployment, month, live=options["chain"])
        self._print(bill)
        self.exit_code = int(bool(bill.chain and bill.chain.differences))
        return bill.as_json()

    def _print(self, bill: Invoice) -> None:
        kind = "invoice" if bill.final else "preliminary invoice"
        deployment = bill.deployment
        self.say(
            f"{kind} {bill.number}: {deployment.agent.name} on {deployment.account}, {bill.start:%B %Y} (UTC)"
        )
        for occasion, words in bill.terms.items():
            self.say(f"  {occasion}: {words}")
        self.table(
            ("charge", "quantity", "owed (USDC)", "collected (USDC)", "amount (USDC)"),
            [
                (line.label, line.quantity, plain(line.charged), plain(line.collected), plain(line.amount))
                for line in bill.lines
            ],
        )
        for payment in bill.payments:
            self.say(f"paid {payment.at:%Y-%m-%d}: {plain(payment.amount)} USDC, {payment.reference}")
        self.say(
            f"opening debt {plain(bill.opening)} + charged {plain(bill.charged)} - paid {plain(bill.paid)} = "
            f"owed {plain(bill.closing)} USDC; collected by the venue: {plain(bill.collected)} USDC"
        )
        if bill.chain and not bill.chain.differences:
            where = "the chain" if bill.chain.source == "chain" else "the receipts of its transactions"
            self.say(f"ledger and {where} agree to the unit", "SUCCESS")
        for difference in bill.chain.differences if bill.chain else ():
            self.say(difference, "ERROR")
