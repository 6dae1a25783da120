"""manage.py knowledge: add, search and delete documents for retrieval (docs/knowledge.md)."""

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
from maxxit.knowledge import ingest, recall, retrieve
from maxxit.knowledge.models import Chunk, Document, Item
from maxxit.knowledge.policy import policy
from maxxit.knowledge.sources import files, web


def timestamp(text: str) -> datetime:
    """Parse an ISO 8601 date and time with a time zone."""
    try:
        parsed = parse_datetime(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise ArgumentTypeError(f"{text}: give date and time with a time zone, such as 2026-01-31T12:00:00Z")
    return parsed


class Command(OpsCommand):
    help = "Add, search and inspect documents for retrieval, as in: knowledge search 'who audits the bridge'"
    subcommands = {
        "add": "store text files (UTF-8, Markdown, HTML) or https pages",
        "search": "show the passages nearest to a question",
        "forget": "delete documents with all versions, chunks and vectors",
        "sweep": "read the due items of the sources in config/knowledge.yaml now",
        "retry": "make quarantined items due again",
        "recall": "measure how often an embedder finds the document that answers a question; no database",
        "stats": "count documents, chunks and failed items",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action in ("add", "forget"):
            parser.add_argument("what", nargs="+", metavar="FILE_OR_URL", help="a file, or an https URL")
        if action == "add":
            parser.add_argument(
                "--token", action="append", default=[], help="token it is about (repeatable; default: all)"
            )
            parser.add_argument(
                "--agent",
                action="append",
                default=[],
                help="agent that may see it: its id, owner/name, or a platform's name (repeatable; default: all)",
            )
            parser.add_argument(
                "--known-at",
                type=timestamp,
                help="decisions before this time do not see it (default: now)",
            )
        if action == "search":
            parser.add_argument("question", help="free text")
            parser.add_argument(
                "--at", type=timestamp, help="search what was known at this time (default: now)"
            )
            parser.add_argument("--token", help="leave out documents about other tokens")
            parser.add_argument("--agent", help="leave out documents for other agents")
            parser.add_argument("-n", type=count, default=5, help="number of passages (default 5)")
        if action == "recall":
            parser.add_argument("--questions", type=Path, required=True, help="YAML: documents and questions")
            parser.add_argument(
                "--embedder",
                action="append",
                default=[],
                help="of config/knowledge.yaml, repeatable (default: the one in use)",
            )
        if action == "retry":
            parser.add_argument("--source", default="", help="only items of this source")

    def run(self, **options: Any) -> Any:
        return self.rows(getattr(self, f"_{options['action']}")(options))

    def _add(self, options: dict[str, Any]) -> list[dict[str, str]]:
        scope = ingest.Scope("by hand", tuple(sorted(options["token"])), tuple(sorted(options["agent"])))
        rows = []
        for number, what in enumerate(options["what"], start=1):
            uri = _uri(what)
            content = web.read(uri) if "://" in uri else files.read(Path(uri))
            outcome = ingest.store(uri, content, scope, known_at=options["known_at"])
            rows.append({"outcome": outcome, "uri": redact.text(uri)})
            if len(options["what"]) > 1 and not self.quiet:
                self.stderr.write(f"{number} of {len(options['what'])}")
        return rows

    def _search(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        passages = retrieve.passages(
            options["question"],
            at=options["at"] or clock.now(),
            token=options["token"],
            agents=[options["agent"]] if options["agent"] else None,
            limit=options["n"],
        )
        return [{"similarity": f"{passage.similarity:.3f}", **passage.as_data()} for passage in passages]

    def _recall(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        asked = recall.read(options["questions"])
        return [
            {"embedder": name, **asdict(found)}
            for name in options["embedder"] or [policy().embedder]
            for found in recall.measure(ingest.embedder(name), asked)
        ]

    def _forget(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for what in options["what"]:
            uri = _uri(what)
            rows.append({"uri": redact.text(uri), **ingest.forget(uri)})
            for name in _sources_listing(uri):
                self.stderr.write(
                    f"{redact.text(uri)} is still listed by sources.{name} of config/knowledge.yaml: "
                    "remove it there, or the next sweep stores it again"
                )
        return rows

    def _sweep(self, options: dict[str, Any]) -> dict[str, Any]:
        return asdict(ingest.sweep())

    def _retry(self, options: dict[str, Any]) -> dict[str, int]:
        rows = Item.objects.filter(due_at=None)
        rows = rows.filter(source=options["source"]) if options["source"] else rows
        return {"looked at again by the next sweep": rows.update(attempts=0, due_at=clock.now())}

    def _stats(self, options: dict[str, Any]) -> dict[str, Any]:
        current = Document.objects.filter(superseded_at=None)
        by_source = current.values_list("source").annotate(Count("pk")).order_by("source")
        items = Item.objects.aggregate(
            failing=Count("pk", filter=Q(attempts__gt=0) & ~Q(due_at=None)),
            set_aside=Count("pk", filter=Q(due_at=None)),
        )
        return {
            "embedder": policy().embedder,
            "documents": current.count(),
            "older versions": Document.objects.exclude(superseded_at=None).count(),
            "chunks": Chunk.objects.count(),
            "by source": dict(by_source),
            "by embedder": dict(
                Chunk.objects.values_list("embedder").annotate(Count("pk")).order_by("embedder")
            ),
            **{name.replace("_", " "): count for name, count in items.items()},
            "newest": list(current.order_by("-pk").values_list("uri", flat=True)[:20]),
        }


def _uri(what: str) -> str:
    """Return the URI of a command line argument: a URL or stored URI unchanged, a file as an absolute path."""
    return (
        what
        if "://" in what or Document.objects.filter(key=ingest.document_key(what)).exists()
        else str(Path(what).resolve())
    )


def _sources_listing(uri: str) -> list[str]:
    """Return the names of the configured sources that list `uri`."""
    names = []
    for name, stanza in policy().sources.items():
        if any(offer.uri == uri for offer in ingest.open_source(name, stanza)[1]):
            names.append(name)
    return names
