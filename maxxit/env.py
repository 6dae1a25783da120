"""What the environment says: places and secrets, typed. Policy is in `config/*.yaml` (`maxxit.core.config`).

Every variable stands in `config/env.example` with its meaning. They come from the process, or from a file `.env`
in the repository. On a machine with nothing set, this is a local installation: embedded servers, a secret key
and a profile of its own, all kept in `.maxxit/`.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import load_dotenv
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from maxxit.core.config import PRODUCTION, check_profile
from maxxit.core.errors import Misconfigured
from maxxit.embedded import servers
from maxxit.embedded.processes import kept_secret

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY_LENGTH = 50
Port = Annotated[int, Field(gt=0, lt=65536)]
Words = Annotated[list[str], NoDecode]
"""A list, written with commas."""


class Env(BaseSettings):
    """One field per variable, in lower case. Wrong values refuse to start, naming the variable and the fix."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    maxxit_profile: str = ""
    maxxit_data_dir: Path = BASE_DIR / ".maxxit"
    database_url: str = ""
    """As the application: reads and writes rows, owns nothing."""
    database_owner_url: str = ""
    """As the owner of the tables, for the commands that `manage.py` lists; no worker and no web process has it."""
    maxxit_database_role: Literal["application", "owner"] = "application"
    redis_url: str = ""
    secret_key: str = Field(default="", repr=False)
    debug: bool = False
    allowed_hosts: Words = ["127.0.0.1", "localhost", "[::1]"]
    csrf_trusted_origins: Words = []
    behind_proxy: bool = False
    """Whether X-Forwarded-Proto comes from a proxy of ours, which overwrites it."""
    trusted_proxies: Words = []
    """Addresses of our proxies: only from them does X-Forwarded-For say who calls."""
    staff_second_factor: bool | None = None
    """Whether staff must set up a second factor; unset: in production."""
    bind: str = "127.0.0.1"
    web_port: Port = 5000
    flower_port: Port = 5555
    log_level: str = "INFO"
    log_json: bool | None = None
    conn_max_age: int = Field(default=60, ge=0)
    """Seconds that a process keeps its database connection; 0 in the web process, whose threads come and go."""
    statement_timeout: int = Field(default=300, gt=0)
    """Seconds; the web process runs with less."""
    soft_shutdown_seconds: float = Field(default=30, ge=0)
    """How long a worker that was told to stop lets a running task go on before it hands it back."""
    flower_url: str = ""

    @field_validator("allowed_hosts", "csrf_trusted_origins", "trusted_proxies", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return (
            [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value
        )

    @field_validator("maxxit_data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return (BASE_DIR / value).resolve()

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if "*" in self.allowed_hosts:
            raise ValueError("ALLOWED_HOSTS: name the hosts; '*' lets anyone forge links and cache entries")
        if not self.production:
            return self
        for name in ("database_url", "redis_url"):
            if not getattr(self, name):
                raise ValueError(f"{name.upper()}: production does not start servers of its own; set it")
        key = self.secret_key
        if len(key) < SECRET_KEY_LENGTH or len(set(key)) < 10 or key.startswith(("django-insecure", "local")):
            raise ValueError(
                f"SECRET_KEY: production needs {SECRET_KEY_LENGTH} random characters of its own; make them with "
                """python -c 'import secrets; print(secrets.token_urlsafe(50))'"""
            )
        if self.debug:
            raise ValueError("DEBUG: shows settings and code to visitors; unset it in production")
        return self

    @property
    def production(self) -> bool:
        return self.maxxit_profile == PRODUCTION

    @property
    def own_postgres(self) -> bool:
        """Whether the embedded Postgres is ours to run."""
        return not self.database_url

    @property
    def own_redis(self) -> bool:
        """Whether the embedded Redis is ours to run."""
        return not self.redis_url

    @property
    def broker(self) -> str:
        """The Redis URL in force."""
        return self.redis_url or servers.Redis(self.maxxit_data_dir).url

    @cached_property
    def key(self) -> str:
        """SECRET_KEY, or the one that this installation made for itself."""
        return self.secret_key or local_secret(self.maxxit_data_dir, "secret_key", SECRET_KEY_LENGTH)

    def _database_url(self) -> str:
        own, as_owner = servers.Postgres(self.maxxit_data_dir), self.maxxit_database_role == "owner"
        if self.own_postgres:
            return own.url if as_owner else own.application_url
        return (self.database_owner_url if as_owner else "") or self.database_url

    def database(self) -> dict[str, Any]:
        """Django's DATABASES entry. Sessions end by themselves: no statement, lock or idle transaction stays."""
        url = self._database_url()
        if urlsplit(url).scheme not in {"postgres", "postgresql"}:
            raise Misconfigured("DATABASE_URL: only postgresql:// is supported (other databases lose digits)")
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        limits = {
            "statement_timeout": f"{self.statement_timeout}s",
            "lock_timeout": "30s",
            "idle_in_transaction_session_timeout": "120s",
        }
        flags = " ".join(f"-c {name}={value}" for name, value in limits.items())
        return {
            "ENGINE": "maxxit.postgres",
            "NAME": parts.pop("dbname", servers.NAME),
            "USER": parts.pop("user", ""),
            "PASSWORD": parts.pop("password", ""),
            "HOST": parts.pop("host", ""),
            "PORT": parts.pop("port", ""),
            "CONN_MAX_AGE": self.conn_max_age,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": parts | {"options": f"{parts.get('options', '')} {flags}".strip()},
        }


def local_secret(data_dir: Path, name: str, size: int = 18) -> str:
    """A secret that this installation makes for itself once, in a file that only its owner reads."""
    return kept_secret(data_dir / name, size)


def read_env() -> Env:
    """The environment of this process. Raises `Misconfigured` naming each wrong variable."""
    load_dotenv(os.environ.get("MAXXIT_ENV_FILE", BASE_DIR / ".env"))
    try:
        env = Env()
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']).upper()} {problem['msg']}".strip()
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise Misconfigured(f"environment: {wrong}") from None
    chosen = env.maxxit_data_dir / "profile"
    if "MAXXIT_PROFILE" not in os.environ and env.own_postgres and chosen.exists():
        # What the last `make up` ran with: so a command in another terminal sees the same policy.
        os.environ["MAXXIT_PROFILE"] = chosen.read_text().strip()
        return read_env()
    check_profile(env.maxxit_profile)
    return env
