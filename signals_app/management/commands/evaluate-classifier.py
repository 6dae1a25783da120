"""`manage.py evaluate-classifier`: precision and recall of a reader on labelled posts, of files or of a labelled set.

Nothing is written here: no model call is stored, and none counts against the live system's budget. `--export` sends the
results to Langfuse or an OpenTelemetry collector.

Exit codes: 0 all floors (--min-…) and the gate (--gate) held, 1 one was missed, 2 a file, a label, the provider or
the export is wrong.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from maxxit.core import clock, correlation
from maxxit.core.commands import count, fraction, whole
from maxxit.core.errors import Misconfigured
from maxxit.learning import gates
from maxxit.llm import export, prompts, versions
from maxxit.llm.ask import Asked, ask
from maxxit.llm.exporters.experiment import Experiment
from maxxit.llm.fallback import open_provider
from maxxit.llm.policy import policy
from maxxit.market.instruments import words_by_token
from signals_app import experiments
from signals_app.authors import record as records
from signals_app.inputs import check_output, wrong_input
from signals_app.labels import sets
from signals_app.plotting import new_figure, require_matplotlib
from signals_app.reading import evaluation
from signals_app.reading.evaluation import Figures, Judged, Label
from signals_app.reading.language import detect
from signals_app.reading.rules.read import GRAMMARS, VERSION
from signals_app.reading.schema import Post, Reading, Readings, question
from signals_app.reading.trained import model as trained
from signals_app.sources.jsonl import JsonlSource


@dataclass
class Cost:
    """Calls, latency and cost of the model; zero for the lexical reader."""

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
        parser.add_argument("--labelled", type=Path, help="CSV: id,username,label,token,side")
        parser.add_argument("--posts", type=Path, help="JSON lines: id, username, created_at, text")
        parser.add_argument(
            "--set", help="a labelled set of the database (`manage.py labels list`), instead of the two files"
        )
        parser.add_argument(
            "--provider",
            default="rules",
            help="rules (the lexical reader, default: no key or profile needed) or one of its versions "
            f"({', '.join(GRAMMARS)}), a trained reader ({', '.join(trained.SHIPPED)}, or a file that `readers train` "
            "wrote), a provider of config/llm.yaml, or chain for the configured fallback order of classify; none needs "
            "a database",
        )
        parser.add_argument(
            "--prompt",
            help="prompt for a model, instead of config/prompts/classify.md: a file, or the name of a stored version "
            "(`prompts list`), which needs the database",
        )
        parser.add_argument(
            "--against",
            help="another reader, as --provider: compared on the same posts, with the interval of the difference",
        )
        parser.add_argument("--against-prompt", help="prompt of the other reader, as --prompt")
        parser.add_argument(
            "--gate",
            action="store_true",
            help="exit code 1 where the gate of readers refuses (docs/models.md)",
        )
        parser.add_argument(
            "--candles",
            type=Path,
            help="folder of candles-<SYMBOL>-USD-5m.csv[.gz]: targets are compared with the price when a post was "
            "written; without it a target alone is no call",
        )
        parser.add_argument(
            "--half",
            choices=["all", *evaluation.HALVES],
            default="all",
            help="only the posts of this half (default all)",
        )
        parser.add_argument(
            "--language",
            help="only posts in this language, as `signals_app.reading.language` finds it: en, es, tr, zh, …; "
            "und where it finds none",
        )
        parser.add_argument("--batch", type=count, default=25, help="posts per call (default 25)")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON, nothing else")
        parser.add_argument("--plot", type=Path, help="write the calibration plot there (PNG)")
        parser.add_argument("--errors", type=whole, default=20, help="how many errors to list (default 20)")
        parser.add_argument(
            "--export",
            default="",
            metavar="EXPORTER",
            help="send posts, labels, readings and figures there, too: an exporter of config/llm.yaml, as "
            "langfuse (a data set, an experiment and scores) or otlp (logs)",
        )
        parser.add_argument(
            "--export-as",
            default="",
            metavar="NAME",
            help="name of the data set (default: the set's, or the file's)",
        )
        for name, of in (
            ("precision", "of calls"),
            ("recall", "of calls"),
            ("side-accuracy", "of found calls"),
        ):
            parser.add_argument(
                f"--min-{name}",
                type=fraction,
                default=0.0,
                help=f"fraction, {of}; exit code 1 below (default 0: no floor)",
            )

    def handle(self, *_: Any, **options: Any) -> None:
        with ExitStack() as stack:
            with wrong_input():
                if options["set"]:
                    folder = Path(stack.enter_context(TemporaryDirectory()))
                    options |= {"labelled": folder / "labels.csv", "posts": folder / "posts.jsonl"}
                    sets.export(sets.named(options["set"]), options["labelled"], options["posts"])
                elif not (options["labelled"] and options["posts"]):
                    raise Misconfigured("give --labelled and --posts, or --set")
            self._evaluate(options)

    def _evaluate(self, options: dict[str, Any]) -> None:
        with wrong_input():
            check_output("--plot", options["plot"])
            exporter = export.exporter_of(options["export"]) if options["export"] else None
            if options["plot"]:
                require_matplotlib()
            labels = [
                label
                for label in evaluation.read_labels(options["labelled"])
                if options["half"] in {"all", evaluation.half(label.post_id)}
            ]
            posts = self._posts(options, {label.post_id for label in labels})
            missing = [label.post_id for label in labels if label.post_id not in posts]
            if not labels:
                raise Misconfigured(f"{options['labelled']} has no label of the half {options['half']}")
            if missing:
                raise Misconfigured(
                    f"{options['posts']} lacks {len(missing)} of {len(labels)} posts that are labelled: "
                    f"{', '.join(missing[:3])}; each line must be a JSON object with id and text"
                )
            if options["language"]:
                labels = [one for one in labels if detect(posts[one.post_id].text) == options["language"]]
                if not labels:
                    raise Misconfigured(f"no labelled post is in the language {options['language']!r}")
            started = perf_counter()
            with _prompt(options["prompt"]):
                judged, cost = self._read(labels, posts, options["provider"], options["batch"])
            seconds = perf_counter() - started
            difference = self._difference(judged, labels, posts, options)
        figures = evaluation.judge(judged)
        verdict = gates.judge(measured := evaluation.metrics(judged), "reading")
        summary = self._summary(figures, cost, seconds) | {
            "metrics": measured.model_dump(mode="json"),
            "gate": {"passed": verdict.passed, "checks": [check.as_json() for check in verdict.checks]},
            "against": difference,
            "languages": _by_language(judged),
        }
        if options["plot"]:
            _plot(figures, options["plot"])
        if exporter:
            with wrong_input():
                summary["exported"] = export.export_experiment(
                    exporter, _experiment(judged, summary, options)
                )
        if options["json"]:
            errors = figures.errors[: options["errors"]]
            self.stdout.write(json.dumps(summary | {"errors": errors}, indent=1))
        else:
            self._report(summary, figures, options["errors"])
        self._floors(figures, options)
        if options["gate"] and not verdict.passed:
            raise CommandError(f"the gate of readers refuses: {verdict.reason}", returncode=1)

    def _difference(
        self,
        judged: Sequence[Judged],
        labels: Sequence[Label],
        posts: dict[str, Post],
        options: dict[str, Any],
    ) -> dict[str, Any] | None:
        """Read the posts by the other reader, too, and return how it differs."""
        if not options["against"] and not options["against_prompt"]:
            return None
        other = options["against"] or options["provider"]
        with _prompt(options["against_prompt"]):
            second, _ = self._read(labels, posts, other, options["batch"])
        found = evaluation.compare(judged, second)
        return {
            "reader": other,
            "verdict": found.verdict,
            "f1": found.f1,
            "f1_95": found.f1_95,
            "only_first_right": found.only_first,
            "only_second_right": found.only_second,
        }

    def _posts(self, options: dict[str, Any], wanted: set[str]) -> dict[str, Post]:
        """Read the labelled posts by id, with prices where candles are given."""
        if not options["candles"]:
            texts = evaluation.read_texts(options["posts"], wanted)
            return {post_id: Post(post_id, "", text) for post_id, text in texts.items()}
        series = records.series_of(options["candles"])
        posts, _ = JsonlSource([str(options["posts"])]).everything()
        labelled = records.first_versions(
            post for post in posts if post.post_id in wanted and not post.deleted
        )
        return {post.post_id: post for post in records.with_prices(labelled, series)}

    def _read(
        self, labels: Sequence[Label], posts: dict[str, Post], name: str, size: int
    ) -> tuple[list[Judged], Cost]:
        """Read every labelled post; returns labels with readings, and the cost."""
        cost = Cost()
        if name in ("rules", *GRAMMARS):
            version = VERSION if name == "rules" else name
            readings = {
                reading.post_id: reading for reading in records.read_lexically(posts.values(), version)
            }
            cost.providers.add(f"rules {version}")
            return [_judged(label, posts, readings) for label in labels], cost
        if name in trained.SHIPPED or name.endswith(".json"):
            reader = trained.TrainedReader.of(trained.shipped(name), words_by_token())
            found = reader.read([posts[label.post_id] for label in labels])
            readings = {
                label.post_id: Reading.model_validate(one.as_json(label.post_id))
                for label, one in zip(labels, found, strict=True)
            }
            cost.providers.add(f"trained {name}")
            return [_judged(label, posts, readings) for label in labels], cost
        provider = None if name == "chain" else open_provider(name, policy().provider(name))
        judged = []
        for place in range(0, len(labels), size):
            batch = labels[place : place + size]
            answered = ask(
                purpose="classify",
                data=question((posts[label.post_id] for label in batch), words_by_token()),
                schema=Readings,
                correlation_ids=[correlation.derive_id("evaluation", label.post_id) for label in batch],
                provider=provider,
                keep=False,
            )
            cost.add(answered)
            readings = {reading.post_id: reading for reading in answered.answer.readings}
            judged += [_judged(label, posts, readings) for label in batch]
        return judged, cost

    def _summary(self, figures: Figures, cost: Cost, seconds: float) -> dict[str, Any]:
        accuracy = figures.side_accuracy
        return {
            "posts": figures.posts,
            "provider": sorted(cost.providers),
            "classes": {name: counts.as_json() for name, counts in figures.classes.items()},
            "side_accuracy": None if accuracy is None else round(accuracy, 4),
            "confusion": figures.confusion,
            "calibration": figures.calibration,
            "calls": cost.calls,
            "seconds": round(seconds, 3),
            "latency_ms_per_call": round(cost.latency_ms / cost.calls, 1) if cost.calls else None,
            "cost_usd": f"{cost.usd:f}",
        }

    def _report(self, summary: dict[str, Any], figures: Figures, errors: int) -> None:
        say = self.stdout.write
        say(f"{summary['posts']} posts read by {', '.join(summary['provider'])}")
        say(f"{'class':10} {'precision':>9} {'recall':>7} {'f1':>7} {'found':>6} {'false':>6} {'missed':>7}")
        for name, counts in summary["classes"].items():
            shares = " ".join(
                f"{'-' if counts[key] is None else f'{counts[key]:.3f}':>7}" for key in ("recall", "f1")
            )
            precision = "-" if counts["precision"] is None else f"{counts['precision']:.3f}"
            say(
                f"{name:10} {precision:>9} {shares} {counts['found']:>6} {counts['false']:>6} {counts['missed']:>7}"
            )
        measured = summary["metrics"]
        for title, name in (
            ("precision", "precision"),
            ("recall", "recall"),
            ("side accuracy among found", "side_accuracy"),
            ("calibration error of the calls", "calibration_error"),
        ):
            low, high = measured[f"{name}_95"]
            say(f"{title}: {measured[name]:.3f} (95 %: {low:.3f} to {high:.3f})")
        say(f"calibration error of all posts: {measured['calibration_error_of_posts']:.3f}")
        refused = [check["name"] for check in summary["gate"]["checks"] if not check["passed"]]
        say(f"gate of readers: {'refused: ' + ', '.join(refused) if refused else 'passed'}")
        if other := summary["against"]:
            low, high = other["f1_95"]
            say(
                f"{other['reader']} against it: {other['verdict']} (F1 {other['f1']:+.3f}, "
                f"95 %: {low:+.3f} to {high:+.3f}; "
                f"right alone: {other['only_first_right']} and {other['only_second_right']} posts)"
            )
        for language, counts in summary["languages"].items():
            shares = ", ".join(f"{key} {_with_interval(counts, key)}" for key in ("precision", "recall"))
            say(f"language {language}: {counts['posts']} posts, {shares}")
        say(f"confusion (label -> reading): {json.dumps(summary['confusion'])}")
        for bin_ in summary["calibration"]:
            say(
                f"confidence >= {bin_['from']:.1f}: {bin_['calls']} calls, mean confidence {bin_['confidence']}, "
                f"correct {bin_['right']}"
            )
        per_call = summary["latency_ms_per_call"]
        say(
            f"{summary['calls']} calls, {summary['seconds']} s, {per_call} ms a call, {summary['cost_usd']} USD"
        )
        if "exported" in summary:
            say(f"{summary['exported']} posts exported")
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


def _experiment(
    judged: Sequence[Judged], summary: Mapping[str, Any], options: Mapping[str, Any]
) -> Experiment:
    """Return the evaluation as exporters take it."""
    return experiments.of_evaluation(
        judged,
        dataset=options["export_as"] or options["set"] or options["labelled"].stem,
        reader=", ".join(summary["provider"]),
        prompt=options["prompt"] or "",
        at=clock.now(),
        cost_usd=summary["cost_usd"],
    )


def _by_language(judged: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Return the figures of calls by the language of the posts, the most frequent language first."""
    groups: dict[str, list[Judged]] = {}
    for post in judged:
        groups.setdefault(detect(post.text), []).append(post)
    return {
        language: {"posts": len(posts), **evaluation.judge(posts).classes["candidate"].as_json()}
        for language, posts in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    }


def _with_interval(counts: Mapping[str, Any], key: str) -> str:
    """Return a share with its 95 % interval; a dash where there is none."""
    if counts[key] is None:
        return "-"
    low, high = counts[f"{key}_95"]
    return f"{counts[key]:.2f} ({low:.2f} to {high:.2f})"


def _prompt(given: str | None) -> AbstractContextManager[None]:
    """Within the block posts are read with this prompt, if one is given."""
    return prompts.using({"classify": versions.named(given, "classify")} if given else {})


def _judged(label: Label, posts: Mapping[str, Post], readings: Mapping[str, Reading]) -> Judged:
    return Judged(label, posts[label.post_id].text, readings.get(label.post_id) or _no_reading(label.post_id))


def _no_reading(post_id: str) -> Reading:
    """Return the reading of a post that the reader left out: no call."""
    return Reading(
        post_id=post_id,
        candidate=False,
        tokens=(),
        sentiment="neutral",
        confidence=Decimal(0),
        reasoning="left out",
    )


def _plot(figures: Figures, path: Path) -> None:
    """Plot confidence against the fraction of correct calls; the size of a dot is the number of calls."""
    plot = new_figure(5, 5)
    axes = plot.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfect calibration")
    for bin_ in figures.calibration:
        axes.scatter(bin_["confidence"], bin_["right"], s=20 + 10 * bin_["calls"], color="tab:blue")
        axes.annotate(
            f"{bin_['calls']:.0f}",
            (bin_["confidence"], bin_["right"]),
            textcoords="offset points",
            xytext=(6, 6),
        )
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.05),
        xlabel="confidence",
        ylabel="fraction correct",
        title="Calibration of the calls",
    )
    axes.legend(loc="lower right")
    plot.savefig(path, format="png", dpi=120)
