"""`manage.py replay`: run recorded posts and prices through the pipeline, in a scratch database."""

import json
import logging
import sys
from argparse import ArgumentParser
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from maxxit.core import clock
from maxxit.core.config import use_profile
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.terminal import Console
from maxxit.embedded.scratch import scratch_database
from maxxit.llm import prompts, versions
from maxxit.replay import report, rerun, tape, taping
from maxxit.replay.progress import ProgressBar
from maxxit.replay.run import Recorded, play, prepare
from maxxit.replay.taping import Taped
from positions.performance import roll_up
from signals_app.inputs import check_output, of_data_folder, wrong_input

REQUIRED = ("posts", "candles", "from", "to")
NAMES = {"from": "start", "to": "end"}


class Command(BaseCommand):
    help = (
        "Replay recorded posts and candles through the live pipeline with a recorded clock, in a scratch database. "
        "The agents are those of config/profiles/<profile>/agents.yaml. With --correlation-id or --start-ts: decide "
        "once more on what is stored of a trade, and compare."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--data",
            type=Path,
            help="data folder with posts and candles (docs/data.md), instead of the next two",
        )
        parser.add_argument("--posts", type=Path, help="JSON-lines file: id, username, created_at, text")
        parser.add_argument("--candles", type=Path, help="folder of candles-<SYMBOL>-USD-5m.csv[.gz] files")
        parser.add_argument("--from", dest="start", help="first day or moment, UTC (2017-12-01)")
        parser.add_argument("--to", dest="end", help="last day (included) or moment, UTC")
        stored = parser.add_argument_group(
            "what is stored",
            "exit code 0: each stage gives what is recorded; 1: the first difference is named",
        )
        stored.add_argument("--correlation-id", type=UUID, help="of a post or trade (`manage.py trades`)")
        stored.add_argument("--start-ts", help="first day or moment, UTC, at which a post was stored")
        stored.add_argument("--end-ts", help="last day (included) or moment, UTC (default: now)")
        parser.add_argument(
            *("--json", "--json-report"), action="store_true", help="print the summary as JSON, nothing else"
        )
        parser.add_argument(
            "--events-out", type=Path, help="write every event to this file, one JSON line each"
        )
        parser.add_argument(
            "--tape", type=Path, help="write a tape to this file, for `manage.py backtest` (docs/backtest.md)"
        )
        parser.add_argument(
            "--profile", default="replay", help="folder of config/profiles to use (default: replay)"
        )
        parser.add_argument(
            "--prompt",
            action="append",
            default=[],
            metavar="PURPOSE=VERSION",
            help="ask with this version of a prompt (`manage.py prompts list`) or this file instead of the "
            "configuration's file; repeatable",
        )
        parser.add_argument(
            "--keep", action="store_true", help="keep the replay's database and print where it is"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the replay. Exit code 2 with one line when an input or option is wrong, 1 when a step fails."""
        console = Console(file=sys.stderr if options["json"] else sys.stdout, highlight=False)
        try:
            if options["correlation_id"] or options["start_ts"]:
                self._rerun(options)
                return
            needed = REQUIRED[2:] if options["data"] else REQUIRED
            if missing := [f"--{name}" for name in needed if options[NAMES.get(name, name)] is None]:
                hint = "" if options["data"] else " (--data DATA instead of --posts and --candles)"
                raise Misconfigured(f"give {', '.join(missing)}, or --correlation-id, or --start-ts{hint}")
            use_profile(options["profile"])
            with wrong_input():
                check_output("--events-out", options["events_out"])
                check_output("--tape", options["tape"])
                recorded = self._recorded(options)
            given = _prompts(options["prompt"])
            logging.disable(logging.WARNING)  # the events have what the steps log
            with prompts.using(given), scratch_database(keep=options["keep"]) as where:
                figures = self._play(recorded, options, console)
            if options["keep"]:
                console.print(f"database kept in {where}")
        except (MaxxitError, OSError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures, indent=2))
        else:
            report.show(figures, recorded, console)

    def _rerun(self, options: dict[str, Any]) -> None:
        """Decide once more on what is stored. Ends with exit code 1 where a stage gives something else."""
        if options["correlation_id"]:
            ids = [options["correlation_id"]]
        else:
            start, end = _moments(options["start_ts"], options["end_ts"], "--start-ts", "--end-ts")
            ids = list(rerun.correlation_ids(start, end))
        counts, shown = Counter[str](), []
        for correlation_id in ids:
            for stage in rerun.rerun(correlation_id):
                told = "not decided again" if stage.equal is None else "equal" if stage.equal else "different"
                counts[told] += 1
                if options["correlation_id"] or told == "different":
                    shown.append({"correlation_id": str(correlation_id), **stage.as_json()})
        if options["json"]:
            self.stdout.write(json.dumps({"trades": len(ids), **counts, "stages": shown}, indent=2))
        else:
            for line in shown:
                result = line["difference"] or line["why"] or "equal"
                self.stdout.write(f"{line['stage']:9} {line['row']:16} {line['sha256'][:16]}  {result}")
            told = (
                ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing is stored"
            )
            self.stdout.write(f"{len(ids)} correlation id{'' if len(ids) == 1 else 's'}: {told}")
        if counts["different"] or not counts:
            sys.exit(1)

    def _recorded(self, options: dict[str, Any]) -> Recorded:
        start, end = _moments(options["start"], options["end"], "--from", "--to")
        given = of_data_folder(options)
        posts, candles = given["posts"], given["candles"]
        if not posts.is_file():
            raise Misconfigured(f"--posts {posts} is not a file")
        if not candles.is_dir():
            raise Misconfigured(f"--candles {candles} is not a folder")
        kind = Taped if options["tape"] else Recorded
        return kind(posts, candles, start, end)

    def _play(self, recorded: Recorded, options: dict[str, Any], console: Console) -> dict[str, Any]:
        with wrong_input():
            inputs = prepare(recorded)
        bars = sum(map(len, inputs.bars.values()))
        console.print(
            f"{len(inputs.posts):,} posts of {inputs.authors} authors, {bars:,} candles of "
            f"{len(inputs.bars)} tokens; {recorded.start:%Y-%m-%d %H:%M} to {recorded.end:%Y-%m-%d %H:%M} UTC"
        )
        with ProgressBar(recorded.start, recorded.end, quiet=options["json"]) as played:
            if isinstance(recorded, Taped):
                taping.play_taped(recorded, played)
                tape.write(recorded.finish(), options["tape"])
            else:
                play(recorded, played)
        roll_up.roll_up()
        return report.summary(recorded, report.write_events(options["events_out"]))


def _prompts(given: list[str]) -> dict[str, prompts.Prompt]:
    """Return purpose -> prompt of `PURPOSE=VERSION` options. Raises Misconfigured or Rejected for a wrong one."""
    found = {}
    for option in given:
        purpose, equals, name = option.partition("=")
        if not (equals and name):
            raise Misconfigured(f"--prompt {option}: give PURPOSE=VERSION, for example classify=careful-2")
        found[purpose] = versions.named(name, purpose)
    return found


def _moments(first: str, last: str | None, *names: str) -> tuple[datetime, datetime]:
    """Return [first, last], the last day included, until now where it is not given. Raises Misconfigured."""
    try:
        start, end = clock.day(first), clock.now() if last is None else clock.day(last, after=True)
    except ValueError as error:
        raise Misconfigured(f"{names[0]} and {names[1]} take a date or an ISO time: {error}") from error
    if start >= end:
        raise Misconfigured(f"{names[0]} {first} is not before {names[1]} {last or 'now'}")
    return start, end
