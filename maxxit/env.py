"""Environment variables, typed: addresses and secrets. Policy is in `config/*.yaml` (`maxxit.core.config`).

Every variable is described in `config/env.example`. Values come from the process environment or from `.env` in the
repository. With nothing set this is a local installation: embedded servers, a generated secret key and a profile,
all kept in `.maxxit/`.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from dotenv import load_dotenv
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from maxxit.core import secret_values
from maxxit.core.config import PRODUCTION, check_profile
from maxxit.core.errors import Misconfigured
from maxxit.embedded import servers
from maxxit.embedded.processes import kept_secret

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY_LENGTH = 50
Port = Annotated[int, Field(gt=0, lt=65536)]
Words = Annotated[list[str], NoDecode]
"""A comma-separated list."""

PREPARED = {"server_side_binding": True, "prepare_threshold": 1}
"""Connection options: Postgres plans a statement that comes a second time once and keeps the plan."""
PLANS_ONCE = {"PREPARED_STATEMENTS": "true", "CONN_MAX_AGE": "600"}
"""Environment of a worker that keeps plans: it keeps them as long as its connection."""
KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Connection options, in seconds: a session that only holds a lock is idle, and a firewall drops what is idle."""
BY_INDEX = {"enable_seqscan": "off"}
"""A plan that is kept (of a statement, or of a foreign-key check) may have been made while a table was nearly empty.
With this it uses an index all the same, and is still good when the table has grown."""


class Env(BaseSettings):
    """One field per variable, in lower case. A wrong value stops the start, naming the variable and the fix."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    maxxit_profile: str = ""
    maxxit_data_dir: Path = BASE_DIR / ".maxxit"
    database_url: str = ""
    """Connects as the application role, which reads and writes rows and owns nothing."""
    database_owner_url: str = ""
    """Connects as the owner of the tables, for the commands listed in `manage.py`; never for workers or the web."""
    database_direct_url: str = ""
    """Postgres itself, as the application role, where DATABASE_URL is a pooler in transaction mode: for commands, and
    for locks that are held over several transactions."""
    maxxit_database_role: Literal["application", "owner"] = "application"
    maxxit_database_direct: bool = False
    """Whether this process connects to Postgres itself: commands do."""
    redis_url: str = ""
    secret_key: str = Field(default="", repr=False)
    debug: bool = False
    allowed_hosts: Words = ["127.0.0.1", "localhost", "[::1]"]
    csrf_trusted_origins: Words = []
    behind_proxy: bool = False
    """Whether a trusted proxy sets X-Forwarded-Proto, overwriting the client's."""
    trusted_proxies: Words = []
    """Addresses of trusted proxies: X-Forwarded-For is used only from them."""
    staff_second_factor: bool | None = None
    """Whether staff must set up a second factor; unset: only in production."""
    sign_up: Literal["", "open", "invitation", "closed"] = ""
    """Who may create an account; unset: in production only with an invitation, elsewhere everybody."""
    bind: str = "127.0.0.1"
    web_port: Port = 5000
    flower_port: Port = 5555
    log_level: str = "INFO"
    log_json: bool | None = None
    conn_max_age: int = Field(default=60, ge=0)
    """Seconds that a process keeps its database connection."""
    database_pool: int = Field(default=0, ge=0)
    """Connections that the requests of a web process share, at most; each has a thread of its own. 0: no pool."""
    statement_timeout: int = Field(default=300, gt=0)
    """Seconds; the web process uses less."""
    prepared_statements: bool = False
    """Whether a connection plans a repeated statement once (`PREPARED`): in the workers that place and book orders,
    where planning takes half of an order's time."""
    soft_shutdown_seconds: float = Field(default=30, ge=0)
    """How long a stopping worker lets a running task continue before it hands the task back."""
    flower_url: str = ""
    public_url: str = ""
    """Where customers reach the web process, for links in messages; unset: the first of ALLOWED_HOSTS, or BIND."""
    email_url: str = Field(default="", repr=False)
    """smtp://, smtp+tls:// (STARTTLS) or smtps://USER:PASSWORD@HOST:PORT of the mail server."""
    email_from: str = ""

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
            raise ValueError("ALLOWED_HOSTS: list the hosts; '*' lets anyone forge links and cache entries")
        if not self.production:
            return self
        for name in ("database_url", "redis_url"):
            if not getattr(self, name):
                raise ValueError(f"{name.upper()}: set it; production does not start embedded servers")
        if "allowed_hosts" not in self.model_fields_set or not self.allowed_hosts:
            raise ValueError("ALLOWED_HOSTS: set the host names under which the web process is reached")
        key = self.secret_key
        if len(key) < SECRET_KEY_LENGTH or len(set(key)) < 10 or key.startswith(("django-insecure", "local")):
            raise ValueError(
                f"SECRET_KEY: production needs {SECRET_KEY_LENGTH} random characters; generate them with "
                """python -c 'import secrets; print(secrets.token_urlsafe(50))'"""
            )
        if self.debug:
            raise ValueError("DEBUG: unset it in production; it shows settings and code to visitors")
        return self

    @property
    def production(self) -> bool:
        return self.maxxit_profile == PRODUCTION

    @property
    def embedded_postgres(self) -> bool:
        """Whether Maxxit runs its embedded Postgres."""
        return not self.database_url

    @property
    def embedded_redis(self) -> bool:
        """Whether Maxxit runs its embedded Redis."""
        return not self.redis_url

    @property
    def broker(self) -> str:
        """The Redis URL in use."""
        return self.redis_url or servers.Redis(self.maxxit_data_dir).url

    @property
    def site(self) -> str:
        """Where customers reach the web process, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return (
            f"https://{self.allowed_hosts[0]}" if self.production else f"http://{self.bind}:{self.web_port}"
        )

    def mail(self) -> dict[str, Any]:
        """Return Django's EMAIL_ settings. Raises Misconfigured for a URL of another kind."""
        parts = urlsplit(self.email_url)
        if self.email_url and (parts.scheme not in {"smtp", "smtp+tls", "smtps"} or not parts.hostname):
            raise Misconfigured("EMAIL_URL: use smtp+tls://USER:PASSWORD@HOST:587, or smtps:// or smtp://")
        ports = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
        return {
            "EMAIL_HOST": parts.hostname or "",
            "EMAIL_PORT": parts.port or ports.get(parts.scheme, 25),
            "EMAIL_HOST_USER": unquote(parts.username or ""),
            "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
            "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
            "EMAIL_USE_SSL": parts.scheme == "smtps",
            "DEFAULT_FROM_EMAIL": self.email_from or f"Maxxit <notifications@{urlsplit(self.site).hostname}>",
        }

    @cached_property
    def key(self) -> str:
        """SECRET_KEY, or the generated key of this installation."""
        return self.secret_key or local_secret(self.maxxit_data_dir, "secret_key", SECRET_KEY_LENGTH)

    @property
    def pooled(self) -> bool:
        """Whether Django's default connection is one of a pooler, which gives each transaction another session."""
        as_owner = self.maxxit_database_role == "owner"
        return bool(self.database_direct_url) and not (self.maxxit_database_direct or as_owner)

    @property
    def limits(self) -> dict[str, str]:
        """The parameters of a session that bound statements, waits for locks and idle transactions."""
        return {
            "statement_timeout": f"{self.statement_timeout}s",
            "lock_timeout": "30s",
            "idle_in_transaction_session_timeout": "120s",
        }

    def _database_url(self) -> str:
        embedded, as_owner = servers.Postgres(self.maxxit_data_dir), self.maxxit_database_role == "owner"
        if self.embedded_postgres:
            return embedded.url if as_owner else embedded.application_url
        return (self.database_owner_url if as_owner else "") or self.database_direct_url or self.database_url

    def databases(self, session: str) -> dict[str, dict[str, Any]]:
        """Return Django's DATABASES: `default`, and where that is pooled `session`, whose sessions are its own."""
        if not self.pooled:
            return {"default": self.database()}
        # No parameter of a session: it would be one of whichever session comes next. `manage.py roles` limits the role.
        pooled = self._entry(self.database_url) | {"DISABLE_SERVER_SIDE_CURSORS": True}
        own = self.model_copy(update={"database_pool": 0}).database()
        options = KEEPALIVES | own["OPTIONS"]
        return {"default": pooled, session: own | {"OPTIONS": options, "TEST": {"MIRROR": "default"}}}

    def database(self) -> dict[str, Any]:
        """Return the DATABASES entry of Postgres itself, with limits on statements, locks and idle transactions."""
        entry = self._entry(self._database_url())
        limits = self.limits | (BY_INDEX if self.prepared_statements else {})
        flags = " ".join(f"-c {name}={value}" for name, value in limits.items())
        given = entry["OPTIONS"]
        entry["OPTIONS"] = (
            given
            | (PREPARED if self.prepared_statements else {})
            | {"options": f"{given.get('options', '')} {flags}".strip()}
        )
        return entry

    def _entry(self, url: str) -> dict[str, Any]:
        """Return a DATABASES entry without parameters of the session."""
        if urlsplit(url).scheme not in {"postgres", "postgresql"}:
            raise Misconfigured(
                "DATABASE_URL: only postgresql:// is supported (other databases lose precision)"
            )
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        return {
            "ENGINE": "maxxit.postgres",
            "NAME": parts.pop("dbname", servers.NAME),
            "USER": parts.pop("user", ""),
            "PASSWORD": parts.pop("password", ""),
            "HOST": parts.pop("host", ""),
            "PORT": parts.pop("port", ""),
            "CONN_MAX_AGE": 0 if self.database_pool else self.conn_max_age,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": parts
            | ({"pool": {"min_size": 1, "max_size": self.database_pool}} if self.database_pool else {}),
        }


def local_secret(data_dir: Path, name: str, size: int = 18) -> str:
    """Return a secret that is generated once and kept in a file readable only by its owner."""
    return kept_secret(data_dir / name, size)


def env_file() -> Path:
    """Return the file whose variables every process reads: MAXXIT_ENV_FILE, else `.env` in the repository."""
    return Path(os.environ.get("MAXXIT_ENV_FILE", BASE_DIR / ".env"))


def read_env() -> Env:
    """Read the environment of this process. Raises `Misconfigured` naming each wrong variable."""
    load_dotenv(env_file())
    secret_values.resolve()
    try:
        env = Env()
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']).upper()} {problem['msg']}".strip()
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise Misconfigured(f"environment: {problems}") from None
    profile_file = env.maxxit_data_dir / "profile"
    if "MAXXIT_PROFILE" not in os.environ and env.embedded_postgres and profile_file.exists():
        # The profile of the last `make up`, so that a command in another terminal uses the same policy.
        os.environ["MAXXIT_PROFILE"] = profile_file.read_text().strip()
        return read_env()
    check_profile(env.maxxit_profile)
    return env
