"""`manage.py replay`: run recorded posts and prices through the pipeline, in a scratch database."""

import json
import logging
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from maxxit.core import clock
from maxxit.core.config import use_profile
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.terminal import Console
from maxxit.embedded.scratch import scratch_database
from maxxit.replay import report, tape, taping
from maxxit.replay.progress import ProgressBar
from maxxit.replay.run import Recorded, play, prepare
from maxxit.replay.taping import Taped
from positions.performance import roll_up
from signals_app.inputs import check_output, wrong_input


class Command(BaseCommand):
    help = (
        "Replay recorded posts and candles through the live pipeline with a recorded clock, in a scratch database. "
        "The agents are those of config/profiles/<profile>/agents.yaml."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--posts", type=Path, required=True, help="JSON-lines file: id, username, created_at, text"
        )
        parser.add_argument(
            "--candles", type=Path, required=True, help="folder of candles-<SYMBOL>-USD-5m.csv[.gz] files"
        )
        parser.add_argument(
            "--from", dest="start", required=True, help="first day or moment, UTC (2017-12-01)"
        )
        parser.add_argument("--to", dest="end", required=True, help="last day (included) or moment, UTC")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON, nothing else")
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
            "--keep", action="store_true", help="keep the replay's database and print where it is"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the replay. Exit code 2 with one line when an input or option is wrong, 1 when a step fails."""
        console = Console(file=sys.stderr if options["json"] else sys.stdout, highlight=False)
        try:
            use_profile(options["profile"])
            with wrong_input():
                check_output("--events-out", options["events_out"])
                check_output("--tape", options["tape"])
                recorded = self._recorded(options)
            logging.disable(logging.WARNING)  # the events have what the steps log
            with scratch_database(keep=options["keep"]) as where:
                figures = self._play(recorded, options, console)
            if options["keep"]:
                console.print(f"database kept in {where}")
        except (MaxxitError, OSError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures, indent=2))
        else:
            report.show(figures, recorded, console)

    def _recorded(self, options: dict[str, Any]) -> Recorded:
        try:
            start, end = clock.day(options["start"]), clock.day(options["end"], after=True)
        except ValueError as error:
            raise Misconfigured(f"--from and --to take a date or an ISO time: {error}") from error
        if start >= end:
            raise Misconfigured(f"--from {options['start']} is not before --to {options['end']}")
        if not options["posts"].is_file():
            raise Misconfigured(f"--posts {options['posts']} is not a file")
        if not options["candles"].is_dir():
            raise Misconfigured(f"--candles {options['candles']} is not a folder")
        kind = Taped if options["tape"] else Recorded
        return kind(options["posts"], options["candles"], start, end)

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
