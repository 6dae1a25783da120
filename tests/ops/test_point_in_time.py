"""The restore to a point in time of docs/backups.md, with its own settings, on an embedded Postgres."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from maxxit.core.config import ROOT
from maxxit.embedded import binaries
from maxxit.embedded.processes import stop_process, wait_until
from maxxit.embedded.servers import NAME, Postgres

SCRIPT = ROOT / "deploy" / "archive-wal.sh"
PATIENCE = 60.0


@pytest.fixture
def archive(folder: Path) -> Path:
    """An empty archive that Postgres may write to."""
    made = folder / "archive"
    made.mkdir()
    binaries.give(made, 0o700)
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[Postgres]:
    postgres = Postgres(folder / "server")
    yield postgres
    postgres.stop()


def documented(archive: Path, script: Path) -> str:
    """The section of the document, with the paths of this test."""
    text = (ROOT / "docs" / "backups.md").read_text()
    section = text.partition("## To a point in time\n")[2].partition("\n## ")[0]
    assert "/srv/maxxit/deploy/archive-wal.sh" in section
    section = section.replace("/srv/maxxit/deploy/archive-wal.sh", str(script))
    return re.sub(r"(?<![\w/])/archive\b", str(archive), section)


def configure(server: Postgres, lines: list[str]) -> None:
    with (server.data / "postgresql.auto.conf").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def write(server: Postgres, *texts: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for text in texts:
            connection.execute("INSERT INTO moves VALUES (%s)", [text])


def ask(server: Postgres, question: str) -> list[str]:
    with psycopg.connect(server.url) as connection:
        return [str(row[0]) for row in connection.execute(question)]


def test_a_mistake_is_left_out_by_a_restore_to_the_moment_before_it(
    folder: Path, archive: Path, server: Postgres
) -> None:
    script = Path(shutil.copy(SCRIPT, folder))
    section = documented(archive, script)
    settings = re.findall(r"^ +((?:wal|archive)_\w+ = .+)$", section, re.MULTILINE)
    assert [line.split()[0] for line in settings] == [
        "wal_level", "archive_mode", "archive_timeout", "archive_command",
    ]  # fmt: skip
    server.start()
    server.stop()
    configure(server, [re.sub(r"^(archive_timeout) = .*", r"\1 = 1", line) for line in settings])
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE moves (what text)")

    [command] = re.findall(r"^ +pg_basebackup (.+)$", section, re.MULTILINE)
    base = archive / "base-2026-11-29"
    subprocess.run(
        [binaries.clients() / "pg_basebackup", *command.replace(f"{archive}/base-DATE", str(base)).split(),
         "-h", server.sockets, "-U", NAME],
        check=True,
    )  # fmt: skip
    write(server, "kept")
    [moment] = ask(server, "SELECT clock_timestamp()")
    write(server, "mistake")
    [segment] = ask(server, "SELECT pg_walfile_name(pg_current_wal_lsn())")
    assert wait_until((archive / f"{segment}.gz").exists, PATIENCE)

    stop_process(server.process, signal.SIGQUIT, 10)  # at once, as a crash
    shutil.rmtree(server.data)
    server.data.mkdir()
    subprocess.run(["tar", "xzf", base / "base.tar.gz", "--no-same-owner", "-C", server.data], check=True)
    for path in (server.data, *server.data.rglob("*")):
        binaries.give(path, 0o700)  # this test may run as root
    recovery = re.findall(r"^ +((?:restore|recovery)_\w+ = .+)$", section, re.MULTILINE)
    assert [line.split()[0] for line in recovery] == [
        "restore_command", "recovery_target_time", "recovery_target_action",
    ]  # fmt: skip
    configure(
        server, [re.sub(r"^(recovery_target_time) = .*", rf"\1 = '{moment}'", line) for line in recovery]
    )
    (server.data / "recovery.signal").touch()
    server.start()

    assert wait_until(lambda: ask(server, "SELECT pg_is_in_recovery()") == ["False"], PATIENCE)
    assert ask(server, "SELECT what FROM moves") == ["kept"]
    write(server, "later")
    assert wait_until(
        (archive / "00000002.history.gz").exists, PATIENCE
    )  # a timeline of its own, in the same archive
    assert list(archive.glob("*.part")) == []


def test_a_segment_is_stored_once_and_replaced_by_no_other(tmp_path: Path) -> None:
    segment, archive = tmp_path / "segment", tmp_path / "archive"
    archive.mkdir()
    segment.write_bytes(b"a" * 1000)

    def store() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT, segment, "0001", archive], capture_output=True, text=True, check=False
        )

    assert store().returncode == store().returncode == 0  # again, as after a crash
    segment.write_bytes(b"b" * 1000)
    refused = store()
    assert refused.returncode == 1
    assert "is another segment" in refused.stderr
    assert [path.name for path in archive.iterdir()] == ["0001.gz"]


def test_a_segment_that_cannot_be_read_is_an_error_and_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", SCRIPT, tmp_path / "none", "0001", tmp_path], capture_output=True, check=False
    )
    assert done.returncode != 0
    assert not (tmp_path / "0001.gz").exists()
