"""Ingest: deduplication, versions, redaction, retries and quarantine of items, deletion."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from maxxit.core import egress, redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.events.models import Event
from maxxit.knowledge import ingest
from maxxit.knowledge.ingest import Scope, forget, store, sweep
from maxxit.knowledge.models import Chunk, Document, Item
from maxxit.knowledge.sources.base import Text
from maxxit.knowledge.tasks import sweep as sweep_task
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.knowledge.conftest import Configure, VectorServer

pytestmark = pytest.mark.django_db
HAND = Scope("by hand")
LONG = "\n\n".join(f"Paragraph {n} about funding rates and open interest on venue {n}." for n in range(60))


@pytest.fixture(autouse=True)
def _clock(time: RecordedClock) -> None:
    """Use the recorded clock."""


def test_a_document_becomes_chunks_with_vectors_and_an_event() -> None:
    assert store("a", Text(LONG, "Funding"), HAND) == "stored"
    document = Document.objects.get()
    chunks = list(document.chunks.order_by("place"))

    assert (document.title, document.known_at, document.created_at) == ("Funding", T0, T0)
    assert len(chunks) > 3
    assert [chunk.place for chunk in chunks] == list(range(len(chunks)))
    assert all(0 < len(chunk.text) <= 900 for chunk in chunks)
    assert {f"Paragraph {n} " in " ".join(c.text + " " for c in chunks) for n in range(60)} == {True}
    assert Event.objects.get(name="knowledge.stored").data["chunks"] == len(chunks)


def test_the_same_text_is_stored_once_wherever_it_stands() -> None:
    outcomes = [
        store("a", Text("One text."), HAND),
        store("a", Text(" One  text. "), HAND),
        store("b", Text("One text."), HAND),
    ]

    assert outcomes == ["stored", "unchanged", "duplicate"]
    assert (Document.objects.count(), Chunk.objects.count()) == (1, 1)


def test_the_same_text_for_another_agent_is_another_document() -> None:
    store("a", Text("One text."), Scope("s", agents=("ann",)))

    assert store("b", Text("One text."), Scope("s", agents=("bob",))) == "stored"


def test_a_change_is_a_new_version_that_is_known_from_now_on(time: RecordedClock) -> None:
    store("a", Text("Before.", known_at=T0 - timedelta(days=30)), HAND)
    time.move(hours=1)
    assert store("a", Text("After.", known_at=T0 - timedelta(days=30)), HAND) == "stored"
    new, old = Document.objects.order_by("-pk")

    assert (old.known_at, old.superseded_at) == (T0 - timedelta(days=30), T0 + timedelta(hours=1))
    assert (new.known_at, new.superseded_at) == (T0 + timedelta(hours=1), None)


def test_a_document_that_became_empty_or_a_copy_is_no_longer_in_force(time: RecordedClock) -> None:
    store("a", Text("A."), HAND)
    store("b", Text("B."), HAND)
    time.move(hours=1)

    assert [store("a", Text(" \n "), HAND), store("b", Text("A."), HAND)] == ["empty", "stored"]
    assert list(Document.objects.filter(superseded_at=None).values_list("uri", flat=True)) == ["b"]
    assert store("a", Text("A."), HAND) == "duplicate"


def test_a_text_with_a_future_known_at_or_too_long_is_refused(configure: Configure) -> None:
    configure(ingest={"max_document_chars": 100})
    for text, code in (
        (Text("A.", known_at=T0 + timedelta(seconds=1)), "known_at_ahead"),
        (Text("x " * 99), "too_long"),
    ):
        with pytest.raises(Rejected) as caught:
            store("a", text, HAND)
        assert caught.value.code == code
    assert not Document.objects.exists()


def test_forgetting_deletes_all_versions_chunks_vectors_and_the_item(
    configure: Configure, tmp_path: Path
) -> None:
    file = tmp_path / "a.md"
    file.write_text("# One\ntext")
    configure(sources={"s": {"adapter": "files", "paths": [str(file)]}})
    sweep()
    file.write_text("# Two\ntext")
    sweep()
    store("other", Text("Stays."), HAND)

    assert forget(str(file)) == {"documents": 2, "chunks": 2}
    assert list(Chunk.objects.values_list("text", flat=True)) == ["Stays."]
    assert not Item.objects.exists()
    with pytest.raises(Rejected, match="no document"):
        forget(str(file))


def test_no_secret_of_a_document_is_stored_anywhere(configure: Configure, vectors: VectorServer) -> None:
    configure(
        embedder="mine", embedders={"mine": {"adapter": "ollama", "model": "m", "base_url": vectors.url}}
    )
    known, looks = "canary-value-7f3a91c2", "sk-ant-canaryCANARY0123456789"
    redact.know(known)
    try:
        store(
            f"https://example.org/?api_key={known}",
            Text(f"Use {known} or {looks} to log in.", f"Key {known}"),
            HAND,
        )
    finally:
        redact.forget()
    rows = [
        *Document.objects.values(),
        *Chunk.objects.values("text"),
        *Event.objects.values(),
        *Item.objects.values(),
    ]

    assert Chunk.objects.get().text == "Use [redacted] or [redacted] to log in."
    assert known not in str(rows)
    assert looks not in str(rows)
    assert vectors.asked[0][1]["input"] == ["Use [redacted] or [redacted] to log in."]
    assert known not in str(vectors.asked)


def test_a_sweep_stores_files_once_and_again_when_they_change(
    configure: Configure, tmp_path: Path, time: RecordedClock
) -> None:
    for name, text in (
        ("a.md", "# Alpha\nOne."),
        ("b.txt", "Two."),
        ("c.html", "<title>C</title><p>Three</p>"),
    ):
        (tmp_path / name).write_text(text)
    configure(
        sources={"s": {"adapter": "files", "paths": [f"{tmp_path}/*"], "tokens": ["ETH"], "agents": ["ann"]}}
    )

    assert sweep().outcomes == {"stored": 3}
    assert sweep().outcomes == {"unchanged": 3}
    (tmp_path / "a.md").write_text("# Alpha\nOne and more.")
    time.move(minutes=5)
    assert sweep().outcomes == {"stored": 1, "unchanged": 2}
    in_force = Document.objects.filter(superseded_at=None)
    assert set(in_force.values_list("title", flat=True)) == {"Alpha", "b.txt", "C"}
    assert {(*d.tokens, *d.agents, d.source) for d in in_force} == {("ETH", "ann", "s")}


def test_the_document_of_a_deleted_file_remains_until_forget(
    configure: Configure, tmp_path: Path, time: RecordedClock
) -> None:
    (tmp_path / "a.md").write_text("# Alpha\nOne.")
    configure(sources={"s": {"adapter": "files", "paths": [f"{tmp_path}/*"]}})
    sweep()
    (tmp_path / "a.md").unlink()
    time.move(minutes=5)
    sweep()

    assert Document.objects.get().superseded_at is None
    forget(str(tmp_path / "a.md"))
    assert not Document.objects.exists()


@pytest.mark.parametrize("code", ["http_404", "private_address", "content_type"])
def test_a_page_that_can_never_be_read_is_quarantined_at_once(
    configure: Configure, time: RecordedClock, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    configure(sources={"s": {"adapter": "web", "urls": ["https://example.org/"]}})
    asked = []

    def refused(url: str, rules: egress.Rules) -> egress.Page:
        asked.append(url)
        raise Rejected("never", code=code)

    monkeypatch.setattr(egress, "fetch", refused)
    for _ in range(3):
        sweep()
        time.move(days=1)

    row = Item.objects.get()
    assert (row.outcome, row.attempts, row.due_at, len(asked)) == (code, 1, None, 1)


def test_an_unreadable_item_is_quarantined_and_does_not_affect_others(
    configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00bin")
    (tmp_path / "good.txt").write_text("Fine.")
    configure(sources={"s": {"adapter": "files", "paths": [f"{tmp_path}/*.txt"]}})

    done = sweep()
    assert done.outcomes == {"not_text": 1, "stored": 1}
    row = Item.objects.get(outcome="not_text")
    assert (row.due_at, row.attempts) == (None, 1)
    assert "UTF-8" in row.last_error
    assert sweep().outcomes == {"unchanged": 1}, "the quarantined item is not read again"


def test_a_failing_item_is_retried_with_backoff_and_then_quarantined(
    configure: Configure, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(
        sources={"s": {"adapter": "web", "urls": ["https://example.org/"]}},
        ingest={"max_attempts": 3, "retry_minutes": 5},
    )
    asked = []

    def away(url: str, rules: egress.Rules) -> egress.Page:
        asked.append(url)
        raise Retryable("example.org answered 503")

    monkeypatch.setattr(egress, "fetch", away)
    for minutes, count in ((0, 1), (4, 1), (1, 2), (9, 2), (1, 3), (1000, 3)):
        time.move(minutes=minutes)
        sweep()
        assert len(asked) == count
    assert Item.objects.get().due_at is None

    Item.objects.update(attempts=0, due_at=T0)  # as `knowledge retry` does
    page = egress.Page("https://example.org/", "text/html", "", b"<p>Back</p>")
    monkeypatch.setattr(egress, "fetch", lambda url, rules: page)
    assert sweep().outcomes == {"stored": 1}
    assert (Item.objects.get().attempts, Item.objects.get().last_error) == (0, "")


def test_a_page_is_fetched_again_after_its_refresh_time(
    configure: Configure, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(sources={"s": {"adapter": "web", "urls": ["https://example.org/"], "refresh_minutes": 60}})
    page = egress.Page("https://example.org/", "text/plain", "", b"Plain")
    monkeypatch.setattr(egress, "fetch", lambda url, rules: page)

    looked = []
    for minutes in (0, 5, 54, 1):
        time.move(minutes=minutes)
        looked.append(sweep().looked)
    assert looked == [1, 0, 0, 1]


def test_rows_are_known_from_when_we_had_them(configure: Configure, time: RecordedClock) -> None:
    author = make.account(make.agent(), username="author")
    post = make.post(author, text="ETH looks strong")
    configure(
        sources={
            "posts": {
                "adapter": "rows",
                "model": "signals_app.CtPost",
                "text": ["text"],
                "known_at": "ingested_at",
            }
        }
    )
    time.move(hours=3)
    done = sweep()

    assert done.outcomes == {"stored": 1}
    assert Document.objects.get().known_at == post.ingested_at
    assert Document.objects.get().uri == f"signals_app.CtPost/{post.pk}"
    assert Chunk.objects.get().text == "ETH looks strong"


@pytest.mark.parametrize(
    ("stanza", "says"),
    [
        ({"adapter": "smoke"}, "no knowledge source named 'smoke'"),
        ({}, "needs an adapter"),
        ({"adapter": "files"}, "paths"),
        ({"adapter": "files", "paths": "x"}, "list of patterns"),
        ({"adapter": "web", "urls": ["http://10.0.0.1/"]}, "scheme must be https"),
        ({"adapter": "web", "urls": ["https://e.org"], "refresh_minutes": 1}, "5 or more"),
        (
            {"adapter": "rows", "model": "auth.User", "text": ["username"], "known_at": "date_joined"},
            "may hold secrets",
        ),
        ({"adapter": "rows", "model": "no.Such", "text": ["a"], "known_at": "b"}, "no.Such"),
        ({"adapter": "rows", "model": "events.Event", "text": ["nope"], "known_at": "at"}, "nope"),
        (
            {"adapter": "rows", "model": "events.Event", "text": ["name"], "known_at": "name"},
            "date-time field",
        ),
    ],
)
def test_an_invalid_source_is_reported_and_the_others_are_read(
    configure: Configure, tmp_path: Path, stanza: dict[str, Any], says: str
) -> None:
    (tmp_path / "a.txt").write_text("Fine.")
    configure(sources={"wrong": stanza, "zz": {"adapter": "files", "paths": [f"{tmp_path}/*"]}})
    done = sweep()

    assert says in done.failed["wrong"]
    assert done.outcomes == {"stored": 1}
    with pytest.raises(Misconfigured):
        list(ingest.open_source("wrong", stanza)[1])


def test_a_sweep_stops_at_its_limit_and_the_next_reads_the_rest(
    configure: Configure, tmp_path: Path, time: RecordedClock
) -> None:
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(f"Text {n}.")
    configure(sources={"s": {"adapter": "files", "paths": [f"{tmp_path}/*"]}}, ingest={"max_items": 2})
    first = sweep()

    assert (first.looked, first.over_time) == (2, True)
    time.move(minutes=5)
    assert sweep().outcomes == {"stored": 1, "unchanged": 1}


def test_a_source_with_more_items_than_a_sweep_reads_does_not_starve_the_others(
    configure: Configure, tmp_path: Path, time: RecordedClock
) -> None:
    for name, number in (("large", 4), ("small", 1)):
        (tmp_path / name).mkdir()
        for n in range(number):
            (tmp_path / name / f"{n}.txt").write_text(f"Text {n} of {name}.")
    sources = {name: {"adapter": "files", "paths": [f"{tmp_path}/{name}/*"]} for name in ("large", "small")}
    configure(sources=sources, ingest={"max_items": 2})
    for _ in range(3):
        sweep()
        time.move(minutes=5)

    assert Document.objects.count() == 5
    (tmp_path / "small" / "0.txt").write_text("Another text.")
    for _ in range(3):
        sweep()
        time.move(minutes=5)
    assert Document.objects.filter(superseded_at=None, chunks__text="Another text.").exists()


def test_the_task_returns_the_report(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Fine.")
    configure(sources={"s": {"adapter": "files", "paths": [f"{tmp_path}/*"]}})

    assert sweep_task()["outcomes"] == {"stored": 1}


def test_after_a_change_of_embedder_all_chunks_are_embedded_again(
    configure: Configure, vectors: VectorServer
) -> None:
    store("a", Text(LONG), HAND)
    count = Chunk.objects.count()
    configure(
        embedder="mine",
        embedders={"mine": {"adapter": "ollama", "model": "m", "base_url": vectors.url, "batch": 2}},
    )
    vectors.status = 503
    assert "embedder" in sweep().failed
    vectors.status = 200

    assert sweep().embedded_anew == count
    assert set(Chunk.objects.values_list("embedder", flat=True)) == {"ollama/m/0"}
    assert sweep().embedded_anew == 0


def test_an_embedder_without_its_key_names_the_variable(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    configure(embedder="openai")
    with pytest.raises(Misconfigured, match="set OPENAI_API_KEY"):
        store("a", Text("A."), HAND)


def test_an_item_that_kills_its_worker_is_counted_and_quarantined(
    configure: Configure, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(sources={"s": {"adapter": "web", "urls": ["https://e.org/"]}}, ingest={"max_attempts": 2})

    def killed(url: str, rules: egress.Rules) -> egress.Page:
        raise SystemExit

    monkeypatch.setattr(egress, "fetch", killed)
    for _ in range(2):
        with pytest.raises(SystemExit):
            sweep()
        time.move(hours=1)

    row = Item.objects.get()
    assert (row.outcome, row.attempts, row.due_at) == ("begun", 2, None)
    assert sweep().looked == 0


def test_a_missing_key_does_not_count_as_a_failure_of_an_item(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "a.txt").write_text("Fine.")
    configure(embedder="openai", sources={"s": {"adapter": "files", "paths": [f"{tmp_path}/*"]}})

    assert "OPENAI_API_KEY" in sweep().failed["s"]
    assert not Item.objects.exists()
