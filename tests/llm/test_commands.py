"""`manage.py llm` and `manage.py evaluate-classifier`."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.sites import site
from django.core.management import CommandError, call_command
from django.test import Client

from maxxit.core import clock
from maxxit.llm.models import LlmTrace
from maxxit.llm.statistics import summary, traces

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
CORR = uuid4()
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _recorded_clock() -> Iterator[None]:
    with clock.frozen(NOW):
        yield


@pytest.fixture
def hundred() -> list[LlmTrace]:
    """A hundred calls over two days: latencies 1 to 100 ms, every tenth an error."""
    return LlmTrace.objects.bulk_create(made(number) for number in range(1, 101))


def made(number: int, corr: UUID | None = None) -> LlmTrace:
    ids = [corr or uuid4(), CORR] if number == 7 else [corr or uuid4()]
    return LlmTrace(
        ts=NOW - timedelta(minutes=20 * (100 - number)),
        correlation_id=ids[0],
        correlation_ids=ids,
        agent_name="Follower" if number % 2 else "Scalper",
        purpose="classify",
        provider="openai",
        model="gpt" if number % 3 else "sonar",
        latency_ms=number,
        status="error" if number % 10 == 0 else "ok",
        error_message="away" if number % 10 == 0 else "",
        request={"system": "s", "user": f"question {number}"},
        response={"readings": [number]},
        prompt_tokens=10,
        completion_tokens=2,
        cost_usd=Decimal("0.001"),
    )


def run(name: str, *words: str, **options: Any) -> str:
    out = StringIO()
    call_command(name, *words, stdout=out, **options)
    return out.getvalue()


def lines(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("llm", *words, "--json").splitlines()]


def test_summary_counts_and_takes_percentiles(hundred: list[LlmTrace]) -> None:
    told = summary(traces())
    assert (told["calls"], told["errors"], told["error_pct"]) == (100, 10, 10.0)
    assert told["avg_ms"] == pytest.approx(50.5)
    assert told["p95_ms"] == pytest.approx(95.05)
    assert told["cost_usd"] == Decimal("0.1")
    assert [one["name"] for one in told["models"]] == ["gpt", "sonar"]
    assert summary(traces(model="none"))["p95_ms"] is None


def test_last_shows_the_newest_in_order_of_time(hundred: list[LlmTrace]) -> None:
    assert [row["latency_ms"] for row in lines("last", "-n", "3")] == [98, 99, 100]
    LlmTrace.objects.update(cost_usd=0)
    assert lines("last", "-n", "1")[0]["cost_usd"] == "0.000000000"
    assert "away" in run("llm", "last", "-n", "5", "--summary")


def test_filters(hundred: list[LlmTrace]) -> None:
    assert len(lines("last", "-n", "200", "--status", "error")) == 10
    assert len(lines("last", "-n", "200", "--model", "sonar")) == 33
    assert len(lines("last", "-n", "200", "--agent", "Scalper")) == 50
    assert len(lines("last", "-n", "200", "--since", "60m")) == 4
    assert [row["latency_ms"] for row in lines("last", "--corr", str(CORR))] == [7]
    assert len(lines("last", "-n", "200", "--since", NOW.isoformat())) == 1


def test_agent_and_summary(hundred: list[LlmTrace]) -> None:
    *rows, told = lines("agent", "Follower", "-n", "2")
    assert [row["agent_name"] for row in rows] == ["Follower", "Follower"]
    assert told["calls"] == 50
    (all_of_it,) = lines("summary")
    assert [day["calls"] for day in all_of_it["days"]] == [63, 37]
    assert "p95_ms" in run("llm", "summary")


def test_watch_and_follow(hundred: list[LlmTrace]) -> None:
    assert len(lines("watch", "-n", "2", "--rounds", "2", "--every", "0.01")) == 4
    assert len(lines("follow", "-n", "2", "--rounds", "2", "--every", "0.01")) == 2
    assert "question 100" in run("llm", "follow", "-n", "1", "--rounds", "1")


def test_a_senseless_moment_is_refused() -> None:
    with pytest.raises(CommandError, match="use 90m"):
        run("llm", "last", "--since", "yesterday")


def test_the_admin_finds_every_call_about_a_post(hundred: list[LlmTrace], admin_client: Client) -> None:
    wanted = LlmTrace.objects.get(latency_ms=7)
    assert wanted.correlation_id != CORR, "CORR is the second of the ids that the call was about"
    page = admin_client.get(f"/admin/llm/llmtrace/?q={CORR}")
    assert page.status_code == 200
    assert [row.pk for row in page.context["cl"].result_list] == [wanted.pk]
    detail = admin_client.get(f"/admin/llm/llmtrace/{wanted.pk}/change/")
    assert detail.status_code == 200
    assert "question 7" in detail.content.decode()
    for model in ("llmspend", "llmcircuit"):
        assert admin_client.get(f"/admin/llm/{model}/").status_code == 200


def test_nobody_edits_traces(admin_client: Client) -> None:
    row = made(1)
    row.save()
    for name in ("add", f"{row.pk}/delete"):
        assert admin_client.get(f"/admin/llm/llmtrace/{name}/").status_code == 403
    assert LlmTrace in site._registry


POSTS = {
    "1": ("I'm long $BTC, target 20k", [("BTC", "long")]),
    "2": ("XRP is way over valued", [("XRP", "short")]),
    "3": ("good morning everyone", []),
    "4": ("$ETH breakout confirmed", []),
    "5": ("my view on litecoin has never been brighter", [("LTC", "long")]),
}


@pytest.fixture
def labelled(tmp_path: Path) -> list[str]:
    """Five labelled posts as command-line arguments: two found, one false call, one missed."""
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "username", "label", "token", "side"])
        for post, (_, calls) in POSTS.items():
            for token, side in calls or [("", "")]:
                writer.writerow([post, "a", "candidate" if calls else "none", token, side])
    posts = [
        {"id": post, "username": "a", "created_at": "", "text": text} for post, (text, _) in POSTS.items()
    ]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, posts)))
    return ["--labelled", str(tmp_path / "labels.csv"), "--posts", str(tmp_path / "posts.jsonl")]


def test_evaluation_figures(labelled: list[str], tmp_path: Path) -> None:
    told = json.loads(run("evaluate-classifier", *labelled, "--json", "--plot", str(tmp_path / "plot.png")))
    assert told["classes"]["candidate"] == {
        **{"found": 2, "false": 1, "missed": 1},
        **{"precision": 0.6667, "recall": 0.6667, "f1": 0.6667},
        **{"precision_95": [0.2077, 0.9385], "recall_95": [0.2077, 0.9385]},
    }
    assert told["classes"]["short"]["f1"] == 1.0
    assert told["side_accuracy"] == 1.0
    assert told["confusion"] == {
        "long": {"long": 1, "none": 1},
        "short": {"short": 1},
        "none": {"none": 1, "long": 1},
    }
    assert {error["kind"] for error in told["errors"]} == {"false call", "missed"}
    assert (told["calls"], told["cost_usd"]) == (0, "0")  # the rules ask nobody
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "false call" in run("evaluate-classifier", *labelled, "--provider", "rules")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--min-precision", "0.9"], 1),
        (["--min-recall", "0.6"], 0),
        (["--provider", "nobody"], 2),
        (["--half", "all"], 0),
    ],
)
def test_exit_codes(more: list[str], code: int, labelled: list[str]) -> None:
    if not code:
        run("evaluate-classifier", *labelled, *more)
        return
    with pytest.raises(CommandError) as failed:
        run("evaluate-classifier", *labelled, *more)
    assert failed.value.returncode == code


def test_a_bad_label_names_its_line(labelled: list[str]) -> None:
    file = Path(labelled[1])
    file.write_text(file.read_text() + "9,a,perhaps,,\n")
    with pytest.raises(
        CommandError, match=r"labels\.csv:7: the label must be candidate, .*; it is perhaps"
    ) as failed:
        run("evaluate-classifier", *labelled)
    assert failed.value.returncode == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"labels\.csv:1: the header lacks id, username, label, token, side"),
        (b"x\n1\n", r"labels\.csv:1: the header lacks id"),
        (b"id,username,label,token,side\n", "has no label after its header"),
        (b"\xff\xfei\x00d\x00", r"labels\.csv:1: UTF-16, not UTF-8"),
        (b"\xa5\xa5", r"labels\.csv:1: not UTF-8"),
        (b"id,username,label,token,side\n1," + b"x" * 200_000, r"labels\.csv:2: not CSV: field larger"),
        (b"id,username,label,token,side\n1,a,candidate,ETH,up\n", r"labels\.csv:2: the label must be"),
    ],
    ids=["empty", "header", "no row", "utf-16", "binary", "huge", "side"],
)
def test_labels_that_cannot_be_read_are_exit_code_2_with_the_line(
    labelled: list[str], content: bytes, why: str
) -> None:
    Path(labelled[1]).write_bytes(content)
    with pytest.raises(CommandError, match=why) as failed:
        run("evaluate-classifier", *labelled)
    assert failed.value.returncode == 2


def test_lines_of_the_posts_that_are_none_are_skipped(labelled: list[str]) -> None:
    posts = Path(labelled[3])
    posts.write_bytes(b"\xff\xfe\x00\n[]\n{bad\n" + posts.read_bytes())
    assert json.loads(run("evaluate-classifier", *labelled, "--json"))["posts"] == 5


def test_a_missing_post_is_named(labelled: list[str]) -> None:
    Path(labelled[3]).write_text("")
    with pytest.raises(CommandError, match="lacks 5 of 5 posts"):
        run("evaluate-classifier", *labelled)
