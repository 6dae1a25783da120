"""`manage.py readers`: train on files, store behind the gate, read through the provider."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.core.errors import Misconfigured
from maxxit.learning.models import TrainedModel
from maxxit.llm.providers.base import Request
from signals_app.reading.trained import model
from signals_app.reading.trained.provider import Trained


def run(*words: str) -> Any:
    out = StringIO()
    call_command("readers", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def request(text: str) -> Request:
    data = {"posts": [{"post_id": "1", "text": text, "prices": {}}], "tokens": {"BTC": ["btc"]}}
    return Request(
        purpose="classify",
        system="",
        user="",
        data=data,
        cut={},
        schema={},
        schema_name="Readings",
        max_tokens=1,
    )


@pytest.fixture
def labelled(tmp_path: Path) -> list[str]:
    """Eighty posts of ten authors, half of them calls."""
    rows, posts = ["id,username,label,token,side"], []
    for n in range(80):
        call, author = n % 2 == 0, f"author{n % 10}"
        side = "short" if n % 8 == 0 else "long"
        text = f"Going {side} $BTC here, number {n}" if call else f"We talked about $BTC at lunch, number {n}"
        rows.append(f"{n},{author},candidate,BTC,{side}" if call else f"{n},{author},none,,")
        posts.append(
            {"id": str(n), "username": author, "created_at": "2022-01-01T00:00:00.000Z", "text": text}
        )
    labels, texts = tmp_path / "labels.csv", tmp_path / "posts.jsonl"
    labels.write_text("\n".join(rows))
    texts.write_text("\n".join(map(json.dumps, posts)))
    return ["--labelled", str(labels), "--posts", str(texts)]


def test_a_reader_is_trained_on_files_and_asked(labelled: list[str], tmp_path: Path) -> None:
    out = tmp_path / "reader.json"
    told = run("train", *labelled, "--embeddings", "no", "--out", str(out))
    assert told["metrics"]["precision"] > 0.9
    assert told["measured_on"].startswith("the training posts")
    asked = run("explain", str(out), "Going short $BTC here, number 99")
    assert (asked["candidate"], asked["sentiment"]) == (True, "bearish")


def test_too_few_calls_are_refused(labelled: list[str], tmp_path: Path) -> None:
    path = Path(labelled[1])
    path.write_text("\n".join(path.read_text().splitlines()[:20]))
    with pytest.raises((CommandError, Misconfigured), match="do not suffice"):
        run("train", *labelled, "--embeddings", "no", "--out", str(tmp_path / "reader.json"))


@pytest.mark.django_db
def test_a_reader_is_stored_with_its_verdict_and_not_promoted() -> None:
    told = run("store", "reader-1")
    row = TrainedModel.objects.get(pk=told["id"])
    assert (row.purpose, row.state, row.horizon_hours, told["new"]) == ("reading", "candidate", 0, True)
    assert not run("store", "reader-1")["new"]
    with pytest.raises(CommandError, match="recall"):
        call_command("models", "promote", str(row.pk), "--by", "test", stdout=StringIO(), stderr=StringIO())


@pytest.mark.django_db
def test_another_fit_to_the_same_data_is_another_row(tmp_path: Path) -> None:
    written = json.loads((model.HERE / "reader-1.json").read_text())
    ids = []
    for slope in (written["parameters"]["slope"], 0.5):
        path = tmp_path / f"{slope}.json"
        path.write_text(json.dumps(written | {"parameters": written["parameters"] | {"slope": slope}}))
        told = run("store", str(path))
        assert told["new"]
        ids.append(told["id"])
        assert (run("store", str(path))["id"], run("store", str(path))["new"]) == (told["id"], False)
    assert [TrainedModel.objects.get(pk=pk).parameters["slope"] for pk in ids] == [
        written["parameters"]["slope"],
        0.5,
    ]
    assert (run("store", "reader-1")["id"], run("store", "reader-1")["new"]) == (ids[0], False)


@pytest.mark.django_db
def test_figures_that_are_not_of_held_out_posts_are_stored_with_a_warning(tmp_path: Path) -> None:
    written = json.loads((model.HERE / "reader-1.json").read_text())
    assert run("store", "reader-1")["warning"] == ""
    path = tmp_path / "own.json"
    for measured_on in ("the training posts, by readers fitted without the author", None):
        path.write_text(json.dumps(written | {"measured_on": measured_on}))
        out = StringIO()
        call_command("readers", "store", str(path), stdout=out)
        assert f"warning: these figures are of {measured_on or 'unknown posts'}" in out.getvalue()
        assert "not of held-out posts" in run("store", str(path))["warning"]


@pytest.mark.django_db
def test_the_provider_reads_with_the_model_that_serves() -> None:
    with pytest.raises(Misconfigured, match="no trained reader serves"):
        Trained().complete(request("Just longed $BTC"))
    row = TrainedModel.objects.get(pk=run("store", "reader-1")["id"])
    TrainedModel.objects.filter(pk=row.pk).update(state="serving")
    answer = Trained().complete(request("Just longed $BTC, target 50k"))
    assert json.loads(answer.text)["readings"][0]["candidate"]
    assert answer.model == f"reader-1 #{row.pk}"


def test_the_provider_reads_with_named_parameters() -> None:
    answer = Trained(model="reader-1").complete(request("Just longed $BTC, target 50k"))
    assert (json.loads(answer.text)["readings"][0]["tokens"], answer.model) == (["BTC"], "reader-1")
    assert model.SHIPPED == ("reader-1", "reader-2", "reader-3")
