"""The embedded servers: durable, recovering, alone, and gone when they should be."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from maxxit.embedded import servers
from maxxit.embedded.processes import wait_until
from maxxit.embedded.servers import Postgres, Redis, urls


@pytest.fixture
def data(folder: Path) -> Path:
    return folder


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def postgres(data: Path, said: list[str]) -> Iterator[Postgres]:
    server = Postgres(data, say=said.append)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def embedded_redis(data: Path, said: list[str]) -> Iterator[Redis]:
    server = Redis(data, say=said.append)
    server.start()
    yield server
    server.stop()


def write_row(server: Postgres) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept (number numeric)")
        connection.execute("INSERT INTO kept VALUES (1.000000000000000001)")


def read_row(server: Postgres) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT number::text FROM kept").fetchone()
    return row[0] if row else ""


def test_urls_are_the_same_before_and_while_they_run(data: Path) -> None:
    before = urls(data)
    server = Redis(data)
    server.start()
    during = urls(data)
    server.stop()

    assert before[0] == during[0] == Postgres(data).url
    assert before[1].split("@")[0] == during[1].split("@")[0]


def test_postgres_killed_keeps_what_was_committed_and_says_so(postgres: Postgres, said: list[str]) -> None:
    write_row(postgres)
    assert postgres.process is not None
    postgres.process.kill()
    postgres.process.wait()
    postgres.start()

    assert read_row(postgres) == "1.000000000000000001"
    assert said == ["Postgres was killed last time: it recovers from its WAL now; nothing committed is lost"]


def test_a_postgres_left_over_is_stopped_first(postgres: Postgres, data: Path, said: list[str]) -> None:
    write_row(postgres)
    left = postgres.process
    assert left is not None
    second = Postgres(data, say=said.append)
    second.start()
    kept = read_row(second)
    second.stop()

    assert kept == "1.000000000000000001"
    assert left.wait(1) == 0
    assert said == [f"Postgres of an earlier run is still running (pid {left.pid}): stopping it first"]


def test_a_pid_file_of_somebody_else_is_no_reason_to_kill(postgres: Postgres) -> None:
    postgres.stop()
    (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.data}\n")
    postgres.start()

    assert postgres._answers()


def test_postgres_has_vectors_exact_numbers_and_no_open_door(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE EXTENSION vector")
        settings = connection.execute(
            "SELECT current_setting('listen_addresses'), current_setting('fsync'), current_setting('timezone')"
        ).fetchone()

    assert settings == ("", "on", "UTC")
    assert stat.S_IMODE(postgres.sockets.stat().st_mode) == 0o700


def test_a_long_path_gets_a_short_socket(data: Path) -> None:
    deep = data / ("long" * 25)
    deep.mkdir()
    server = Postgres(deep, ephemeral=True)
    server.start()
    answered = server._answers()
    server.stop()

    assert answered
    assert len(bytes(server.sockets)) < 80


def test_redis_killed_keeps_its_messages(embedded_redis: Redis) -> None:
    url = embedded_redis.url
    with redis.Redis.from_url(embedded_redis.url) as client:
        client.lpush("queue", *range(500))
        client.bgrewriteaof()  # the file is written every second; this makes it now
        assert wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 5)
    assert embedded_redis.process is not None
    embedded_redis.process.kill()
    embedded_redis.process.wait()
    embedded_redis.start()

    assert embedded_redis.url == url
    with redis.Redis.from_url(url) as client:
        assert client.llen("queue") == 500


def test_redis_asks_for_the_password_and_never_forgets_by_itself(embedded_redis: Redis) -> None:
    once = Retry(NoBackoff(), 0)
    with (
        redis.Redis(port=embedded_redis.port, retry=once) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with redis.Redis.from_url(embedded_redis.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    for name in ("password", "redis.conf"):
        assert stat.S_IMODE((embedded_redis.home / name).stat().st_mode) == 0o600


def test_redis_takes_another_port_where_one_is_taken_between_the_look_and_the_start(
    embedded_redis: Redis, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, looks = servers._free_port, []

    def too_early(first: int) -> int:
        looks.append(first)
        return embedded_redis.port if len(looks) == 1 else free(first)

    monkeypatch.setattr(servers, "_free_port", too_early)
    second = Redis(tmp_path_factory.mktemp("second"), ephemeral=True)
    second.start()
    with redis.Redis.from_url(second.url) as client:
        answered = client.ping()
    second.stop()

    assert answered
    assert second.port != embedded_redis.port
    assert len(looks) == 2


def test_redis_moves_to_a_free_port_and_the_url_follows(
    embedded_redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "redis").mkdir()
    (other / "redis" / "port").write_text(str(embedded_redis.port))
    second = Redis(other, ephemeral=True)
    second.start()
    url = urls(other)[1]
    with redis.Redis.from_url(url) as client:
        answered = client.ping()
    second.stop()

    assert answered
    assert url != embedded_redis.url
    assert second.port != embedded_redis.port


def test_the_broker_is_not_the_redis_6_with_known_holes(embedded_redis: Redis) -> None:
    """CVE-2024-46981 and CVE-2025-49844, both in Lua, are closed in Valkey 9 and not in Redis 6.2.14."""
    with redis.Redis.from_url(embedded_redis.url) as client:
        told = client.info("server")
    assert told["server_name"] == "valkey"
    assert int(told["valkey_version"].split(".")[0]) >= 9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's signal is Linux's")
def test_servers_end_with_a_killed_parent(data: Path) -> None:
    code = (
        "import pathlib, sys, time; from maxxit.embedded.servers import *; d = pathlib.Path(sys.argv[1]); "
        "p, r = Postgres(d), Redis(d); p.start(); r.start(); print(p.process.pid, r.process.pid, flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(data)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        os.kill(parent.pid, signal.SIGKILL)

    assert len(pids) == 2
    assert wait_until(lambda: not any(_alive(pid) for pid in pids), 8)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
