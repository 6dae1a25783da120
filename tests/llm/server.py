"""A model server on the loopback: it speaks OpenAI's and Anthropic's wire formats, and every way of failing."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler", dict[str, Any]], None]


@dataclass
class ModelServer:
    """What it will do, and what it was asked."""

    url: str = ""
    replies: deque[Reply] = field(default_factory=deque)
    """One for each call to come; when empty, `otherwise` is used."""
    otherwise: Reply | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """Answers POST /chat/completions and POST /messages."""

    model: ModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = self.model
        with model.lock:
            model.asked.append(body)
            model.headers.append({name.lower(): value for name, value in self.headers.items()})
            model.in_flight += 1
            model.most_in_flight = max(model.most_in_flight, model.in_flight)
            reply = model.replies.popleft() if model.replies else model.otherwise
        try:
            (reply or says({}))(self, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with model.lock:
                model.in_flight -= 1

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def wrapped(path: str, text: str) -> dict[str, Any]:
    """`text` as the answer of the API at `path`."""
    if path.endswith("/messages"):
        try:
            blocks = [{"type": "tool_use", "id": "t", "name": "Answer", "input": json.loads(text)}]
        except ValueError:
            blocks = [{"type": "text", "text": text}]
        return {"model": "fake-1", "content": blocks, "usage": {"input_tokens": 100, "output_tokens": 20}}
    message = {"role": "assistant", "content": text}
    return {
        "model": "fake-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20},
    }


def says(answer: Any) -> Reply:
    """A good answer holding `answer` (text as it is, anything else as JSON)."""

    def reply(handler: Handler, _: dict[str, Any]) -> None:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        handler.send(200, json.dumps(wrapped(handler.path, text)).encode(), content_type="application/json")

    return reply


def status(code: int, body: str = "no", **headers: str) -> Reply:
    """An HTTP error."""
    return lambda handler, _: handler.send(code, body.encode(), **headers)


def raw(body: bytes) -> Reply:
    """200 with these bytes."""
    return lambda handler, _: handler.send(200, body, content_type="application/json")


def slow(seconds: float) -> Reply:
    """Nothing for a while, then an answer."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        says({})(handler, body)

    return reply


def cut(handler: Handler, _: dict[str, Any]) -> None:
    """A body that ends before its length."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(2)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what these tests are about."""


@contextmanager
def running() -> Iterator[ModelServer]:
    """The server, up."""
    model = ModelServer()
    handler = type("Bound", (Handler,), {"model": model})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
