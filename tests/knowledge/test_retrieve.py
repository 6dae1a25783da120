"""Retrieval: filters by time, token and agent, use of the vector index, and no cost without documents."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from maxxit.knowledge import retrieve
from maxxit.knowledge.embedders.local import Local
from maxxit.knowledge.ingest import Scope, forget, store
from maxxit.knowledge.models import Chunk, Document
from maxxit.knowledge.retrieve import nearest, passages
from maxxit.knowledge.sources.base import Text
from tests.builders import HOUR, T0, RecordedClock
from tests.knowledge.conftest import Configure, VectorServer

pytestmark = pytest.mark.django_db
HAND = Scope("by hand")


@pytest.fixture(autouse=True)
def _clock(time: RecordedClock) -> None:
    """Use the recorded clock."""


def texts(question: str, **how: Any) -> list[str]:
    return [passage.text for passage in passages(question, **{"at": T0} | how)]


def test_the_nearest_passage_comes_first_with_its_source() -> None:
    store("bridge", Text("The bridge was audited by two firms in March.", "Audit", T0 - HOUR), HAND)
    store("fees", Text("Gas fees fall on weekends.", "Fees"), HAND)
    first, *_ = passages("who audited the bridge?", at=T0)

    assert first.as_data() == {
        "source": "bridge",
        "title": "Audit",
        "known_at": (T0 - HOUR).isoformat(),
        "ref": f"{first.content_sha256[:16]}/0",
        "text": "The bridge was audited by two firms in March.",
    }
    assert 0.3 < first.similarity <= 1


def test_only_documents_known_at_the_given_time_are_found(time: RecordedClock) -> None:
    store("a", Text("The bridge is safe.", known_at=T0 - 5 * HOUR), HAND)
    time.move(hours=2)
    store("a", Text("The bridge was drained."), HAND)
    found = {hours: texts("is the bridge safe", at=T0 + hours * HOUR) for hours in (-6, -5, 0, 1.999, 2, 9)}

    safe, drained = ["The bridge is safe."], ["The bridge was drained."]
    assert found == {-6: [], -5: safe, 0: safe, 1.999: safe, 2: drained, 9: drained}


def test_documents_about_other_tokens_or_for_other_agents_are_left_out() -> None:
    for name, tokens, agents in (
        ("all", (), ()),
        ("eth", ("ETH",), ()),
        ("btc", ("BTC",), ()),
        ("ann", (), ("ann",)),
    ):
        store(name, Text(f"The bridge note of {name}."), Scope("s", tokens, agents))

    def who(**how: Any) -> set[str]:
        return {passage.uri for passage in passages("bridge note", at=T0, **how)}

    assert who() == {"all", "eth", "btc", "ann"}
    assert who(token="ETH", agents=["ann"]) == {"all", "eth", "ann"}
    assert who(token="ETH", agents=["bob"]) == {"all", "eth"}
    assert who(token="SOL", agents=["bob"]) == {"all"}


def test_deleted_or_dissimilar_documents_are_not_found(configure: Configure) -> None:
    store("a", Text("The bridge note."), HAND)
    assert texts("zzz qqq") == []
    assert texts("bridge") == ["The bridge note."]
    forget("a")
    assert texts("bridge") == []


def test_a_passage_in_several_documents_is_returned_once_and_the_limit_holds() -> None:
    for n in range(8):
        store(f"doc {n}", Text("The bridge note."), Scope("s", tokens=(f"T{n}",)))
        store(f"other {n}", Text(f"Another bridge note, number {n}."), HAND)

    assert texts("the bridge note", limit=3)[0] == "The bridge note."
    assert len(set(texts("the bridge note", limit=3))) == len(texts("the bridge note", limit=3)) == 3
    assert texts("bridge", limit=0) == texts(" ") == []


def test_without_documents_it_costs_one_query_and_no_embedder_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("an embedder was opened")

    monkeypatch.setattr(retrieve, "embedder", never)
    with CaptureQueriesContext(connection) as queries:
        assert passages("bridge", at=T0) == []
    assert len(queries) == 1
    assert "LIMIT 1" in queries[0]["sql"]


def test_a_question_is_redacted_before_it_is_embedded(configure: Configure, vectors: VectorServer) -> None:
    configure(
        embedder="mine", embedders={"mine": {"adapter": "ollama", "model": "m", "base_url": vectors.url}}
    )
    store("a", Text("A."), HAND)
    passages("use sk-ant-canaryCANARY0123456789 \ud800", at=T0)

    assert vectors.asked[-1][1]["input"] == ["use [redacted] ?"]


def test_vectors_of_another_embedder_are_not_compared(configure: Configure, vectors: VectorServer) -> None:
    store("a", Text("The bridge note."), HAND)
    configure(
        embedder="mine", embedders={"mine": {"adapter": "ollama", "model": "m", "base_url": vectors.url}}
    )

    assert texts("The bridge note.") == []


MANY = 3000


@pytest.fixture
def many() -> None:
    """Store 3,000 chunks of 200 documents; every second document is known an hour after T0."""
    documents = Document.objects.bulk_create(
        [
            Document(
                key=f"{n:064}",
                uri=f"doc {n}",
                source="s",
                content_sha256=f"{n:064x}",
                known_at=T0 + (HOUR if n % 2 else -HOUR),
                created_at=T0,
            )
            for n in range(200)
        ]
    )
    words = ("bridge", "funding", "validator", "liquidity", "oracle", "treasury", "airdrop", "governance")
    texts = [f"{words[n % 8]} note {n} on {words[n // 8 % 8]} and venue {n % 97}" for n in range(MANY)]
    by = Local()
    Chunk.objects.bulk_create(
        [
            Chunk(
                document=documents[n % 200], place=n // 200, text=text, embedder=by.identity, embedding=vector
            )
            for n, (text, vector) in enumerate(zip(texts, by.embed(texts), strict=True))
        ],
        batch_size=500,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE knowledge_chunks, knowledge_documents")


def test_the_index_is_used_and_agrees_with_the_exact_search(many: None, configure: Configure) -> None:
    question = "liquidity note on oracle at venue 41"
    [vector] = Local().embed([question])
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        plan = nearest(vector, Local.identity, T0, "ETH", ["ann"])[:10].explain()
    assert "knowledge_chunks_hnsw" in plan

    approximate = passages(question, at=T0, token="ETH", agents=["ann"])
    configure(search={"exact": True})
    with CaptureQueriesContext(connection) as queries:
        exact = passages(question, at=T0, token="ETH", agents=["ann"])
    assert any("enable_indexscan = off" in query["sql"] for query in queries)
    assert len(approximate) == len(exact) == 5
    assert {row.known_at for row in (*approximate, *exact)} == {T0 - timedelta(hours=1)}
    assert len({row.text for row in approximate} & {row.text for row in exact}) >= 4
    assert (approximate[0].text, approximate[0].similarity) == (exact[0].text, exact[0].similarity)
