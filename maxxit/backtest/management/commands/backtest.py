"""`manage.py backtest`: try settings on a tape in milliseconds, keep the runs, and check that it equals the replay."""

import logging
import sys
from argparse import ArgumentTypeError, BooleanOptionalAction
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.management.base import CommandParser

from maxxit.backtest.management import stored
from maxxit.core import clock
from maxxit.core.commands import OpsCommand, by_option, count, operator, whole
from maxxit.core.config import use_profile
from maxxit.core.errors import Misconfigured
from maxxit.embedded.scratch import scratch_database
from maxxit.replay.tape import Tape

if TYPE_CHECKING:
    from maxxit.backtest.run import Backtest
    from maxxit.backtest.saving import Asked, Result
    from maxxit.backtest.sweep import Sweep

T = TypeVar("T")
LONGEST_NOTE = 200


def change(text: str) -> tuple[str, str]:
    """argparse type: KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE, for example exits.signal.trailing_pct=2")
    return key.strip(), value.strip()


def note(text: str) -> str:
    """argparse type: a note of a stored run."""
    if len(text) > LONGEST_NOTE:
        raise ArgumentTypeError(f"it has {len(text)} characters; {LONGEST_NOTE} are allowed")
    return text


class Command(OpsCommand):
    help = (
        "Backtest settings on the tape of a replay. The decisions, sizes, fees and exits are those of the live system; "
        "what the fast path does not represent is refused by name."
    )
    epilog = (
        "examples:\n"
        "  manage.py replay --posts posts.jsonl --candles DIR --from 2017-12-01 --to 2017-12-31 --tape month.tape\n"
        "  manage.py backtest run --tape month.tape --set exits.signal.trailing_pct=2\n"
        "  manage.py backtest sweep --tape month.tape --vary exits.signal.trailing_pct=0.5..3..0.5\n"
        "  manage.py backtest list\n"
        "  manage.py backtest compare 7 8\n"
        "  manage.py backtest check equal --tape month.tape"
    )
    subcommands = {
        "run": "run one set of settings on a tape",
        "compare": "compare two stored runs, or two sets of settings on a tape: figures, trades, first difference",
        "sweep": "try many settings and say how good the best would be by luck",
        "optimise": "search for good settings with fewer tries than a sweep, from a seed",
        "walk-forward": "choose settings on some days and test them on the days after",
        "check": "check the backtest: equal (to the replay), lookahead, recursive, placebo",
        **stored.SUBCOMMANDS,
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in stored.SUBCOMMANDS:
            stored.options(parser, action)
            return
        parser.add_argument(
            "--profile", default="replay", help="folder of config/profiles to use (default: replay)"
        )
        parser.add_argument(
            "--set", dest="changes", type=change, action="append", default=[], metavar="KEY=VALUE",
            help="a setting that differs from the tape (repeat it for several)",
        )  # fmt: skip
        parser.add_argument(
            "--tape", type=Path, required=action not in ("check", "compare"), help="file of `replay --tape`"
        )
        if action in ("run", "sweep", "optimise", "walk-forward"):
            self._options_of_saving(parser)
        if action == "run":
            parser.add_argument("--trades", action="store_true", help="list the closed positions as well")
            parser.add_argument(
                "--seed", type=whole, default=1, help="of the Monte Carlo tests of the trades (default 1)"
            )
        elif action == "compare":
            parser.add_argument(
                "runs", nargs="*", type=count, metavar="RUN", help="two numbers of `list`, instead of --tape"
            )
            parser.add_argument(
                "--with", dest="others", type=change, action="append", default=[], metavar="KEY=VALUE",
                help="a setting of the second run",
            )  # fmt: skip
        elif action in ("sweep", "optimise", "walk-forward"):
            self._options_of_sweep(parser, action)
        elif action == "check":
            parser.add_argument(
                "what", choices=["equal", "lookahead", "recursive", "placebo"],
                help="equal: every closed position, to the replay · lookahead: indicators use no later bar · "
                "recursive: they do not drift with more warm-up · placebo: the same posts at other times",
            )  # fmt: skip
            parser.add_argument("--shifts", type=count, default=20, help="of a placebo (default 20)")
            parser.add_argument(
                "--seed", type=whole, default=1, help="of what is drawn at random (default 1)"
            )
            parser.add_argument("--data", type=Path, help="data folder with posts and candles (docs/data.md)")
            parser.add_argument("--posts", type=Path, help="JSON-lines file, where there is no tape")
            parser.add_argument("--candles", type=Path, help="folder of candle files, where there is no tape")
            parser.add_argument("--from", dest="start", default="", help="first day or moment, UTC")
            parser.add_argument("--to", dest="end", default="", help="last day (included) or moment, UTC")

    @staticmethod
    def _options_of_saving(parser: CommandParser) -> None:
        parser.add_argument(
            "--save", action=BooleanOptionalAction, default=None,
            help="store the run, and fail where it cannot be (default: store it where a database answers)",
        )  # fmt: skip
        parser.add_argument("--note", type=note, default="", help="to find the stored run by")
        by_option(parser)

    @staticmethod
    def _options_of_sweep(parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--vary", type=change, action="append", required=True, metavar="KEY=VALUES",
            help="1,2,3 or FIRST..LAST..STEP; repeat it for the combinations of several keys",
        )  # fmt: skip
        if action == "optimise":
            parser.add_argument(
                "--tries", type=count, default=200, help="settings tried at most (default 200)"
            )
        else:
            parser.add_argument(
                "--most",
                type=count,
                default=1000,
                help="settings tried at most, drawn at random (default 1000)",
            )
        parser.add_argument("--seed", type=whole, default=1, help="of what is drawn at random (default 1)")
        parser.add_argument("--processes", type=count, default=2, help="processes (default 2)")
        parser.add_argument("--top", type=count, default=10, help="settings shown (default 10)")
        if action == "walk-forward":
            parser.add_argument("--train-days", type=count, default=14, help="days to choose by (default 14)")
            parser.add_argument("--test-days", type=count, default=7, help="days to test on (default 7)")
            parser.add_argument("--embargo-days", type=whole, default=1, help="days between (default 1)")

    def run(self, **options: Any) -> Any:
        if options["action"] in stored.SUBCOMMANDS:
            return stored.run(self, options)
        use_profile(options["profile"])
        changes = dict(options["changes"])
        if options["action"] == "run":
            return self._run(options, changes)
        if options["action"] == "compare":
            return self._compare(options, changes)
        if options["action"] in ("sweep", "optimise"):
            return self._sweep(options)
        if options["action"] == "walk-forward":
            return self._walk_forward(options)
        if options["what"] == "equal":
            return self._check_equal(options, changes)
        return self._check_bias(options, changes)

    def _run(self, options: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
        from maxxit.backtest.figures import cautions, equity_curve, figures_of, trade_row
        from maxxit.backtest.models import Kind
        from maxxit.backtest.report import monte_carlo_of
        from maxxit.backtest.run import Backtest
        from maxxit.backtest.saving import result_of_run
        from maxxit.replay.tape import read

        backtest = Backtest(read(options["tape"]))
        asked = self._asked(options, Kind.RUN, seed=options["seed"])
        outcome = self._tried(options, backtest, asked, lambda: backtest.run(changes))
        curve = equity_curve(outcome, backtest.market)
        figures = figures_of(outcome, backtest.market, curve)
        drawn = monte_carlo_of(outcome, curve, options["seed"])
        notes = cautions(outcome, figures)
        self._show(figures.as_json())
        rows = [trade_row(one) for one in outcome.traded.closed] if options["trades"] else []
        if options["trades"]:
            self.say()
            stored.trade_table(self, rows)
        self.say()
        for text in [*notes, *stored.monte_carlo_texts(drawn)]:
            self.say(text)
        return {
            "tape": backtest.tape.digest,
            "changes": dict(changes),
            "figures": figures.as_json(),
            "notes": notes,
            "monte_carlo": drawn,
            **({"trades": rows} if options["trades"] else {}),
            "run": self._store(
                options, backtest, asked, lambda: result_of_run(outcome, curve, figures, drawn)
            ),
        }

    @staticmethod
    def _asked(given: Mapping[str, Any], kind: Any, **more: Any) -> "Asked":
        from maxxit.backtest.saving import Asked

        by, changes = operator(given["by"]), dict(given["changes"])
        return Asked(kind, changes, by, clock.now(), note=given["note"], **more)

    def _tried(
        self, options: Mapping[str, Any], backtest: "Backtest", asked: "Asked", work: Callable[[], T]
    ) -> T:
        """Return what `work` gives; where it is refused, the run is stored with the error."""
        try:
            return work()
        except Misconfigured as error:
            self._store(options, backtest, asked, None, str(error))
            raise

    def _store(
        self,
        options: Mapping[str, Any],
        backtest: "Backtest",
        asked: "Asked",
        result: "Callable[[], Result] | None",
        error: str = "",
    ) -> int | None:
        """Store a run and return its number; None where it is not stored. Raises Misconfigured where it must be."""
        from maxxit.backtest.saving import NotStored, store

        if options["save"] is False:
            return None
        try:
            run = store(backtest, asked, result() if result else None, error)
        except NotStored as why:
            if options["save"]:
                raise Misconfigured(f"the run is not stored: {why}") from None
            self.say(f"not stored: {why} (--no-save does not try)", "WARNING")
            return None
        self.say(f"stored as run {run.pk}")
        return int(run.pk)

    @contextmanager
    def _progress(self, total: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on stderr; the function takes how many settings were tried since the last call."""
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        from maxxit.core.terminal import Console

        console = Console(file=sys.stderr, highlight=False)
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=self.quiet, transient=True) as bar:
            task = bar.add_task("settings", total=total)
            yield lambda number: bar.advance(task, number)

    def _show(self, *runs: Mapping[str, Any]) -> None:
        stored.figure_table(self, *runs)

    def _compare(self, options: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
        from maxxit.backtest.equal import compare
        from maxxit.backtest.figures import figures_of
        from maxxit.backtest.run import Backtest
        from maxxit.backtest.trades import taped
        from maxxit.replay.tape import read

        if options["runs"]:
            if len(options["runs"]) != 2 or options["tape"]:
                raise Misconfigured(
                    "compare takes two numbers of stored runs, or --tape with --set and --with"
                )
            return stored.compare(self, *options["runs"])
        if not options["tape"]:
            raise Misconfigured(
                "give two numbers of `manage.py backtest list`, or --tape with --set and --with"
            )
        others = dict(options["others"])
        backtest = Backtest(read(options["tape"]))
        outcomes = [backtest.run(one) for one in (changes, others)]
        figures = [figures_of(one, backtest.market).as_json() for one in outcomes]
        self._show(*figures)
        first, second = ([taped(one) for one in outcome.traded.closed] for outcome in outcomes)
        compared = compare(first, second, ("first", "second"))
        self.say(
            f"{compared.equal} closed positions are equal, of {compared.replayed} and {compared.backtested}"
        )
        if compared.difference:
            self.say(f"first difference: {compared.difference}")
        return {
            "tape": backtest.tape.digest,
            "first": {"changes": dict(changes), "figures": figures[0]},
            "second": {"changes": dict(others), "figures": figures[1]},
            "equal": compared.equal,
            "first_difference": compared.difference,
        }

    def _swept(self, options: Mapping[str, Any], kind: Any, **more: Any) -> "tuple[Backtest, Asked, Sweep]":
        from maxxit.backtest.optimise import optimise
        from maxxit.backtest.run import Backtest
        from maxxit.backtest.sweep import grid, sweep_of, try_each, values_of
        from maxxit.replay.tape import read

        varied = {key: values_of(text) for key, text in options["vary"]}
        fixed, seed = dict(options["changes"]), options["seed"]
        backtest = Backtest(read(options["tape"]))
        most = options["tries"] if options["action"] == "optimise" else options["most"]
        asked = self._asked(
            options, kind, varied=dict(options["vary"]), seed=seed, options={"tries_at_most": most, **more}
        )

        def swept() -> "Sweep":
            if options["action"] == "optimise":
                with self._progress(most) as progress:
                    return optimise(
                        lambda some: try_each(backtest, some, options["processes"], progress),
                        varied, fixed, most, seed,
                    )  # fmt: skip
            settings = [{**fixed, **one} for one in grid(varied, most, seed)]
            with self._progress(len(settings)) as progress:
                return sweep_of(try_each(backtest, settings, options["processes"], progress))

        done = self._tried(options, backtest, asked, swept)
        for why, times in sorted(done.refused.items()):
            self.say(f"{times} refused: {why}", "WARNING")
        return backtest, asked, done

    def _sweep(self, options: Mapping[str, Any]) -> dict[str, Any]:
        from maxxit.backtest.models import Kind
        from maxxit.backtest.saving import result_of_sweep
        from maxxit.backtest.sweep import row_of

        backtest, asked, done = self._swept(options, Kind(options["action"]))
        best = done.tried[: options["top"]]
        self.table(
            ["setting", "closed", "net", "TWR", "max drawdown", "Sharpe"],
            [
                (
                    stored.settings(one.changes), one.figures.closed, f"{one.figures.net:.2f}",
                    *map(stored.shown, (one.figures.twr, one.figures.max_drawdown, one.figures.sharpe)),
                )
                for one in best
            ],
        )  # fmt: skip
        self.say()
        self.say(done.verdict())
        return {
            "tape": backtest.tape.digest,
            "tried": len(done.tried),
            "refused": done.refused,
            "days": done.days,
            "best_of_luck": done.luck,
            "deflated_sharpe": done.deflated,
            "verdict": done.verdict(),
            "best": [row_of(one) for one in best],
            "run": self._store(options, backtest, asked, lambda: result_of_sweep(done)),
        }

    def _walk_forward(self, options: Mapping[str, Any]) -> dict[str, Any]:
        from maxxit.backtest.models import Kind
        from maxxit.backtest.saving import result_of_walk_forward
        from maxxit.backtest.sweep import walk_forward

        days = {name: options[name] for name in ("train_days", "test_days", "embargo_days")}
        backtest, asked, done = self._swept(options, Kind.WALK_FORWARD, **days)
        found = self._tried(
            options, backtest, asked, lambda: walk_forward(done, backtest.tape.start, *days.values())
        )
        self.table(
            ["train from", "test from", "test to", "setting", "return before", "return after"],
            [
                (
                    f"{one.train_from:%Y-%m-%d}", f"{one.test_from:%Y-%m-%d}", f"{one.test_to:%Y-%m-%d}",
                    stored.settings(one.changes), f"{one.train_return:+.2%}", f"{one.test_return:+.2%}",
                )
                for one in found.windows
            ],
        )  # fmt: skip
        self.say()
        self.say(
            f"{found.tried} settings; the tests together: return {found.test_return:+.2%}, Sharpe ratio "
            f"{stored.shown(found.test_sharpe)} on {len(found.out_of_sample)} days"
        )
        return {
            "tape": backtest.tape.digest,
            "tried": found.tried,
            "windows": [vars(one) | {"changes": dict(one.changes)} for one in found.windows],
            "test_return": found.test_return,
            "test_sharpe": found.test_sharpe,
            "test_days": len(found.out_of_sample),
            "run": self._store(options, backtest, asked, lambda: result_of_walk_forward(found)),
        }

    def _check_bias(self, options: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
        from maxxit.backtest import bias
        from maxxit.backtest.market import moment_of
        from maxxit.backtest.run import Backtest
        from maxxit.replay.tape import read
        from signals_app.inputs import read_candles

        what = options["what"]
        options = {**options, "candles": options["candles"] or options["data"]}
        needed = ("tape",) if what == "placebo" else ("tape", "candles")
        if missing := [f"--{name}" for name in needed if not options[name]]:
            raise Misconfigured(f"check {what} needs {' and '.join(missing)}")
        tape = read(options["tape"])
        if what == "placebo":
            result = bias.placebo(Backtest(tape), options["shifts"], options["seed"], changes)
            self.say(
                f"net {result.real:.2f} USDC; the same posts at {len(result.shifted)} other times: "
                f"{result.shifted[0]:.2f} to {result.shifted[-1]:.2f} USDC"
            )
            self.say(f"the real result is above {result.percentile:.0f} % of them")
            return {"net": result.real, "shifted": result.shifted, "percentile": result.percentile}
        bars, _ = read_candles(options["candles"], moment_of(tape.start), moment_of(tape.end))
        drift: dict[str, float] = {}
        if what == "lookahead":
            found = bias.lookahead(tape, bars, options["seed"])
        else:
            found, drift = bias.recursive(tape, bars, options["seed"])
            self.table(["indicator", "drift"], [(name, f"{value:.2%}") for name, value in drift.items()])
        for problem in found.problems[:10]:
            self.say(problem, "ERROR")
        self.exit_code = 0 if found.passed else 1
        self.say(f"{found.looked_at} indicator snapshots, {len(found.problems)} problems")
        return {
            "check": what,
            "looked_at": found.looked_at,
            "problems": found.problems,
            **({"drift": drift} if drift else {}),
        }

    def _check_equal(self, options: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
        from maxxit.backtest.equal import compare
        from maxxit.backtest.run import Backtest
        from maxxit.backtest.trades import taped
        from maxxit.replay.tape import read

        tape = read(options["tape"]) if options["tape"] else self._replayed(options)
        backtest = Backtest(tape)
        outcome = backtest.run(changes)
        compared = compare(tape.closed, [taped(one) for one in outcome.traded.closed])
        stays = len(outcome.traded.open)
        nothing = not compared.replayed
        is_equal = not nothing and not compared.difference and stays == tape.open
        self.exit_code = 0 if is_equal else 1
        self.say(f"positions open at the end: replay {tape.open}, backtest {stays}")
        if is_equal:
            self.say(
                f"{compared.equal} of {compared.replayed} closed positions are equal in moment, reason, PnL and "
                "profit share"
            )
        elif nothing and not compared.difference:
            self.say(
                "the replay closed no position, so nothing was compared: replay more days, or other posts"
            )
        else:
            self.say(
                f"{compared.equal} of {compared.replayed} closed positions are equal; first difference: "
                f"{compared.difference or 'the number of open positions'}"
            )
        return {
            "tape": tape.digest,
            "equal": compared.equal,
            "replayed": compared.replayed,
            "backtested": compared.backtested,
            "open": [tape.open, stays],
            "first_difference": compared.difference,
        }

    def _replayed(self, options: Mapping[str, Any]) -> Tape:
        """Replay the files in a scratch database and return the tape."""
        from maxxit.replay.progress import ProgressBar
        from maxxit.replay.taping import Taped, record_tape
        from signals_app.inputs import of_data_folder

        options = of_data_folder(dict(options))
        given: Sequence[str] = ("posts", "candles", "start", "end")
        if missing := [name for name in given if not options[name]]:
            flags = {"start": "--from", "end": "--to"}
            names = ", ".join(flags.get(name, f"--{name}") for name in missing)
            raise Misconfigured(
                f"give --tape, or --data (or --posts and --candles), --from and --to; missing: {names}"
            )
        try:
            start, end = clock.day(options["start"]), clock.day(options["end"], after=True)
        except ValueError as error:
            raise Misconfigured(f"--from and --to take a date or an ISO time: {error}") from error
        if start >= end:
            raise Misconfigured(f"--from {options['start']} is not before --to {options['end']}")
        logging.disable(logging.WARNING)
        try:
            with scratch_database(), ProgressBar(start, end, quiet=self.quiet) as progress:
                return record_tape(Taped(options["posts"], options["candles"], start, end), progress)
        finally:
            logging.disable(logging.NOTSET)
