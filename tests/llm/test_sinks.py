"""Canary secrets in the configuration, in posts, in answers and in errors: none of them in any sink of a real stack.

A real worker with the secrets in its environment reads posts that hold them, with a model that quotes them, and runs
tasks that say them in every way. Then every place where something could have been kept is searched.
"""

import html
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from redis import Redis as RedisClient

from maxxit.access.auth import create_key
from maxxit.core import clock
from maxxit.core.config import ROOT
from maxxit.embedded.processes import wait_until
from maxxit.embedded.servers import Redis
from maxxit.events.models import Event
from maxxit.llm.models import LlmTrace
from maxxit.pipeline.models import StageRun
from maxxit.pipeline.stages import QUEUES
from signals_app.models import CtPost, RejectedPost, Signal
from tests import builders as make
from tests.llm import server as fake
from tests.llm.canaries import KEY, KNOWN, MNEMONIC, PATTERN, SURVIVE, TOKEN, WORDS, core
from tests.llm.leaky_tasks import ALL
from tests.llm.server import Handler, ModelServer
from tests.servers import Worker
from tests.surface.test_access import EVERY_URL

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.broker]
POSTS = {**{name: encoded for name, (_, encoded) in KNOWN.items()}, **SURVIVE}
IDS = {name: str(936389222470004736 + number) for number, name in enumerate(POSTS)}
NODE = "leaky@localhost"
FULL = (
    *("table ct_posts", "table ct_posts_rejected", "table events", "table llm_traces", "table stage_runs"),
    *("Redis", "log", "task events (Flower)", "recordings", "Langfuse and OTLP", "pages", "api", "commands"),
)
"""Sinks that would prove nothing if they were empty."""


@dataclass
class Stack:
    """The parts of it, and what they say on the way."""

    folder: Path
    redis: Redis
    worker: Worker
    model: ModelServer

    def run(self, task: str, queue: str = "default") -> None:
        """Send a task and wait for its end, good or bad."""
        with Celery("sender", broker=self.redis.url, backend=self.redis.url) as sender:
            sent = sender.send_task(task, queue=queue, ignore_result=False)
            sent.get(timeout=180, propagate=False)


def quoting(number: Iterator[int]) -> fake.Reply:
    """A model that says all that it should not: in errors, in words, and in good answers."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        turn = next(number)
        told = f"your key is {handler.headers['authorization']}; {ALL}"
        if turn == 0:
            fake.status(401, told)(handler, body)
        elif turn == 1:
            fake.status(500, told)(handler, body)
        elif turn == 2:
            fake.says(told)(handler, body)
        else:
            fake.says(good(body, told))(handler, body)

    return reply


def good(body: dict[str, Any], told: str) -> dict[str, Any]:
    """A valid answer to a question about posts or about a trade."""
    said = body["messages"][-1]["content"]
    data, _ = json.JSONDecoder().raw_decode(said[said.index("\n{") + 1 :])
    if "token" in data:
        trade = {"take": True, "confidence": 0.9, "stop_loss_pct": 5, "take_profit_pct": 15, "leverage": 1}
        return trade | {"reasoning": told[:990]}
    names = {ident: name for name, ident in IDS.items()}
    return {
        "readings": [
            {
                **{"post_id": post["post_id"], "candidate": True, "tokens": ["BTC"], "sentiment": "bullish"},
                **{"confidence": 0.9, "reasoning": POSTS[names[post["post_id"]]][:990], "sides": {}},
            }
            for post in data["posts"]
        ]
    }


def configured(folder: Path, posts: Path, collector: str) -> Path:
    """The project's config: one provider, one file of posts, traces to both exporters, models that propose trades."""
    shutil.copytree(ROOT / "config", folder)
    for name, change in {
        "llm": {
            "exports": ["langfuse", "otlp"],
            "purposes": {
                purpose: {"chain": ["openai"], "budget_usd_per_day": 5, "calls_per_day": 99, "items": "posts"}
                for purpose in ("classify", "generate")
            },
        },
        "signals": {"ingest": {"sources": {"jsonl": {"adapter": "jsonl", "paths": [str(posts)]}}}},
    }.items():
        values = yaml.safe_load((folder / f"{name}.yaml").read_text()) | change
        if name == "signals":
            values["generate"]["proposer"] = "model"
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def collector() -> Iterator[ModelServer]:
    with fake.running() as server:
        server.otherwise = fake.raw(b"{}")
        yield server


@pytest.fixture
def stack(tmp_path: Path, worker_environ: dict[str, str], collector: ModelServer) -> Iterator[Stack]:
    """A Redis and a worker of its own, a model that quotes, posts that leak."""
    redis = Redis(tmp_path, ephemeral=True)
    redis.start()
    posts = tmp_path / "posts.jsonl"
    with fake.running() as model:
        model.otherwise = quoting(count())
        config = configured(tmp_path / "config", posts, collector.url)
        environ = worker_environ | {
            "REDIS_URL": redis.url,
            "MAXXIT_CONFIG_DIR": str(config),
            "MAXXIT_PROFILE": "",
            "MAXXIT_LLM_RECORDINGS": f"record:{tmp_path / 'recordings'}",
            "LOG_JSON": "true",  # for people: tests/llm/test_redact.py
            "SOME_PRIVATE_KEY": KEY,
            "SOME_PASSWORD": WORDS,
            "WALLET_MNEMONIC": MNEMONIC,
            "SOME_RPC_URL": f"https://rpc.example/v3/{TOKEN}",
            "OPENAI_API_KEY": f"sk-proj-{PATTERN}",
            "OPENAI_BASE_URL": model.url.replace("//", f"//maxxit:{PATTERN}@"),
            "LANGFUSE_BASE_URL": collector.url,
            "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
            "LANGFUSE_SECRET_KEY": f"sk-lf-{PATTERN}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        }
        worker = Worker(environ, tmp_path / "worker.log", ",".join(QUEUES), NODE, "tests.llm.leaky_tasks")
        try:
            worker.start()
            yield Stack(tmp_path, redis, worker, model)
        finally:
            worker.kill()
            redis.stop()


def written(now: str) -> str:
    """A file of posts, one for each canary and each survivor, and lines that are no posts."""
    good = [
        json.dumps(
            {"id": IDS[name], "username": "Author", "created_at": now, "text": f"Long $BTC here, {said}"}
        )
        for name, said in POSTS.items()
    ]
    bad = [json.dumps({"id": "", "username": "Author", "text": said}) for _, said in KNOWN.values()]
    return "\n".join([*good, *bad, *(said.replace("\n", " ") for _, said in KNOWN.values())]) + "\n"


@contextmanager
def watching(url: str) -> Iterator[list[dict[str, Any]]]:
    """What Flower hears: every event of the worker."""
    heard: list[dict[str, Any]] = []
    with Celery("watch", broker=url) as app, app.connection_for_read() as link:
        receiver = app.events.Receiver(link, handlers={"*": heard.append})
        thread = threading.Thread(target=lambda: receiver.capture(wakeup=False), daemon=True)
        thread.start()
        assert wait_until(lambda: bool(heard), 30), "the worker's heartbeat"
        yield heard
        assert wait_until(lambda: any(one["type"] == "task-failed" for one in heard), 10)
        receiver.should_stop = True
        thread.join(10)


@pytest.mark.limit(600)
def test_no_sink_holds_a_secret_and_every_sink_holds_what_is_none(
    stack: Stack, collector: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = clock.now()
    agent = make.agent(tokens=["BTC"], name="Follower")
    make.account(agent, username="Author")
    deployment = make.deployment(agent)
    make.order(deployment)
    make.price("BTC", "50000")
    hour = begun.replace(minute=0, second=0, microsecond=0)
    make.hourly_bars("BTC", make.calm(50000.0), until=hour)
    (stack.folder / "posts.jsonl").write_text(written((begun - timedelta(minutes=5)).isoformat()))

    with watching(stack.redis.url) as heard:
        stack.run("maxxit.pipeline.tasks.export_traces")  # from here on
        stack.run("signals_app.tasks.ingest")
        for _ in range(3):
            stack.run("signals_app.tasks.classify")
        stack.run("signals_app.tasks.generate")
        for task in ("tell", "fail", "validate", "stage", "order"):
            stack.run(f"tests.leak.{task}")
        LlmTrace.objects.update(ts=clock.now() - timedelta(minutes=1))
        stack.run("maxxit.pipeline.tasks.export_traces")

    # It all happened.
    assert CtPost.objects.count() == len(POSTS)
    assert RejectedPost.objects.count() == 2 * len(KNOWN)
    assert not CtPost.objects.filter(state="new").exists()
    assert Signal.objects.count() >= 1
    assert set(LlmTrace.objects.values_list("status", flat=True)) == {"ok", "error"}
    assert set(LlmTrace.objects.values_list("purpose", flat=True)) == {"classify", "generate"}
    assert StageRun.objects.exclude(error="").exists()
    assert Event.objects.filter(name="ctpost.leak").exists()

    sinks = {
        **tables(),
        **keys(stack.redis.url),
        "log": [(stack.folder / "worker.log").read_text()],
        "task events (Flower)": texts(heard),
        "recordings": [text for file in (stack.folder / "recordings").rglob("*.json") for text in read(file)],
        "Langfuse and OTLP": texts(collector.asked),
        **pages(),
        **commands(),
    }
    found = {
        (sink, name)
        for sink, said in sinks.items()
        for text in [html.unescape("\n".join(said)).lower()]
        for name in KNOWN
        if core(name) in text
    }
    with capsys.disabled():
        print(
            f"\n{len(KNOWN)} canaries, {len(sinks)} sinks, {sum(map(len, sinks.values())):,} texts,", end=" "
        )
        print(f"{len(found)} found")
    assert not found, [
        (sink, name, re.findall(f".{{60}}{re.escape(core(name))}", "\n".join(sinks[sink]), re.I | re.S)[:1])
        for sink, name in sorted(found)
    ]
    assert not [sink for sink in FULL if not sinks[sink]]
    kept = dict(CtPost.objects.values_list("post_id", "text"))
    thought = dict(CtPost.objects.values_list("post_id", "reasoning"))
    for name, said in SURVIVE.items():
        assert kept[IDS[name]] == f"Long $BTC here, {said}"
        assert thought[IDS[name]] == said
        assert any(said in text for text in sinks["table llm_traces"])


def texts(value: Any) -> list[str]:
    """Every text inside a structure; JSON inside a text is looked into as well."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        try:
            inner = json.loads(value) if value[:1] in '{["' else None
        except ValueError:
            inner = None
        return [value, *(texts(inner) if inner is not None else [])]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts(one)]
    if isinstance(value, list | tuple | set):
        return [text for one in value for text in texts(one)]
    return [str(value)]


def read(file: Path) -> list[str]:
    return [*texts(file.read_text()), file.name]


def tables() -> dict[str, list[str]]:
    """All rows of all tables."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[f"table {table}"] = [
                text for row in cursor.fetchall() for one in row for text in texts(one)
            ]
    return found


def keys(url: str) -> dict[str, list[str]]:
    """All that Redis holds."""
    read: dict[str, Callable[[RedisClient, bytes], Any]] = {
        "string": lambda link, key: link.get(key),
        "list": lambda link, key: link.lrange(key, 0, -1),
        "set": lambda link, key: link.smembers(key),
        "hash": lambda link, key: link.hgetall(key),
        "zset": lambda link, key: link.zrange(key, 0, -1),
    }
    with RedisClient.from_url(url) as link:
        found = [
            text
            for key in link.scan_iter()
            for text in [*texts(key), *texts(read[link.type(key).decode()](link, key))]
        ]
    return {"Redis": found}


def pages() -> dict[str, list[str]]:
    """Every page of the admin with its rows, every other page, and the API."""
    staff = User.objects.create_superuser("root", password="not a secret at all 1")
    browser, api = Client(raise_request_exception=False), Client(raise_request_exception=False)
    browser.force_login(staff)
    key = create_key(staff, "sinks", ["read"], by="test")
    found: dict[str, list[str]] = {"pages": [], "api": []}
    for url in EVERY_URL:
        if "logout" in url or "stream" in url:
            continue
        found["pages"].append(shown(browser, url))
        if url.startswith("/api/"):
            found["api"].append(shown(api, url, {"x-api-key": key}))
    for model in admin.site._registry:
        place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        for pk in model._default_manager.order_by("pk").values_list("pk", flat=True)[:80]:
            found["pages"].append(shown(browser, f"{place}{pk}/change/"))
    return found


def shown(browser: Client, url: str, headers: dict[str, str] | None = None) -> str:
    answer: Any = browser.get(url, headers=headers)
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return str(re.sub(r"<wbr\s*/?>", "", body.decode("utf-8", "replace")))


def commands() -> dict[str, list[str]]:
    """What people ask for on the command line."""
    said = []
    for words in (
        ["llm", "last", "-n", "200", "--json", "--summary"],
        ["llm", "follow", "-n", "200", "--rounds", "1"],
        ["status", "--json"],
        ["dlq", "list", "--json"],
    ):
        out = StringIO()
        call_command(*words, stdout=out)
        said.append(out.getvalue())
    assert said[0]
    return {"commands": said}
