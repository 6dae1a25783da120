"""Comparisons: a second reader reads a sampled share, acts on nothing, and is compared with the one in use."""

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.core import clock
from maxxit.core.config import ROOT
from maxxit.core.errors import Rejected, Retryable
from maxxit.events.models import Event
from maxxit.llm import prompts, versions
from maxxit.llm.models import LlmTrace
from signals_app import comparison, shadow, shadow_reading
from signals_app.models import Comparison, CtPost, ShadowReading, Signal
from signals_app.reading.provider import LexicalReader
from tests import builders

pytestmark = pytest.mark.django_db
ALL = Decimal(1)


def start(name: str = "second", **changes: Any) -> Comparison:
    values: dict[str, Any] = {"provider": "rules", "share": ALL, "by": "olga"} | changes
    return shadow.start(name, **values)


@pytest.fixture
def author() -> Any:
    builders.price("ETH", "2000")
    return builders.account()


def read(author: Any, text: str, sides: dict[str, str] | None = None, **fields: Any) -> CtPost:
    """A post that the reader in use has read; with sides it is a call."""
    if sides:
        return builders.candidate(author, sides, text=text, **fields)
    values: dict[str, Any] = {
        "state": "classified",
        "confidence": Decimal("0.1"),
        "is_signal_candidate": False,
    }
    return builders.post(author, text=text, **values, **fields)


def test_a_second_reader_reads_what_is_read_from_now_on_and_acts_on_nothing(author: Any) -> None:
    read(author, "Long ETH, buying before")
    row = start()
    call, none = read(author, "Buying ETH here, long"), read(author, "Good morning")
    builders.post(author, text="Long ETH, not read yet")
    before = list(CtPost.objects.order_by("pk").values())
    assert shadow_reading.read_shadows() == 2
    assert shadow_reading.read_shadows() == 0
    assert {one.post: one.sides for one in row.readings.all()} == {call: {"ETH": "long"}, none: {}}
    assert list(CtPost.objects.order_by("pk").values()) == before
    assert not Signal.objects.exists()
    assert set(LlmTrace.objects.values_list("purpose", flat=True)) == {"shadow"}


def test_no_decision_imports_what_a_second_reader_says() -> None:
    for path in (*(ROOT / "signals_app").glob("*.py"), *(ROOT / "trading").rglob("*.py")):
        if path.name not in (
            "shadow.py",
            "shadow_reading.py",
            "comparison.py",
            "admin.py",
            "models.py",
            "tasks.py",
        ):
            assert "ShadowReading" not in path.read_text(), path
            assert "shadow_readings" not in path.read_text(), path


def test_posts_behind_one_that_is_not_read_wait_for_it_an_hour(author: Any) -> None:
    start()
    waiting = builders.post(author, text="Long ETH")
    read(author, "Buying ETH here, long")
    assert shadow_reading.read_shadows() == 0
    CtPost.objects.filter(pk=waiting.pk).update(ingested_at=clock.now() - timedelta(hours=2))
    assert shadow_reading.read_shadows() == 1


def test_the_share_is_drawn_by_hash(author: Any) -> None:
    row = start(share=Decimal("0.3"))
    drawn = [shadow_reading.sampled(row, str(number)) for number in range(2_000)]
    assert drawn == [shadow_reading.sampled(row, str(number)) for number in range(2_000)]
    assert 500 < sum(drawn) < 700


def test_the_prompt_is_the_one_that_the_comparison_names(
    author: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "# system\nRead posts carefully.\n\n# user\nThe posts:\n\n{data}\n"
    versions.create("classify", "careful-2", text, by="olga")
    asked = []

    class Spy(LexicalReader):
        def complete(self, request: Any) -> Any:
            asked.append(request.system)
            return super().complete(request)

    monkeypatch.setattr(shadow_reading, "open_provider", lambda name, stanza: Spy(name=name))
    start(prompt="careful-2")
    start("active")
    read(author, "Buying ETH here, long")
    assert shadow_reading.read_shadows() == 2
    assert sorted(asked) == sorted(["Read posts carefully.", prompts.of_file("classify").system])


def test_an_unusable_answer_is_stored_and_an_outage_waits(
    author: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = start()
    read(author, "Buying ETH here, long")

    def fails(error: Exception) -> None:
        def ask(**_: Any) -> None:
            raise error

        monkeypatch.setattr(shadow_reading, "ask", ask)

    fails(Retryable("the provider is down"))
    assert shadow_reading.read_shadows() == 0
    fails(Rejected("no JSON"))
    assert shadow_reading.read_shadows() == 1
    assert row.readings.get().error == "no JSON"
    found = comparison.compare(row)
    assert (found.posts, found.failed) == (0, 1)


def test_agreement_and_what_became_of_the_calls(author: Any) -> None:
    row, now = start(), clock.now()
    at = now - timedelta(hours=30)
    posts = [
        read(author, "a", {"ETH": "long"}, ingested_at=at),
        read(author, "b", {"ETH": "long"}, ingested_at=at),
        read(author, "c", ingested_at=at),
        read(author, "d", ingested_at=now),
        read(author, "e", {"ETH": "short"}, ingested_at=now),
    ]
    for post, sides in zip(posts, ({"ETH": "long"}, {}, {"ETH": "short"}, {}, {"ETH": "long"}), strict=True):
        ShadowReading.objects.create(
            comparison=row, post=post, sides=sides, latency_ms=100, cost_usd=Decimal("0.002"), batch=5, at=now
        )
    LlmTrace.objects.create(
        ts=now + timedelta(seconds=1), purpose="classify", provider="openai", model="gpt", latency_ms=300, status="ok",
        cost_usd=Decimal("0.03"), correlation_ids=[post.correlation_id for post in posts[:3]], prompt_sha256="",
        schema_sha256="", request_sha256="",
    )  # fmt: skip
    for moment, close in ((at, 2000.0), (at + timedelta(hours=24), 2100.0)):
        builders.hourly_bars("ETH", [close], until=clock.bucket(moment, timedelta(minutes=5)))
    found = comparison.compare(row)
    assert (found.posts, found.both, found.only_active, found.only_second, found.sides_differ) == (
        5,
        2,
        1,
        1,
        1,
    )
    assert (found.agreement.pairs, found.agreement.same) == (5, 2)
    outcomes = {name: (one.calls, one.known, one.right, one.mean_pct) for name, one in found.outcomes.items()}
    assert outcomes == {
        "both": (2, 1, 1, 5.0),
        "only_active": (1, 1, 1, 5.0),
        "only_second": (1, 1, 0, -5.0),
    }
    assert (found.active_usd_per_1000, found.second_usd_per_1000) == (Decimal(10), Decimal(2))
    assert (found.active_ms, found.second_ms) == (300, 100)
    assert [one.post for one in found.differing] == [posts[4], posts[2], posts[1]]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"share": Decimal(0)}, "above 0 and at most 1"),
        ({"share": Decimal("1.1")}, "above 0 and at most 1"),
        ({"provider": "gone"}, "no provider 'gone'"),
        ({"provider": "openai"}, "needs OPENAI_API_KEY"),
        ({"prompt": "gone"}, "no version 'gone'"),
        ({"name": " "}, "give 1 to 60"),
        ({"name": "second"}, "already"),
    ],
)
def test_a_comparison_that_cannot_read_is_refused(
    changes: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    start()
    with pytest.raises(Rejected, match=why):
        start(**({"name": "other"} | changes))
    assert Comparison.objects.count() == 1


def run(*words: str) -> Any:
    out = StringIO()
    call_command("comparisons", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_commands_and_their_events(author: Any) -> None:
    assert run("start", "second", "--provider", "rules", "--share", "1", "--by", "olga")["prompt"] == "active"
    read(author, "Buying ETH here, long", {"ETH": "long"})
    read(author, "Selling ETH here, short", {"ETH": "long"})
    assert run("run")["stored"] == 2
    shown = run("show", "second")
    assert (shown["both"], shown["sides_differ"]) == (2, 1)
    assert [one["second"] for one in shown["differing"]] == [{"ETH": "short"}]
    call_command("comparisons", "show", "second", stdout=(out := StringIO()))
    assert "only_second" in out.getvalue()
    assert run("stop", "second")["ended_at"]
    assert run("list")[0]["name"] == "second"
    read(author, "Buying ETH here, long")
    assert run("run")["stored"] == 0
    names = Event.objects.filter(name__startswith="comparison.").order_by("pk").values_list("name", flat=True)
    assert list(names) == ["comparison.started", "comparison.ended"]
    with pytest.raises(CommandError, match="has ended"):
        run("stop", "second")
    with pytest.raises(CommandError, match="no comparison"):
        run("show", "third")


def test_readings_go_after_the_comparison_has_ended(author: Any) -> None:
    row = start()
    read(author, "Buying ETH here, long")
    shadow_reading.read_shadows()
    assert shadow.prune(shadow.KEPT) == 0
    shadow.stop(row, by="olga")
    Comparison.objects.update(ended_at=clock.now() - shadow.KEPT - timedelta(days=1))
    assert shadow.prune(shadow.KEPT) == 1
