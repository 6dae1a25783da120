"""manage.py models: train, judge, promote and retire forecasting models (docs/models.md)."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from time import process_time
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, by_option, count, operator, whole
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.learning import registry
from maxxit.learning.forecasters import DEFAULT, FORECASTERS
from maxxit.learning.models import TrainedModel, TrainingRun
from maxxit.learning.policy import policy
from maxxit.learning.states import ModelState


class Command(OpsCommand):
    help = "Train, judge, promote and retire the models that forecast volatility and direction."
    subcommands = {
        "list": "list models, the newest first",
        "show": "show one model with its metrics",
        "train": "fit a model to stored candles or files, judge it and store it as a candidate",
        "evaluate": "measure forecasters by walk-forward and print the skill table; nothing is stored",
        "promote": "move a model on towards serving, as far as its gates allow",
        "retire": "take a model out of use",
        "explain": "show the value and limit of each check of a model's gate, and what its forecasts are made of",
        "night": "train what this night still lacks, as the night trainer does",
        "runs": "list the trainings of the last nights, with the reasons of refused ones",
        "deploy": "retire models whose live skill is lost and move candidates on, as the morning deployer does",
        "forecast": "store the forecasts of the newest hour",
        "gate-test": "measure how often the gate promotes noise, and how often it finds what was planted",
    }
    epilog = """examples:
  manage.py models train --horizon 24
  manage.py models evaluate --candles ../shared/data
  manage.py models promote 3 --reason "checked with the desk"
  manage.py models gate-test --json"""

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("show", "promote", "retire", "explain"):
            parser.add_argument("model", type=count, help="its id")
        if action == "deploy":
            parser.add_argument("--dry-run", action="store_true", help="only say what each gate measures")
        if action == "runs":
            parser.add_argument("-n", type=count, default=20, help="how many (default 20)")
        if action == "list":
            parser.add_argument("--state", choices=list(ModelState), help="only models in this state")
            parser.add_argument("-n", type=count, default=20, help="how many (default 20)")
        if action in ("train", "evaluate"):
            parser.add_argument(
                "--candles", type=Path, help="folder of candle files (default: the stored candles)"
            )
            parser.add_argument("--seed", type=whole, help="of the bootstrap (default: config/models.yaml)")
        if action == "train":
            parser.add_argument(
                "--kind", choices=list(FORECASTERS), default=DEFAULT, help=f"default {DEFAULT}"
            )
            parser.add_argument("--horizon", type=count, default=24, help="hours (default 24)")
        if action == "evaluate":
            parser.add_argument(
                "--kind",
                choices=list(FORECASTERS),
                action="append",
                help="repeatable (default: all but ewma)",
            )
            parser.add_argument(
                "--horizon",
                type=count,
                action="append",
                help="hours, repeatable (default: config/models.yaml)",
            )
        if action in ("promote", "retire"):
            parser.add_argument(
                "--reason", required=action == "retire", default="", help="why, for the record"
            )
            by_option(parser)
        if action == "gate-test":
            parser.add_argument("--noise", type=count, default=100, help="random walks (default 100)")
            parser.add_argument("--planted", type=count, default=30, help="worlds with an edge (default 30)")
            parser.add_argument("--seed", type=whole, default=1, help="of the worlds (default 1)")

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action'].replace('-', '_')}")(options)

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        rows = TrainedModel.objects.all()
        if options["state"]:
            rows = rows.filter(state=options["state"])
        data = [_summary(row) for row in rows[: options["n"]]]
        heads = ("id", "kind", "purpose", "horizon_hours", "state", "data_to", "held_back_by")
        self.table(heads, [[row[name] for name in heads] for row in data])
        return data

    def _show(self, options: dict[str, Any]) -> dict[str, Any]:
        row = registry.named(options["model"])
        data = _summary(row) | {
            "symbols": row.symbols,
            "data_from": row.data_from,
            "data_sha256": row.data_sha256,
            "release": row.release,
            "seed": row.seed,
            "tried": row.tried,
            "approved_by": row.approved_by,
            "shadow_at": row.shadow_at,
            "served_at": row.served_at,
            "metrics": row.metrics,
            "checks": row.checks,
            "parameters": row.parameters,
        }
        for name, value in data.items():
            if name != "parameters":
                self.say(f"{name}: {value}")
        return data

    def _train(self, options: dict[str, Any]) -> dict[str, Any]:
        trained = registry.train(
            options["kind"], options["horizon"], _series(options["candles"]), _seed(options)
        )
        row = trained.model
        self.say(f"model {row.pk} ({row}) is a {row.state}{'' if trained.new else ' already'}", "SUCCESS")
        self._checks(row.checks)
        return _summary(row) | {"new": trained.new, "metrics": row.metrics, "checks": row.checks}

    def _evaluate(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        series, seed, rows = _series(options["candles"]), _seed(options), []
        kinds = options["kind"] or [name for name in FORECASTERS if name != "ewma"]
        for horizon in options["horizon"] or policy().train.horizons_hours:
            for kind in kinds:
                of = {"kind": kind, "horizon_hours": horizon}
                try:
                    rows.append(of | _measured(kind, series, horizon, seed))
                except (Rejected, Misconfigured) as refused:  # one that cannot be evaluated stops no other
                    rows.append(of | {"refused": str(refused)})
        for row in rows:
            self.say(_skill_line(row), "WARNING" if "refused" in row else "")
        self.exit_code = 1 if all("refused" in row for row in rows) else 0
        return rows

    def _promote(self, options: dict[str, Any]) -> dict[str, Any]:
        row = registry.named(options["model"])
        entered = registry.promote(row, by=operator(options["by"]), why=options["reason"])
        self.say(f"model {row.pk} ({row}): {' → '.join(entered)}", "SUCCESS")
        return _summary(row) | {"entered": entered}

    def _retire(self, options: dict[str, Any]) -> dict[str, Any]:
        row = registry.named(options["model"])
        registry.retire(row, by=operator(options["by"]), why=options["reason"])
        self.say(f"model {row.pk} ({row}) is retired", "SUCCESS")
        return _summary(row)

    def _explain(self, options: dict[str, Any]) -> dict[str, Any]:
        row = registry.named(options["model"])
        target, found = registry.next_step(row)
        checks = [check.as_json() for check in found.checks] if found else row.checks
        kinds = ("sensitivity", "coefficients", "weights", "selection")
        terms: dict[str, float] = next((row.parameters[one] for one in kinds if one in row.parameters), {})
        strongest = sorted(terms.items(), key=lambda term: -abs(term[1]))[:10]
        self.say(f"model {row.pk} ({row}) is {row.state}; next: {target or 'nothing'}")
        self._checks(checks)
        for name, weight in strongest:
            self.say(f"  {weight:+.4f}  {name}")
        return _summary(row) | {"next": target, "checks": checks, "terms": dict(strongest)}

    def _night(self, options: dict[str, Any]) -> dict[str, Any]:
        from maxxit.learning import night  # numpy

        done = night.run()
        self.say(f"night of {done.night}: {len(done.trained)} trained, {done.left} left for the next pass")
        for name, why in (done.refused | done.failed).items():
            self.say(f"  {name}: {why}", "WARNING")
        return asdict(done)

    def _runs(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        heads = ("night", "kind", "horizon_hours", "outcome", "attempts", "model", "reason")
        rows = [
            {name: getattr(run, "model_id" if name == "model" else name) for name in (*heads, "left_out")}
            for run in TrainingRun.objects.all()[: options["n"]]
        ]
        self.table(heads, [[row[name] for name in heads] for row in rows])
        return rows

    def _deploy(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        from maxxit.learning import morning  # numpy

        decisions = [decision.as_json() for decision in morning.deploy(dry_run=options["dry_run"])]
        for one in decisions:
            moved = " → ".join([one["state"], *one["entered"]])
            self.say(f"model {one['model']} ({one['name']}): {moved} {one['held_back']}".rstrip())
            if options["dry_run"]:
                self._checks(one["checks"])
        return decisions

    def _forecast(self, options: dict[str, Any]) -> dict[str, int]:
        from maxxit.learning import live  # numpy

        done = live.record_forecasts()
        self.say(
            f"{done['forecasts']} forecasts of {done['models']} models stored, {done['unusable']} unusable"
        )
        return done

    def _gate_test(self, options: dict[str, Any]) -> dict[str, Any]:
        from maxxit.learning import gate_test  # numpy

        started = process_time()
        result = gate_test.run(options["noise"], options["planted"], options["seed"])
        self.say(f"{result.noise_promoted} of {result.noise_worlds} random walks were promoted")
        self.say(f"{result.planted_promoted} of {result.planted_worlds} planted worlds were promoted")
        self.say(
            f"{result.volatility_passed} of {result.volatility_models} volatility models passed their gate, "
            f"{result.volatility_as_direction} of them that of direction models"
        )
        self.exit_code = 0 if result.holds else 1
        return asdict(result) | {"holds": result.holds, "cpu_seconds": round(process_time() - started, 1)}

    def _checks(self, checks: list[dict[str, Any]]) -> None:
        self.table(
            ("check", "value", "limit", "passed"),
            [(one["name"], one["value"], one["limit"], "yes" if one["passed"] else "no") for one in checks],
        )


def _series(folder: Path | None) -> Any:
    """Return the hours to train on. Raises Rejected where no candle is stored."""
    from maxxit.learning import sources  # numpy

    if folder is not None:
        return sources.from_files(folder)
    now = clock.now()
    found = sources.stored(sources.tradable(), now - timedelta(days=policy().train.history_days), now)
    if not found:
        raise Rejected(
            "no candles are stored: `manage.py backfill` reads them from a feed, or give --candles FOLDER",
            code="insufficient_history",
        )
    return found


def _measured(kind: str, series: Any, horizon: int, seed: int) -> dict[str, Any]:
    """Return the metrics of a forecaster as JSON. Raises Rejected where data or horizon do not suffice."""
    from maxxit.learning import evaluate  # numpy

    found: Any
    if FORECASTERS.open(kind).purpose == "direction":
        found = evaluate.direction(kind, evaluate.gather(series, horizon, step=horizon), seed=seed)
    else:
        found = evaluate.volatility(kind, evaluate.gather(series, horizon), seed=seed)
    return dict(found.model_dump(mode="json"))


def _seed(options: dict[str, Any]) -> int:
    seed = options["seed"]
    return policy().train.seed if seed is None else int(seed)


def _summary(row: TrainedModel) -> dict[str, Any]:
    return {
        "id": row.pk,
        "kind": row.kind,
        "purpose": row.purpose,
        "horizon_hours": row.horizon_hours,
        "state": row.state,
        "data_to": row.data_to,
        "created_at": row.created_at,
        "held_back_by": next((check["name"] for check in row.checks if not check["passed"]), ""),
    }


def _skill_line(row: dict[str, Any]) -> str:
    if "refused" in row:
        return f"{row['kind']:6} {row['horizon_hours']:>3} h  not evaluated: {row['refused']}"
    if row["purpose"] == "direction":
        return (
            f"{row['kind']:6} {row['horizon_hours']:>3} h  direction: location skill {row['location_skill']:.2e} "
            f"(from {row['location_low']:.2e}), deflated Sharpe ratio {row['deflated_sharpe']:.2f}, "
            f"{row['trades']} trades, {row['total_return'] * 100:+.1f} % after costs"
        )
    low, high = min(row["coverage_80"]), max(row["coverage_80"])
    return (
        f"{row['kind']:6} {row['horizon_hours']:>3} h  skill over {row['baseline']} {row['skill_pct']:+.2f} % "
        f"({row['skill_low_pct']:+.2f} to {row['skill_high_pct']:+.2f}), QLIKE {row['qlike']:.3f}, "
        f"80 % coverage {low:.2f} to {high:.2f}"
    )
