"""`manage.py evaluate-classifier --labelled FILE --posts FILE`: how well the configured reader reads.

Nothing is written: no trace and no budget of the live system, whoever reads.

Exit codes: 0 done and every floor held, 1 a floor (--min-…) was missed, 2 a file, a label or the provider is wrong.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from maxxit.core import correlation
from maxxit.core.commands import count
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.llm.ask import Asked, ask
from maxxit.llm.chain import open_provider
from maxxit.llm.policy import policy
from maxxit.market.instruments import words_by_token
from signals_app.authors import record as records
from signals_app.inputs import check_output
from signals_app.plotting import new_figure, require_matplotlib
from signals_app.reading import evaluation
from signals_app.reading.evaluation import Figures, Judged, Label
from signals_app.reading.rules.read import VERSION
from signals_app.reading.schema import Post, Reading, Readings, question
from signals_app.sources.jsonl import JsonlSource


@dataclass
class Cost:
    """What the calls of a model took: nothing for the rules."""

    calls: int = 0
    latency_ms: int = 0
    usd: Decimal = Decimal(0)
    providers: set[str] = field(default_factory=set)

    def add(self, asked: Asked[Readings]) -> None:
        self.calls += 1
        self.latency_ms += asked.latency_ms
        self.usd += asked.cost_usd
        self.providers.add(f"{asked.provider} {asked.model}")


class Command(BaseCommand):
    help = "Measure the classifier on labelled posts: precision, recall, sides, calibration, latency, cost."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the files, the reader and the floors."""
        parser.add_argument("--labelled", type=Path, required=True, help="CSV: id,username,label,token,side")
        parser.add_argument(
            "--posts", type=Path, required=True, help="JSON lines: id, username, created_at, text"
        )
        parser.add_argument(
            "--provider",
            default="rules",
            help="rules (the default: in this process, no key or profile needed), a name of config/llm.yaml, or chain "
            "for the providers that classify is configured with; whoever reads, no database is needed",
        )
        parser.add_argument(
            "--candles",
            type=Path,
            help="folder of candles-<SYMBOL>-USD-5m.csv[.gz]: targets are compared with the price when a post was "
            "written; without it a target alone is no call",
        )
        parser.add_argument("--half", choices=["all", *evaluation.HALVES], default="all")
        parser.add_argument("--batch", type=count, default=25, help="posts per call (25)")
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--plot", type=Path, help="write the calibration plot there (PNG)")
        parser.add_argument("--errors", type=int, default=20, help="how many errors to list (20)")
        parser.add_argument("--min-precision", type=float, default=0.0, help="of candidate; exit 1 below")
        parser.add_argument("--min-recall", type=float, default=0.0)
        parser.add_argument("--min-side-accuracy", type=float, default=0.0)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            check_output("--plot", options["plot"])
            if options["plot"]:
                require_matplotlib()
            labels = [
                label
                for label in evaluation.read_labels(options["labelled"])
                if options["half"] in {"all", evaluation.half(label.post_id)}
            ]
            posts = self._posts(options, {label.post_id for label in labels})
            missing = [label.post_id for label in labels if label.post_id not in posts]
            if missing or not labels:
                raise Misconfigured(
                    f"{options['posts']} lacks {len(missing)} of {len(labels)} posts: {missing[:3]}"
                )
            started = perf_counter()
            judged, cost = self._read(labels, posts, options["provider"], options["batch"])
        except (MaxxitError, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        figures = evaluation.judge(judged)
        told = self._told(figures, cost, perf_counter() - started)
        if options["plot"]:
            _plot(figures, options["plot"])
        if options["json"]:
            self.stdout.write(json.dumps(told | {"errors": figures.errors[: options["errors"]]}, indent=1))
        else:
            self._report(told, figures, options["errors"])
        self._floors(figures, options)

    def _posts(self, options: dict[str, Any], wanted: set[str]) -> dict[str, Post]:
        """The labelled posts by id, with prices where candles are given."""
        if not options["candles"]:
            texts = evaluation.read_texts(options["posts"], wanted)
            return {post_id: Post(post_id, "", text) for post_id, text in texts.items()}
        series = records.series_of(options["candles"])
        posts, _ = JsonlSource([str(options["posts"])]).everything()
        labelled = records.once(one for one in posts if one.post_id in wanted and not one.deleted)
        return {one.post_id: one for one in records.as_asked(labelled, series)}

    def _read(
        self, labels: Sequence[Label], posts: dict[str, Post], name: str, size: int
    ) -> tuple[list[Judged], Cost]:
        """Every label with its reading, and what the calls took."""
        cost = Cost()
        if name == "rules":
            readings = {one.post_id: one for one in records.read_by_rules(posts.values())}
            return [_judged(label, posts, readings) for label in labels], cost
        provider = None if name == "chain" else open_provider(name, policy().provider(name))
        judged = []
        for place in range(0, len(labels), size):
            batch = labels[place : place + size]
            asked = ask(
                purpose="classify",
                data=question((posts[one.post_id] for one in batch), words_by_token()),
                schema=Readings,
                correlation_ids=[correlation.derive_id("evaluation", one.post_id) for one in batch],
                provider=provider,
                keep=False,
            )
            cost.add(asked)
            readings = {reading.post_id: reading for reading in asked.answer.readings}
            judged += [_judged(one, posts, readings) for one in batch]
        return judged, cost

    def _told(self, figures: Figures, cost: Cost, seconds: float) -> dict[str, Any]:
        accuracy = figures.side_accuracy
        return {
            "posts": figures.posts,
            "provider": sorted(cost.providers) or [f"rules {VERSION}"],
            "classes": {name: counts.as_json() for name, counts in figures.classes.items()},
            "side_accuracy": None if accuracy is None else round(accuracy, 4),
            "confusion": figures.confusion,
            "calibration": figures.calibration,
            "calls": cost.calls,
            "seconds": round(seconds, 3),
            "latency_ms_per_call": round(cost.latency_ms / cost.calls, 1) if cost.calls else None,
            "cost_usd": f"{cost.usd:f}",
        }

    def _report(self, told: dict[str, Any], figures: Figures, errors: int) -> None:
        say = self.stdout.write
        say(f"{told['posts']} posts read by {', '.join(told['provider'])}")
        say(f"{'class':10} {'precision':>9} {'recall':>7} {'f1':>7} {'found':>6} {'false':>6} {'missed':>7}")
        for name, one in told["classes"].items():
            shares = " ".join(
                f"{'-' if one[key] is None else f'{one[key]:.3f}':>7}" for key in ("recall", "f1")
            )
            precision = "-" if one["precision"] is None else f"{one['precision']:.3f}"
            say(f"{name:10} {precision:>9} {shares} {one['found']:>6} {one['false']:>6} {one['missed']:>7}")
        say(f"side accuracy among found: {told['side_accuracy']}")
        say(f"confusion (label -> reading): {json.dumps(told['confusion'])}")
        for one in told["calibration"]:
            say(
                f"confidence >= {one['from']:.1f}: {one['calls']} calls, sure {one['confidence']}, right {one['right']}"
            )
        per_call = told["latency_ms_per_call"]
        say(f"{told['calls']} calls, {told['seconds']} s, {per_call} ms a call, {told['cost_usd']} USD")
        for error in figures.errors[:errors]:
            say(
                f"\n{error['kind']}: {error['post_id']} {error['username']} label {error['label']} read {error['read']}"
            )
            say(f"  {' '.join(error['text'].split())}\n  {error['reasoning']}")

    def _floors(self, figures: Figures, options: dict[str, Any]) -> None:
        candidate = figures.classes["candidate"]
        held = {
            "precision": (candidate.precision, options["min_precision"]),
            "recall": (candidate.recall, options["min_recall"]),
            "side accuracy": (figures.side_accuracy, options["min_side_accuracy"]),
        }
        missed = [
            f"{name} {value or 0:.3f} < {floor}"
            for name, (value, floor) in held.items()
            if (value or 0.0) < floor
        ]
        if missed:
            raise CommandError("; ".join(missed), returncode=1)


def _judged(label: Label, posts: Mapping[str, Post], readings: Mapping[str, Reading]) -> Judged:
    return Judged(label, posts[label.post_id].text, readings.get(label.post_id) or _silence(label.post_id))


def _silence(post_id: str) -> Reading:
    """What a reader says of a post that it left out."""
    return Reading(
        post_id=post_id,
        candidate=False,
        tokens=(),
        sentiment="neutral",
        confidence=Decimal(0),
        reasoning="left out",
    )


def _plot(figures: Figures, path: Path) -> None:
    """Confidence against the fraction that was right; the size of a dot is the number of calls."""
    picture = new_figure(5, 5)
    axes = picture.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="as sure as right")
    for one in figures.calibration:
        axes.scatter(one["confidence"], one["right"], s=20 + 10 * one["calls"], color="tab:blue")
        axes.annotate(
            f"{one['calls']:.0f}",
            (one["confidence"], one["right"]),
            textcoords="offset points",
            xytext=(6, 6),
        )
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.05),
        xlabel="confidence",
        ylabel="fraction right",
        title="Calls: how sure, how right",
    )
    axes.legend(loc="lower right")
    picture.savefig(path, format="png", dpi=120)
