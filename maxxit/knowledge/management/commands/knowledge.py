"""manage.py knowledge: documents that the model may be shown beside the posts (docs/knowledge.md)."""

from argparse import ArgumentTypeError
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count, Q
from django.utils.dateparse import parse_datetime

from maxxit.core import clock, redact
from maxxit.core.commands import OpsCommand, count
from maxxit.knowledge import ingest, retrieve
from maxxit.knowledge.models import Chunk, Document, Item
from maxxit.knowledge.policy import policy
from maxxit.knowledge.sources import files, web


def moment(text: str) -> datetime:
    """A moment with its time zone."""
    try:
        parsed = parse_datetime(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise ArgumentTypeError(f"{text!r}: say a moment with its zone, like 2026-01-31T12:00:00Z")
    return parsed


class Command(OpsCommand):
    help = "Add, search and inspect documents for retrieval, as in: knowledge search 'who audits the bridge'"
    subcommands = {
        "add": "store text files (UTF-8, Markdown, HTML) or https pages",
        "search": "the passages nearest to a question",
        "forget": "take documents out, with chunks and vectors, for good",
        "sweep": "look at the sources of config/knowledge.yaml now",
        "retry": "look again at items that were set aside",
        "stats": "documents, chunks, and what could not be read",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("add", "forget"):
            parser.add_argument("what", nargs="+", metavar="FILE_OR_URL", help="a file, or an https URL")
        if action == "add":
            parser.add_argument(
                "--token", action="append", default=[], help="it is about this token (repeat); none: all"
            )
            parser.add_argument(
                "--agent", action="append", default=[], help="only for this agent (repeat); none: all"
            )
            parser.add_argument(
                "--known-at", type=moment, help="from when on decisions may use it (default: now)"
            )
        if action == "search":
            parser.add_argument("question", help="in words")
            parser.add_argument("--at", type=moment, help="as it was known then (default: now)")
            parser.add_argument("--token", help="leave out what is about other tokens")
            parser.add_argument("--agent", help="leave out what is for other agents")
            parser.add_argument("-n", type=count, default=5, help="how many (default 5)")
        if action == "retry":
            parser.add_argument("--source", default="", help="only of this source")

    def run(self, **options: Any) -> Any:
        return self.rows(getattr(self, f"_{options['action']}")(options))

    def _add(self, options: dict[str, Any]) -> list[dict[str, str]]:
        scope = ingest.Scope("by hand", tuple(sorted(options["token"])), tuple(sorted(options["agent"])))
        done = []
        for number, what in enumerate(options["what"], start=1):
            uri = _uri(what)
            found = web.read(uri) if "://" in uri else files.read(Path(uri))
            outcome = ingest.store(uri, found, scope, known_at=options["known_at"])
            done.append({"outcome": outcome, "uri": redact.text(uri)})
            if len(options["what"]) > 1 and not self.quiet:
                self.stderr.write(f"{number} of {len(options['what'])}")
        return done

    def _search(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        found = retrieve.passages(
            options["question"],
            at=options["at"] or clock.now(),
            token=options["token"],
            agent=options["agent"],
            limit=options["n"],
        )
        return [{"similarity": f"{one.similarity:.3f}", **one.as_data()} for one in found]

    def _forget(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        done = []
        for what in options["what"]:
            uri = _uri(what)
            done.append({"uri": redact.text(uri), **ingest.forget(uri)})
            for name in _listing(uri):
                self.stderr.write(
                    f"{redact.text(uri)} still stands in sources.{name} of config/knowledge.yaml: "
                    "take it out there, or the next sweep stores it again"
                )
        return done

    def _sweep(self, options: dict[str, Any]) -> dict[str, Any]:
        return asdict(ingest.sweep())

    def _retry(self, options: dict[str, Any]) -> dict[str, int]:
        rows = Item.objects.filter(due_at=None)
        rows = rows.filter(source=options["source"]) if options["source"] else rows
        return {"looked at again by the next sweep": rows.update(attempts=0, due_at=clock.now())}

    def _stats(self, options: dict[str, Any]) -> dict[str, Any]:
        in_force = Document.objects.filter(superseded_at=None)
        by_source = in_force.values_list("source").annotate(Count("pk")).order_by("source")
        items = Item.objects.aggregate(
            failing=Count("pk", filter=Q(attempts__gt=0) & ~Q(due_at=None)),
            set_aside=Count("pk", filter=Q(due_at=None)),
        )
        return {
            "embedder": policy().embedder,
            "documents": in_force.count(),
            "older versions": Document.objects.exclude(superseded_at=None).count(),
            "chunks": Chunk.objects.count(),
            "by source": dict(by_source),
            "by embedder": dict(
                Chunk.objects.values_list("embedder").annotate(Count("pk")).order_by("embedder")
            ),
            **{name.replace("_", " "): count for name, count in items.items()},
            "newest": list(in_force.order_by("-pk").values_list("uri", flat=True)[:20]),
        }


def _uri(what: str) -> str:
    """An address as it is; a row's name as it is; a file by its whole path."""
    return (
        what
        if "://" in what or Document.objects.filter(key=ingest.key_of(what)).exists()
        else str(Path(what).resolve())
    )


def _listing(uri: str) -> list[str]:
    """The configured sources that offer `uri`."""
    names = []
    for name, stanza in policy().sources.items():
        if any(offer.uri == uri for offer in ingest.opened(name, stanza)[1]):
            names.append(name)
    return names
