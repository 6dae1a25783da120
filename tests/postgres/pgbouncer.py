"""A real PgBouncer in transaction mode before a Postgres of this run."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from maxxit.core.config import ROOT
from maxxit.embedded.processes import bound_to_parent, stop_process, wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
MISSING = "pgbouncer is not installed (Debian: apt-get install pgbouncer)"
EXAMPLE = ROOT / "deploy" / "pgbouncer.ini"
SETTINGS = """
[databases]
web = host={host} dbname={dbname} {web}
* = host={host}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
logfile = {log}
"""


@contextmanager
def pgbouncer(direct: str, folder: Path, sessions: int, users: tuple[str, ...] = ()) -> Iterator[str]:
    """Run one before the server of the URL `direct`; yields the URL through it.

    Args:
        direct: of Postgres on a Unix socket.
        folder: for its files; others must be able to enter it.
        sessions: how many it opens at most for each user and database.
        users: who may connect besides the user of `direct`.
    """
    parts = conninfo_to_dict(direct)
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    known, log, ini = folder / "users", folder / "pgbouncer.log", folder / "pgbouncer.ini"
    known.write_text("".join(f'"{name}" ""\n' for name in (parts["user"], *users)))
    [web] = re.findall(r"^maxxit_web = .*(connect_query=.*)$", EXAMPLE.read_text(), re.MULTILINE)
    ini.write_text(
        SETTINGS.format(
            host=parts["host"],
            dbname=parts["dbname"],
            web=web,
            port=port,
            users=known,
            log=log,
            sessions=sessions,
        )
    )
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses root
    log.touch(0o666)
    log.chmod(0o666)
    process = subprocess.Popen(
        [str(PROGRAM), "-q", *as_user, str(ini)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=bound_to_parent(signal.SIGTERM),
    )
    url = f"postgresql://{parts['user']}@127.0.0.1:{port}/{parts['dbname']}"

    def answers() -> bool:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        if not wait_until(answers, 10, lambda: process.poll() is not None):
            raise RuntimeError(f"pgbouncer does not answer:\n{log.read_text()[-2000:]}")
        yield url
    finally:
        stop_process(process, signal.SIGINT, 5)
