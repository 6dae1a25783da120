"""The environment: what is refused, what is made, and what production insists on."""

import base64
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connections
from django.test import Client

from maxxit.core import redact
from maxxit.core.errors import Misconfigured
from maxxit.env import BASE_DIR, read_env
from maxxit.ops import local

KEY = "kV3-qW9z_TbY7mR2pLx8nCf5hJd1sGa6eUo4iXw0vBtZyQkMrN"
PRODUCTION = {
    "MAXXIT_PROFILE": "production",
    "SECRET_KEY": KEY,
    "DATABASE_URL": "postgresql://maxxit@db.example/maxxit",
    "REDIS_URL": "rediss://redis.example/0",
    "ALLOWED_HOSTS": "maxxit.example, www.maxxit.example",
}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine with nothing set."""
    for name in (*PRODUCTION, "DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MAXXIT_DATA_DIR", str(tmp_path))
    return monkeypatch


def manage(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bare_machine_gets_servers_and_a_private_key(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env = read_env()

    assert env.embedded_postgres
    assert env.embedded_redis
    assert env.key == read_env().key
    assert len(env.key) >= 50
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert env.key not in repr(env)


def test_secrets_that_are_made_here_are_masked_wherever_they_turn_up(
    environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    redact.forget()
    env = read_env()
    environ.setenv("FLOWER_BASIC_AUTH", local.flower(env)["FLOWER_BASIC_AUTH"])
    redact.forget()
    told = [env.key, env.broker]  # what settings read in every process
    redact.know_environment()

    flower = (tmp_path / "flower_password").read_text()
    redis = (tmp_path / "redis" / "password").read_text()
    said = redact.text(" ".join([*told, redis, base64.b64encode(f"admin:{flower}".encode()).decode()]))
    assert not any(secret in said for secret in (env.key, redis, flower))
    assert said.count(redact.MASK) == 4, said


def test_a_command_sees_the_profile_of_the_last_start(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("demo")

    assert read_env().maxxit_profile == "demo"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "a" * 60),
        ("SECRET_KEY", "django-insecure-" + KEY),
        ("DATABASE_URL", ""),
        ("REDIS_URL", ""),
        ("ALLOWED_HOSTS", ""),
        ("ALLOWED_HOSTS", "maxxit.example,*"),
        ("DEBUG", "true"),
        ("WEB_PORT", "http"),
    ],
)
def test_production_refuses_and_names_the_variable(
    environ: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for key, good in (PRODUCTION | {name: value}).items():
        environ.setenv(key, good)

    with pytest.raises(Misconfigured, match=name):
        read_env()


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS"])
def test_production_refuses_to_start_where_a_variable_is_not_set(
    environ: pytest.MonkeyPatch, name: str
) -> None:
    for key, good in PRODUCTION.items():
        environ.setenv(key, good)
    assert read_env().production
    environ.delenv(name)

    with pytest.raises(Misconfigured, match=name):
        read_env()


@pytest.mark.parametrize("profile", ["prod", "Production", "production "])
def test_a_profile_that_is_none_is_refused_with_the_known_ones(
    environ: pytest.MonkeyPatch, profile: str
) -> None:
    environ.setenv("MAXXIT_PROFILE", profile)

    with pytest.raises(Misconfigured, match=r"MAXXIT_PROFILE.*demo, production, replay"):
        read_env()


def test_the_application_and_the_owner_are_two_roles(environ: pytest.MonkeyPatch) -> None:
    assert read_env().database()["USER"] == "maxxit_app"
    environ.setenv("MAXXIT_DATABASE_ROLE", "owner")
    assert read_env().database()["USER"] == "maxxit"

    environ.setenv("DATABASE_URL", "postgresql://app@db.example/maxxit")
    environ.setenv("DATABASE_OWNER_URL", "postgresql://owner@db.example/maxxit")
    assert read_env().database()["USER"] == "owner"
    environ.setenv("MAXXIT_DATABASE_ROLE", "application")
    assert read_env().database()["USER"] == "app"


def test_other_databases_are_refused(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("DATABASE_URL", "sqlite:///x.db")

    with pytest.raises(Misconfigured, match="DATABASE_URL"):
        read_env().database()


def test_the_production_settings_pass_djangos_own_check() -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)

    assert done.returncode == 0, done.stderr


def test_a_missing_server_names_the_way_out(tmp_path: Path) -> None:
    done = manage("showmigrations", DATABASE_URL="", REDIS_URL="", MAXXIT_DATA_DIR=str(tmp_path))

    assert done.returncode == 1
    assert "Postgres is not running: start it with `make up` or set DATABASE_URL" in done.stderr


@pytest.mark.django_db
def test_every_session_has_limits() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
            " current_setting('idle_in_transaction_session_timeout')"
        )
        assert cursor.fetchone() == ("5min", "30s", "2min")


def test_a_process_may_keep_the_plans_of_its_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREPARED_STATEMENTS", "true")
    options = read_env().database()["OPTIONS"]
    assert options["server_side_binding"]
    assert "-c enable_seqscan=off" in options["options"]
    monkeypatch.delenv("PREPARED_STATEMENTS")
    options = read_env().database()["OPTIONS"]
    assert "server_side_binding" not in options
    assert "seqscan" not in options["options"]


@pytest.mark.django_db
def test_every_answer_has_a_content_security_policy(client: Client) -> None:
    strict = client.get("/nowhere").headers["Content-Security-Policy"]
    admin = client.get("/admin/login/").headers["Content-Security-Policy"]

    assert "script-src 'self';" in strict
    assert "unsafe" not in strict
    assert "'unsafe-eval'" in admin
    assert "frame-ancestors 'none'" in admin


def test_only_json_travels() -> None:
    assert settings.CELERY_ACCEPT_CONTENT == settings.CELERY_RESULT_ACCEPT_CONTENT == ["json"]
    assert settings.SESSION_SERIALIZER.endswith("JSONSerializer")


@pytest.mark.parametrize("value", [7, -1, "12", "posts", 1.5, None, True, ["a", 1], {"until": 3.25}])
def test_the_cache_gives_back_what_it_was_given(empty_cache: None, value: object) -> None:
    cache.set("value", value)
    found = cache.get("value")
    assert (found, type(found)) == (value, type(value))


def test_a_pickle_in_the_cache_is_never_loaded(empty_cache: None, tmp_path: Path) -> None:
    """Whoever writes to Redis would else run code in every process that reads it."""
    place = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {place}",)

    client = cache._cache.get_client(None, write=True)  # type: ignore[attr-defined]  # Redis as the cache reads it
    client.set(cache.make_key("value"), pickle.dumps(Attack()))
    with pytest.raises(ValueError):  # noqa: PT011 -- JSON or UTF-8, as the bytes happen to be
        cache.get("value")
    with pytest.raises(TypeError):
        cache.set("value", Attack())
    assert not place.exists()


def test_the_requests_of_a_web_process_share_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL", "20")
    pooled = read_env().database()
    assert pooled["OPTIONS"]["pool"] == {"min_size": 1, "max_size": 20}
    assert pooled["CONN_MAX_AGE"] == 0  # Django refuses a pool of connections that are kept
    monkeypatch.delenv("DATABASE_POOL")
    assert "pool" not in read_env().database()["OPTIONS"]
