"""`manage.py comparisons list|start|show|stop|run`: a second reader beside the one in use."""

from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, by_option, decimal_number, operator
from maxxit.llm import export
from signals_app import comparison, experiments, shadow, shadow_reading
from signals_app.models import Comparison


class Command(OpsCommand):
    help = "Let a second provider or prompt read a share of the posts, and compare it with the reader in use."
    subcommands = {
        "list": "list the comparisons, the newest first",
        "start": "let a second reader read a share of the posts from now on; it acts on nothing",
        "show": "compare: agreement, calls, failures, cost, latency, and what became of the calls",
        "stop": "end a comparison; what it read stays",
        "run": "read now what is due, as the job `shadow` does",
    }
    epilog = """examples:
  manage.py comparisons start haiku --provider anthropic --share 0.1
  manage.py comparisons start careful --provider openai --prompt careful-2 --share 0.1
  manage.py comparisons show haiku
  manage.py comparisons show haiku --export langfuse"""

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("start", "show", "stop"):
            parser.add_argument("name", help="of the comparison")
        if action == "start":
            parser.add_argument("--provider", required=True, help="of config/llm.yaml")
            parser.add_argument(
                "--prompt", default="", help="version of the prompt (default: the active one)"
            )
            parser.add_argument(
                "--share",
                type=decimal_number,
                default=Decimal("0.1"),
                help="fraction of the posts (default 0.1)",
            )
        if action == "show":
            parser.add_argument(
                "--export",
                default="",
                metavar="EXPORTER",
                help="send it there, too (exporters of config/llm.yaml)",
            )
        if action in ("start", "stop"):
            by_option(parser)

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        data = [comparison.summary(row) for row in Comparison.objects.all()]
        heads = ("name", "provider", "prompt", "share", "started_at", "started_by", "ended_at")
        self.table(heads, [[row[name] for name in heads] for row in data])
        return data

    def _start(self, options: dict[str, Any]) -> dict[str, Any]:
        row = shadow.start(
            options["name"], provider=options["provider"], prompt=options["prompt"], share=options["share"],
            by=operator(options["by"]),
        )  # fmt: skip
        self.say(
            f"{row.name} reads from the next post on; `manage.py comparisons show {row.name}` compares",
            "SUCCESS",
        )
        return comparison.summary(row)

    def _show(self, options: dict[str, Any]) -> dict[str, Any]:
        row = shadow.named(options["name"])
        exporter = export.exporter_of(options["export"]) if options["export"] else None
        data = comparison.as_json(row, comparison.compare(row))
        self.rows(
            {
                name: value
                for name, value in data.items()
                if name not in ("differing", "outcomes", "agreement")
            }
        )
        self.say(f"Cohen's kappa {data['agreement']['kappa']} {data['agreement']['kappa_95'] or ''}".rstrip())
        heads = ("calls", "known", "right", "mean_pct")
        self.table(
            ("called by", *heads),
            [(name, *(one[key] for key in heads)) for name, one in data["outcomes"].items()],
        )
        for one in data["differing"]:
            self.say(f"{one['post_id']}: active {one['active']}, second {one['second']}: {one['text'][:160]}")
        if exporter:
            sent = export.export_experiment(exporter, experiments.of_comparison(row, clock.now()))
            self.say(f"{sent} posts sent to {options['export']}", "SUCCESS")
            data["exported"] = sent
        return data

    def _stop(self, options: dict[str, Any]) -> dict[str, Any]:
        row = shadow.named(options["name"])
        shadow.stop(row, by=operator(options["by"]))
        self.say(f"{row.name} has ended", "SUCCESS")
        row.refresh_from_db()
        return comparison.summary(row)

    def _run(self, options: dict[str, Any]) -> dict[str, int]:
        stored = shadow_reading.read_shadows()
        self.say(f"{stored} readings stored")
        return {"stored": stored}
