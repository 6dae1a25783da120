"""`manage.py twin list|show|compare|gate-test`: live deployments beside their paper twins."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from agents.models import Deployment
from maxxit.core.commands import OpsCommand, clock_text, count
from maxxit.core.money import brief, plain, usdc
from positions.twin import record, report
from positions.twin.models import TwinFill
from positions.twin.policy import policy
from positions.twin.report import TwinFigures

BY = {"deployment": "deployment", "venue": "venue", "token": "symbol"}


class Command(OpsCommand):
    help = (
        "Live deployments beside their paper twins: the same decisions at the quotes of those decisions. "
        "Positive differences: the live account did worse."
    )
    subcommands = {
        "list": "show the sums by deployment, venue or token",
        "show": "show the tests and the latest orders of one deployment",
        "compare": "compare now what has ended, as the job does each minute",
        "gate-test": "simulate trades with and without 20 bp of extra slippage; exit 1 where the alarm fails",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "list":
            parser.add_argument(
                "--by", choices=tuple(BY), default="deployment", help="rows of the list (default deployment)"
            )
        if action == "show":
            parser.add_argument("deployment", type=count, help="id of the deployment")
            parser.add_argument("--limit", type=count, default=20, help="orders at most (default 20)")
        if action == "gate-test":
            parser.add_argument("--runs", type=count, default=200, help="of each kind of noise (default 200)")
            parser.add_argument("--seed", type=count, default=1, help="of the noise (default 1)")

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action'].replace('-', '_')}")(options)

    def _list(self, options: dict[str, Any]) -> Any:
        figures = report.figures(BY[options["by"]])  # type: ignore[arg-type]  # one of its keys
        self.table(
            (options["by"], *HEADS),
            [(str(row.key), *_cells(row)) for row in figures],
        )
        alarms = report.alarms()
        on = {measure: number for measure, number in alarms.items() if number}
        drifting = ", ".join(f"{measure} of {number}" for measure, number in on.items())
        self.say(f"alarms on: {drifting or 'none'}", "ERROR" if on else "SUCCESS")
        return {"by": options["by"], "rows": [row.as_json() for row in figures], "alarms": alarms}

    def _show(self, options: dict[str, Any]) -> Any:
        pk = options["deployment"]
        deployment = Deployment.objects.select_related("agent").filter(pk=pk).first()
        if deployment is None:
            raise CommandError(f"no deployment {pk}: `manage.py portfolio` lists them")
        figures = report.figures(deployments=[pk])
        tests = report.drifts([pk]).get(pk, [])
        orders = report.newest(pk, options["limit"])
        self.say(f"{deployment} at {deployment.agent.venue}")
        if not orders:
            self.say("no order was compared yet: only orders at other venues than the paper exchange are")
        else:
            self.table(HEADS, [_cells(row) for row in figures])
            self.say()
            self.table(
                ("measure", "values", "noise", "mean of the run", "run", "alarm"),
                [
                    (
                        one.measure, str(one.count), _number(one.noise), f"{one.run_mean:.2f} {one.unit}",
                        str(one.run), "ON" if one.alarm else "",
                    )
                    for one in tests
                ],
            )  # fmt: skip
            self.say()
            self.table(
                (
                    "order",
                    "decided",
                    "",
                    "token",
                    "outcome",
                    "quote",
                    "live",
                    "twin",
                    "price bp",
                    "fee bp",
                    "latency s",
                ),
                [_order_cells(row) for row in orders],
            )
        return {
            "deployment": pk,
            "figures": figures[0].as_json() if figures else None,
            "tests": [one.as_json() for one in tests],
            "orders": [_order_json(row) for row in orders],
        }

    def _compare(self, options: dict[str, Any]) -> Any:
        done = record.compare_orders()
        self.say(f"{done} orders compared")
        return {"compared": done}

    def _gate_test(self, options: dict[str, Any]) -> Any:
        from positions.twin import simulate  # it needs numpy

        rule = policy().rule("price")
        measured = []
        for name, noise, scale in simulate.FORMS:
            measured.append(
                simulate.measure(name, noise, scale, rule, runs=options["runs"], seed=options["seed"])
            )
            self.say(f"{name}: done")
        within = simulate.WITHIN
        self.table(
            ("noise", f"found within {within}", "after 200 calm", "median", "false alarms", ""),
            [
                (
                    one.noise, f"{one.found} of {one.runs}", f"{one.found_later} of {one.runs}",
                    f"{one.median:.0f}", f"{one.false_alarms} in {one.calm_trades:,}", "" if one.ok else "FAILS",
                )
                for one in measured
            ],
        )  # fmt: skip
        ok = all(one.ok for one in measured)
        self.say(
            f"a shift of {rule.shift:g} bp is found within {within} trades" if ok else "the alarm fails",
            "SUCCESS" if ok else "ERROR",
        )
        if not ok:
            self.exit_code = 1
        return {
            "ok": ok,
            "shift_bps": rule.shift,
            "within": within,
            "noises": [one.as_json() for one in measured],
        }


HEADS = (
    "orders", "missed", "unknown", "price bp", "fee bp", "latency s", "trades", "pnl bp", "live PnL", "twin PnL",
)  # fmt: skip


def _cells(row: TwinFigures) -> tuple[str, ...]:
    return (
        str(row.orders), str(row.missed), str(row.unknown), _number(row.price_bps), _number(row.fee_bps),
        _number(row.latency_seconds), str(row.trades), _number(row.pnl_bps),
        f"{usdc(row.live_pnl):,.2f}", f"{usdc(row.twin_pnl):,.2f}",
    )  # fmt: skip


def _order_cells(row: TwinFill) -> tuple[str, ...]:
    return (
        str(row.order_id), clock_text(row.at), f"{row.purpose} {row.side}", row.symbol, row.outcome,
        brief(row.quote), brief(row.live_price) if row.live_price is not None else "", brief(row.twin_price),
        _number(row.price_bps), _number(row.excess_fee_bps), _number(row.live_seconds),
    )  # fmt: skip


def _order_json(row: TwinFill) -> dict[str, Any]:
    prices = (
        "ordered",
        "filled",
        "quote",
        "live_price",
        "twin_price",
        "live_fee",
        "twin_fee",
        "live_pnl",
        "twin_pnl",
    )
    plain_of = {name: None if getattr(row, name) is None else plain(getattr(row, name)) for name in prices}
    names = (
        "venue", "symbol", "purpose", "side", "outcome", "quote_from", "slippage_bps", "fee_bps", "price_bps",
        "excess_fee_bps", "live_seconds", "pnl_bps",
    )  # fmt: skip
    return (
        {"order": row.order_id, "at": row.at.isoformat()}
        | {name: getattr(row, name) for name in names}
        | plain_of
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
