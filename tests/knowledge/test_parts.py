"""Splitting into chunks, text of HTML, the `knowledge` command and the admin pages."""

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import egress
from maxxit.knowledge.chunks import normalize_whitespace, split
from maxxit.knowledge.ingest import Scope, store
from maxxit.knowledge.models import Document, Item
from maxxit.knowledge.sources.base import Text
from maxxit.knowledge.sources.html import text_of
from tests.builders import T0, RecordedClock
from tests.knowledge.conftest import Configure

WORDS = st.tuples(
    st.sampled_from(["a", "word", "é🚀"]), st.sampled_from([" ", ". ", "! ", "\n", "\n\n", "", "  "])
)
LONG = st.lists(WORDS, min_size=30, max_size=600).map(
    lambda words: "".join(f"{word}{n}{blank}" for n, (word, blank) in enumerate(words))
)
"""Texts of several chunks; each word is unique."""


@given(LONG | st.text(alphabet="ab. \n!é🚀", max_size=3000), st.integers(200, 400), st.floats(0, 0.5))
def test_chunks_keep_every_word_and_the_size_limit(text: str, chars: int, share: float) -> None:
    whole = normalize_whitespace(text)
    chunks = split(whole, chars, int(chars * share))

    assert all(0 < len(chunk) <= chars for chunk in chunks)
    covered = 0
    for chunk in chunks:  # in order, with nothing but whitespace between
        reach = len(whole) - len(whole[covered:].lstrip())
        position = whole.rfind(chunk, 0, reach + len(chunk))
        assert position >= 0
        covered = max(covered, position + len(chunk))
    assert not whole[covered:].strip()


def test_chunks_end_at_sentences_and_overlap() -> None:
    text = " ".join(f"Sentence number {n} says something." for n in range(40))
    chunks = split(text, 300, 60)

    assert all(chunk.endswith(".") for chunk in chunks)
    assert all(set(a.split()) & set(b.split()[:8]) for a, b in pairwise(chunks))


def test_the_visible_text_of_a_page_is_extracted() -> None:
    page = text_of(
        "<html><head><title> A &amp;\n B </title><style>p{}</style></head><body><nav>Menu</nav>"
        "<script>steal()</script><h1>Head</h1><p>One <b>bold</b> word<br>and a line</p><!-- hidden -->"
        "<table><tr><td>1</td><td>2</td></tr></table><template>no</template></body></html>"
    )

    assert page.title == "A & B"
    assert normalize_whitespace(page.text) == "Head\n\nOne bold word\nand a line\n\n1 2"


@pytest.mark.parametrize("html", ["", "<", "<p", "\x00", "<body>" + "<div>" * 20_000 + "deep", "</p></p>"])
def test_malformed_html_is_read(html: str) -> None:
    assert isinstance(text_of(html).text, str)


def run(*words: str) -> Any:
    stdout = io.StringIO()
    call_command("knowledge", *words, "--json", stdout=stdout, stderr=io.StringIO())
    return json.loads(stdout.getvalue())


@pytest.mark.django_db
def test_the_command_adds_finds_counts_and_forgets(tmp_path: Path, time: RecordedClock) -> None:
    file = tmp_path / "bridge.md"
    file.write_text("# Bridge\nThe bridge was audited twice.")

    assert (
        run("add", str(file), "--token", "ETH", "--known-at", "2017-01-01T00:00:00Z")[0]["outcome"]
        == "stored"
    )
    [found] = run("search", "audited bridge", "--token", "ETH")
    assert (found["title"], found["source"]) == ("Bridge", str(file))
    assert run("search", "audited bridge", "--token", "BTC") == []
    assert run("search", "audited bridge", "--at", "2016-12-31T00:00:00Z") == []
    stats = run("stats")
    assert (stats["documents"], stats["chunks"], stats["by source"]) == (1, 1, {"by hand": 1})
    assert run("forget", str(file)) == [{"uri": str(file), "documents": 1, "chunks": 1}]
    assert run("stats")["documents"] == 0


@pytest.mark.django_db
def test_the_command_fetches_pages_with_the_ssrf_safe_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        egress, "fetch", lambda url, rules: egress.Page(url, "text/html", "", b"<p>Bridge</p>")
    )
    assert run("add", "https://example.org/a")[0]["outcome"] == "stored"
    monkeypatch.undo()
    for url in (
        "http://example.org/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://u:p@example.org/",
    ):
        with pytest.raises(CommandError):
            run("add", url)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("add", "/no/such/file"), "No such file"),
        (("forget", "nothing"), "no document"),
        (("search", "x", "--at", "yesterday"), "give date and time with a time zone"),
    ],
)
def test_the_command_reports_an_error_in_one_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError, match=message) as refused:
        run(*words)
    assert "\n" not in str(refused.value)
    assert refused.value.returncode == 1


@pytest.mark.django_db
def test_forget_warns_of_a_document_that_a_source_still_lists_and_retry_makes_items_due(
    tmp_path: Path, configure: Configure
) -> None:
    (tmp_path / "a.txt").write_text("Fine.")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    configure(sources={"handbook": {"adapter": "files", "paths": [f"{tmp_path}/*"]}})
    assert run("sweep")["outcomes"] == {"stored": 1, "not_text": 1}
    assert run("stats")["set aside"] == 1
    assert run("retry", "--source", "another") == {"looked at again by the next sweep": 0}
    assert run("retry", "--source", "handbook") == {"looked at again by the next sweep": 1}
    (tmp_path / "bad.txt").write_text("Readable now.")
    assert run("sweep")["outcomes"] == {"stored": 1, "unchanged": 1}

    stderr = io.StringIO()
    call_command("knowledge", "forget", str(tmp_path / "a.txt"), stdout=io.StringIO(), stderr=stderr)
    assert "sources.handbook" in stderr.getvalue()


def test_the_admin_escapes_documents_and_retries_items(admin_client: Client) -> None:
    store("a", Text("<script>alert(1)</script> The bridge."), Scope("by hand"))
    item = Item.objects.create(key="k", uri="u", source="s", outcome="http_404", checked_at=T0, attempts=1)
    shown = admin_client.get(
        f"/admin/knowledge/document/{Document.objects.get().pk}/change/"
    ).content.decode()

    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert(1)" not in shown
    assert admin_client.get("/admin/knowledge/document/").status_code == 200
    assert "http_404" in admin_client.get("/admin/knowledge/item/").content.decode()
    admin_client.post("/admin/knowledge/item/", {"action": "retry", "_selected_action": [item.pk]})
    item.refresh_from_db()
    assert (item.attempts, item.due_at is not None) == (0, True)
