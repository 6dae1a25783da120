"""Database roles: the owner migrates, the application reads and writes rows, the reader only reads.

The application cannot create, alter or truncate tables, and cannot change or delete append-only rows. That limits what
an SQL injection or a wrong query can do; triggers refuse the rest.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

APPEND_ONLY = {"events": "", "event_seals": "", "fills": "", "ledger_entries": "", "paper_fills": "",
               "django_admin_log": "", "chain_attempts": "broadcast_at"}  # fmt: skip
"""Table -> the only column that the application may update."""
READ_ONLY = (
    "ledger_balances",
    "django_migrations",
    "django_content_type",
    "auth_permission",
)
"""Tables written only by triggers or migrations."""
NEVER_DELETED = (
    "orders", "positions", "signals", "chain_transactions", "chain_signers", "kill_switches", "execution_approvals",
    "execution_gates", "exit_pauses", "releases", "trained_models", "prompt_versions", "prompt_activations",
    "change_requests",
)  # fmt: skip
SECRET = ("auth_user", "api_keys", "django_session", "otp_totp_totpdevice", "otp_static_staticdevice",
          "otp_static_statictoken", "notify_endpoints", "browser_sessions", "invitations",
          "venue_credentials", "chat_codes")  # fmt: skip
"""Tables hidden from the reader: hashes, sessions, secrets."""
USER_COLUMNS = "id, username, is_active, is_staff, is_superuser, last_login, date_joined"
FUNCTIONS = ("make_candles_part(date)", "drop_candles_parts(date)")
"""Functions with the owner's rights that the application may call."""


def create(cursor: Any, name: str, password: str = "") -> None:
    """Create a login role without any rights, unless it exists.

    The server gets the password as a SCRAM verifier, so that no statement log contains it.
    """
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    if cursor.fetchone() is not None:
        return
    options = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    cursor.execute(sql.SQL(f"CREATE ROLE {{}} {options}").format(sql.Identifier(name)))
    if password:
        verifier = cursor.connection.pgconn.encrypt_password(
            password.encode(), name.encode(), b"scram-sha-256"
        )
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
        cursor.execute(statement.format(sql.Identifier(name), sql.Literal(verifier.decode())))


def let_create_databases(cursor: Any, name: str, allowed: bool) -> None:
    """Let a role create databases, or no longer: each preview is computed in one of its own."""
    word = "CREATEDB" if allowed else "NOCREATEDB"
    cursor.execute(sql.SQL(f"ALTER ROLE {{}} {word}").format(sql.Identifier(name)))


def limit(cursor: Any, name: str, limits: Mapping[str, str]) -> None:
    """Set these parameters as defaults of the role: a pooler opens sessions without our connection options."""
    for parameter, value in limits.items():
        statement = sql.SQL("ALTER ROLE {} SET {} = {}")
        cursor.execute(statement.format(sql.Identifier(name), sql.Identifier(parameter), sql.Literal(value)))


def prepare_template(conninfo: str) -> None:
    """Put the extension that only an owner may create into template1, so that each new database of the server has it.

    Args:
        conninfo: of the owner; the database is replaced by template1.
    """
    with psycopg.connect(conninfo, dbname="template1", autocommit=True) as session:
        session.execute("CREATE EXTENSION IF NOT EXISTS vector")


def grant(cursor: Any, application: str, reader: str) -> None:
    """Grant both roles their rights on all tables, present and future; previous rights are revoked first.

    Call it as the owner, after each migration.
    """
    cursor.execute("SELECT current_database()")
    names = {"app": application, "reader": reader, "db": cursor.fetchone()[0]}
    quoted = {key: sql.Identifier(name) for key, name in names.items()}
    for statement in (*_common(), *_application(), *_reader()):
        cursor.execute(sql.SQL(statement).format(**quoted))


def _common() -> list[str]:
    """Revoke all rights of PUBLIC; let both roles connect and see the schema."""
    return [
        "REVOKE ALL ON DATABASE {db} FROM PUBLIC",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {app}, {reader}",
        "GRANT CONNECT ON DATABASE {db} TO {app}, {reader}",
        "GRANT USAGE ON SCHEMA public TO {app}, {reader}",
    ]


def _application() -> list[str]:
    """Grant row access to every table, except to append-only, trigger-written and never-deleted rows."""
    written_once = ", ".join(APPEND_ONLY)
    columns = [
        f"GRANT UPDATE ({column}) ON {table} TO {{app}}" for table, column in APPEND_ONLY.items() if column
    ]
    return [
        "GRANT TEMPORARY ON DATABASE {db} TO {app}",  # COPY into a temporary table, then one INSERT
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {app}",  # SELECT: for backups
        f"REVOKE UPDATE, DELETE ON {written_once} FROM {{app}}",
        f"REVOKE INSERT, UPDATE, DELETE ON {', '.join(READ_ONLY)} FROM {{app}}",
        f"REVOKE DELETE ON {', '.join(NEVER_DELETED)} FROM {{app}}",
        *columns,
        *(f"GRANT EXECUTE ON FUNCTION {function} TO {{app}}" for function in FUNCTIONS),
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {app}",
    ]


def _reader() -> list[str]:
    """Grant read access to all tables except the secret ones; of users without password hashes."""
    return [
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}",
        *(f"REVOKE ALL ON {table} FROM {{reader}}" for table in SECRET),
        f"GRANT SELECT ({USER_COLUMNS}) ON auth_user TO {{reader}}",
    ]
