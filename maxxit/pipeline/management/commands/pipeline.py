"""`manage.py pipeline run | stage NAME | runs`."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, by_option, count, operator
from maxxit.pipeline.models import PipelineRun
from maxxit.pipeline.stages import SWEEPS
from maxxit.pipeline.start import start_pipeline, start_stage


class Command(OpsCommand):
    help = "Run the whole pipeline or one stage now, through the workers, or list the last runs."
    subcommands = {
        "run": "start a pipeline run now: ingest → classify → generate → execute → monitor",
        "stage": "send one pass of a stage to its queue now",
        "runs": "list the last runs with the counts of each stage; times are UTC",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "stage":
            parser.add_argument("name", choices=[stage.name for stage in SWEEPS], help="which stage")
        if action == "runs":
            parser.add_argument("-n", type=count, default=10, help="how many (default 10)")
        else:
            by_option(parser)

    def run(self, **options: Any) -> Any:
        if options["action"] == "runs":
            return self._runs(options["n"])
        by = operator(options["by"])
        if options["action"] == "stage":
            task_id = start_stage(options["name"], by=by)
            self.say(f"stage {options['name']} started: {settings.FLOWER_URL}/task/{task_id}")
            return {"stage": options["name"], "task_id": task_id}
        run = start_pipeline("command", by=by)
        self.say(f"run {run.pk} started: {settings.FLOWER_URL}/task/{run.root_task_id}")
        return {"run_id": run.pk, "root_task_id": run.root_task_id}

    def _runs(self, count: int) -> Any:
        runs = PipelineRun.objects.prefetch_related("stages")[:count]
        listed = []
        for run in runs:
            stages = sorted(run.stages.all(), key=lambda stage_run: stage_run.pk)
            counts = ", ".join(f"{row.stage} {row.counted_in}→{row.counted_out}" for row in stages)
            state = f"failed: {run.error}" if run.error else "done" if run.finished_at else "running"
            self.say(f"{run.pk}  {iso_utc(run.started_at)}  {run.cause}  {state}  {counts}")
            listed.append(
                {
                    "id": run.pk,
                    "cause": run.cause,
                    "started_at": iso_utc(run.started_at),
                    "finished_at": iso_utc(run.finished_at) if run.finished_at else None,
                    "error": run.error,
                    "stages": [
                        {
                            "stage": row.stage,
                            "in": row.counted_in,
                            "out": row.counted_out,
                            "ms": row.duration_ms,
                        }
                        for row in stages
                    ],
                }
            )
        if not listed:
            self.say("no runs yet: `manage.py pipeline run` starts one")
        return {"runs": listed}
