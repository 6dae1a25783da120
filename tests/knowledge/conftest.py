"""What the tests of knowledge share: a policy to change, sources to configure, a fake server of vectors."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maxxit.core import config
from maxxit.knowledge import policy as policies
from maxxit.knowledge.policy import KnowledgePolicy

Configure = Callable[..., KnowledgePolicy]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Call it with changes to the sections of `knowledge.yaml`; they hold until the test ends."""
    plain = config.read_yaml(config.ROOT / "config" / "knowledge.yaml")

    def change(**sections: Any) -> KnowledgePolicy:
        values = dict(plain)
        for name, section in sections.items():
            values[name] = values[name] | section if isinstance(section, dict) else section
        made = KnowledgePolicy.model_validate(values)
        for module in ("ingest", "retrieve"):
            monkeypatch.setattr(f"maxxit.knowledge.{module}.policy", lambda: made)
        monkeypatch.setattr("maxxit.knowledge.management.commands.knowledge.policy", lambda: made)
        return made

    assert policies.policy().sources == {}, "without documents nothing is to change"
    return change


@dataclass
class VectorServer:
    """A fake of OpenAI's and of Ollama's embeddings; it misbehaves as told."""

    url: str = ""
    asked: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    """(path, body, authorization)."""
    status: int = 200
    width: int = 8
    spoil: Callable[[list[list[Any]]], Any] = list

    def vector(self, text: str) -> list[float]:
        """Letters counted by their place: the same text gives the same vector."""
        numbers = [1.0] * self.width
        for sign in text:
            numbers[ord(sign) % self.width] += 1
        return numbers


@pytest.fixture
def vectors() -> Iterator[VectorServer]:
    fake = VectorServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fake.asked.append((self.path, body, self.headers.get("authorization", "")))
            found = fake.spoil([fake.vector(text) for text in body["input"]])
            answer: Any = {"embeddings": found}
            if self.path.endswith("/embeddings"):
                rows = list(enumerate(found)) if isinstance(found, list) else []
                answer = {"data": [{"index": at, "embedding": one} for at, one in reversed(rows)]}
            said = json.dumps(answer).encode()
            self.send_response(fake.status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()
