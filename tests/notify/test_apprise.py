"""The channel of apprise without the library: what is offered, what is refused, and the process that it sends in.

Apprise itself sends in tests/conformance/apprise_services.py.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable
from maxxit.notify import endpoints, policy, worker
from maxxit.notify.channels import apprise, apprise_child
from maxxit.notify.channels.apprise import Apprise
from maxxit.notify.channels.base import Message
from tests.builders import RecordedClock

URL = "ntfys://ntfy.example.com/a-secret-topic"


@pytest.fixture
def enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staff has enabled two schemas, and the library is there."""
    chosen = policy.ApprisePolicy(schemas=("ntfys", "json"), ports=(443, 8443))
    one = policy.policy().model_copy(update={"apprise": chosen})
    for module in (apprise, endpoints):
        monkeypatch.setattr(module, "policy", lambda: one)
    monkeypatch.setattr(apprise, "installed", lambda: True)


@pytest.fixture
def child(enabled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace the process by lines of Python, in which `says` writes an answer and `hears` reads one."""

    def become(lines: str) -> None:
        file = tmp_path / "child.py"
        begin = (
            "import json, os, sys, time\n"
            "def says(what): print(json.dumps(what), flush=True)\n"
            "def hears(): return json.loads(sys.stdin.readline())\n"
            "job = hears()\n"
        )
        file.write_text(begin + lines)
        monkeypatch.setattr(apprise, "CHILD", file)

    return become


def message(address: str = URL) -> Message:
    return Message("a_1", "gate.closed", "2026-05-01", "ann", "Gate <b>closed</b>", {}, address, title="Gate")


def test_it_is_offered_only_where_staff_has_enabled_schemas_and_the_library_is_there(
    enabled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "apprise" in endpoints.offered()
    monkeypatch.setattr(apprise, "installed", lambda: False)
    assert "apprise" not in endpoints.offered()
    monkeypatch.undo()
    assert "apprise" in policy.policy().offered
    assert "apprise" not in endpoints.offered()  # as it is shipped


def test_without_the_library_the_error_says_what_to_install(
    enabled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise, "installed", lambda: False)
    with pytest.raises(Rejected, match=r"requirements-apprise\.txt"):
        Apprise().verify(URL)
    with pytest.raises(Retryable, match=r"requirements-apprise\.txt"):
        Apprise().send(message())


@pytest.mark.parametrize(
    "address",
    ["", "ntfys", "ntfys://", "ntfy://example.com/a", "https://ntfy.sh/a", "NTFYS://x/a", f"{URL} json://10.0.0.1/",
     f"{URL}\njson://10.0.0.1/", "mailto://a:b@example.com"],
)  # fmt: skip
def test_only_one_url_of_an_enabled_schema_is_taken(child: Callable[[str], None], address: str) -> None:
    child("says({'done': True})")
    with pytest.raises(Rejected, match="ntfys:// or json://"):
        Apprise().verify(address)


def test_an_address_is_taken_as_apprise_understands_it(child: Callable[[str], None]) -> None:
    child("says({'done': 'secret' in job['url'] and list(job) == ['url']})")
    assert Apprise().verify(f" {URL} ") == URL
    with pytest.raises(Rejected, match="does not understand"):
        Apprise().verify("json://x")


def test_what_people_see_of_an_address_lets_nobody_send_there(enabled: None) -> None:
    assert Apprise().shown(URL) == "ntfys://…opic"
    assert Apprise().shown("json://a:b@h") == "json://…"


@pytest.mark.parametrize(
    ("host", "port", "refused"),
    [
        ("93.184.216.34", 443, False),
        ("93.184.216.34", 8443, False),
        ("2606:4700::1111", 443, False),
        ("93.184.216.34", 80, True),
        ("10.0.0.1", 443, True),
        ("127.0.0.1", 443, True),
        ("169.254.169.254", 443, True),
        ("::1", 443, True),
        ("::ffff:10.0.0.1", 443, True),
        ("fe80::1%eth0", 443, True),
        ("localhost", 443, True),
    ],
)
def test_the_process_is_told_where_it_may_connect(
    child: Callable[[str], None], host: str, port: int, refused: bool
) -> None:
    child(f"says({{'connect': [{host!r}, {port}]}}); says({{'done': hears()}})")
    if not refused:
        Apprise().send(message())
        return
    with pytest.raises(Rejected, match="not admitted") as error:
        Apprise().send(message())
    assert error.value.code == "private_address"
    assert "secret" not in str(error.value)


FAILURES = {
    "not sent": "says({'done': False})",
    "ends": "sys.exit(1)",
    "hangs": "time.sleep(30)",
    "half a line": "print('{', flush=True)",
    "dies before its answer": "os.close(0); says({'connect': ['93.184.216.34', 443]})",
    "unknown word": "says({'sent': True})",
    "no object": "says(1)",
    "no address": "says({'connect': 5})",
    "no truth value": "says({'done': 'no'})",
}


@pytest.mark.parametrize("lines", FAILURES.values(), ids=FAILURES)
def test_what_was_not_sent_is_sent_again(
    child: Callable[[str], None], lines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise, "RULES", egress.Rules(max_seconds=0.7))
    child(lines)
    with pytest.raises(Retryable) as error:
        Apprise().send(message())
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("lines", FAILURES.values(), ids=FAILURES)
def test_an_address_that_could_not_be_read_is_refused(
    child: Callable[[str], None], lines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise, "RULES", egress.Rules(max_seconds=0.7))
    child(lines)
    with pytest.raises(Rejected, match="does not understand"):
        Apprise().verify(URL)


def test_the_process_has_the_message_and_nothing_of_our_environment(
    child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    child(
        "ours = [name for name in os.environ if name != 'LC_CTYPE']\n"
        "says({'done': not ours and os.getcwd() == '/' and job['body'] == 'Gate <b>closed</b>'})"
    )
    Apprise().send(message())


GUARDED = """
import os, runpy, socket, subprocess, sys
child = runpy.run_path({file!r})
class Parent:
    def admits(self, host, port): return port == {port}
child["guard"](Parent())
try:
    {what}
except PermissionError:
    print("refused")
else:
    print("done")
"""


@pytest.mark.parametrize(
    ("what", "outcome"),
    [
        ("open('/etc/passwd').read()", "refused"),
        ("open('{secret}').read()", "refused"),
        ("open('{library}/../../../../../../../../../../..{secret}').read()", "refused"),
        ("os.open('{secret}', os.O_RDONLY)", "refused"),
        ("open('{library}', 'a')", "refused"),
        ("os.remove('{secret}')", "refused"),
        ("os.rename('{secret}', '{secret}2')", "refused"),
        ("os.listdir('/etc')", "refused"),
        ("subprocess.run(['/bin/true'])", "refused"),
        ("os.system('true')", "refused"),
        ("os.fork()", "refused"),
        ("socket.socket().bind(('127.0.0.1', 0))", "refused"),
        ("socket.socket(socket.AF_UNIX).connect('/tmp/x')", "refused"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", "refused"),
        ("socket.create_connection(('127.0.0.1', 9))", "refused"),
        ("socket.create_connection(('127.0.0.1', {port}))", "done"),
        ("open('{library}').read()", "done"),
    ],
)
def test_the_process_reads_no_file_and_starts_nothing_and_connects_only_where_it_may(
    what: str, outcome: str, tmp_path: Path
) -> None:
    secret = tmp_path / "notify.key"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        lines = GUARDED.format(
            file=apprise_child.__file__,
            port=port,
            what=what.format(secret=secret, library=os.__file__, port=port),
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", lines], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.stdout.strip() == outcome, done.stderr
    assert secret.read_text() == "secret"


def test_the_rules_are_those_of_every_channel() -> None:
    assert apprise.RULES.admits is egress.is_public
    assert apprise.RULES.max_seconds == policy.SEND_SECONDS


@pytest.mark.django_db
def test_an_address_is_confirmed_by_its_code_and_a_failure_is_tried_again(
    child: Callable[[str], None], tmp_path: Path, time: RecordedClock
) -> None:
    came = tmp_path / "came"
    child(
        f"if 'body' in job: open({str(came)!r}, 'a').write(job['body'] + chr(10))\n"
        "says({'done': 'refuse' not in job.get('body', '')})"
    )
    ann = User.objects.create(username="ann")
    endpoint = endpoints.set_endpoint(ann, "apprise", URL)
    assert (endpoint.verified_at, endpoint.hint) == (None, "ntfys://…opic")
    assert worker.deliver_alerts().sent == 1
    code = re.findall(r"Code (\d+)\.", came.read_text())[0]
    assert endpoints.confirm(ann, "apprise", code).verified_at is not None

    endpoints.queue_message(ann, "apprise", "notification.tested", ann, "a test message")
    assert worker.deliver_alerts().sent == 1
    assert came.read_text().endswith("a test message\n")

    row = endpoints.queue_message(ann, "apprise", "notification.tested", ann, "refuse this")
    for _ in range(policy.policy().tries):
        worker.deliver_alerts()
        time.move(minutes=90)
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("dead", policy.policy().tries)
    assert "apprise could not send it" in row.last_error
    assert "secret" not in row.last_error
