"""`manage.py exits on|off|status|run|watch`: pause or resume the exits, show the presets, or sweep by hand."""

import time
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, by_option, clock_text, duration, operator
from maxxit.core.money import plain
from positions.exits import pauses, sweep
from positions.models import Position
from trading.risk.policy import Exits, policy


class Command(OpsCommand):
    help = "Pause or resume the exits, show the presets, or sweep by hand. Times are UTC."
    subcommands = {
        "on": "resume: stops and targets close positions again, at once",
        "off": "pause stops, targets and time exits until `exits on --reason …`; flatten and manual closing go on",
        "status": "show whether exits are paused, open positions, and the presets of config/exits.yaml",
        "run": "run one sweep now, in this process",
        "watch": "run a sweep every --interval seconds until Ctrl-C",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("on", "off"):
            parser.add_argument("--reason", required=True, help="why; recorded with the change")
            by_option(parser)
        if action == "watch":
            parser.add_argument(
                "--interval", type=duration, default=60, help="seconds between sweeps (default 60)"
            )

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _on(self, options: dict[str, Any]) -> Any:
        changed = pauses.resume(by=operator(options["by"]), reason=options["reason"])
        self.say("exits are active again" if changed else "exits were not paused", "SUCCESS")
        return {"watched": True, "changed": changed}

    def _off(self, options: dict[str, Any]) -> Any:
        made = pauses.pause(by=operator(options["by"]), reason=options["reason"])
        self.say(
            f"exits are paused ({made.reason}); resume with `manage.py exits on --reason …`",
            "ERROR",
        )
        return {"watched": False, "id": made.pk}

    def _status(self, options: dict[str, Any]) -> Any:
        standing = pauses.current_pause()
        if standing:
            self.say(f"{standing}: {standing.reason}", "ERROR")
        else:
            self.say("exits are active", "SUCCESS")
        states = dict(
            Position.objects.exclude(state="closed").order_by().values_list("state").annotate(Count("pk"))
        )
        self.say(f"open {states.get('open', 0)}, closing {states.get('closing', 0)}")
        self.say()
        presets = {name: _words(rules) for name, rules in policy().exits.items()}
        self.table(
            ("preset", *next(iter(presets.values()))),
            [(name, *values.values()) for name, values in presets.items()],
        )
        return {"watched": standing is None, "positions": states, "presets": presets}

    def _run(self, options: dict[str, Any]) -> Any:
        leaving = sweep.sweep()
        self.say(f"{leaving} positions are closing")
        return {"leaving": leaving}

    def _watch(self, options: dict[str, Any]) -> Any:
        total = 0
        try:
            while True:
                total += (leaving := sweep.sweep())
                self.say(f"{clock_text(clock.now())}  {leaving} positions are closing")
                time.sleep(options["interval"])
        except KeyboardInterrupt:
            self.say()
        return {"leaving": total}


def _words(rules: Exits) -> dict[str, str]:
    """Return a preset's values as text with units."""
    values = rules.model_dump()
    minutes = values.pop("max_holding_minutes")
    return {
        name.removesuffix("_pct"): f"{plain(value)} %"
        if value
        else "signal's"
        if name[:4] in ("take", "stop")
        else ""
        for name, value in values.items()
    } | {"longest": f"{minutes} min"}
