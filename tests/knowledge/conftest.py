"""Fixtures: settings that a test may change, and a fake embeddings server."""

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
    """Return a function that overrides sections of `knowledge.yaml` until the test ends."""
    plain = config.read_yaml(config.ROOT / "config" / "knowledge.yaml")

    def change(**sections: Any) -> KnowledgePolicy:
        values = dict(plain)
        for name, section in sections.items():
            values[name] = values[name] | section if isinstance(section, dict) else section
        settings = KnowledgePolicy.model_validate(values)
        for module in ("ingest", "retrieve"):
            monkeypatch.setattr(f"maxxit.knowledge.{module}.policy", lambda: settings)
        monkeypatch.setattr("maxxit.knowledge.management.commands.knowledge.policy", lambda: settings)
        return settings

    assert policies.policy().sources == {}, "the repository configures no sources"
    return change


@dataclass
class VectorServer:
    """A fake of the embeddings APIs of OpenAI and Ollama, with configurable faults."""

    url: str = ""
    asked: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    """(path, body, authorization)."""
    status: int = 200
    width: int = 8
    spoil: Callable[[list[list[Any]]], Any] = list

    def vector(self, text: str) -> list[float]:
        """Return a vector of character counts; the same text gives the same vector."""
        numbers = [1.0] * self.width
        for character in text:
            numbers[ord(character) % self.width] += 1
        return numbers


@pytest.fixture
def vectors() -> Iterator[VectorServer]:
    fake = VectorServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fake.asked.append((self.path, body, self.headers.get("authorization", "")))
            vectors = fake.spoil([fake.vector(text) for text in body["input"]])
            answer: Any = {"embeddings": vectors}
            if self.path.endswith("/embeddings"):
                rows = list(enumerate(vectors)) if isinstance(vectors, list) else []
                answer = {"data": [{"index": index, "embedding": vector} for index, vector in reversed(rows)]}
            content = json.dumps(answer).encode()
            self.send_response(fake.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()
