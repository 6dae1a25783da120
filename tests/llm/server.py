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
    """JSON as it was read; an empty object for any other body."""
    received: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """Answers POST /chat/completions, POST /messages and, as a collector, POST …/v1/traces."""

    model: ModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        received = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(received) if "json" in self.headers.get("content-type", "") else {}
        model = self.model
        with model.lock:
            model.asked.append(body)
            model.received.append(received)
            model.paths.append(self.path)
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


def langfuse(handler: Handler, body: Any) -> None:
    """Answer as Langfuse does: a data set, an item of one, scores, spans."""
    at = "2026-05-01T12:00:00.000Z"
    known: dict[str, Any] = {"metadata": None, "createdAt": at, "updatedAt": at, "status": "ACTIVE"}
    status = 200
    answer: dict[str, Any] = {"partialSuccess": {}}
    given = (
        {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else {}
    )
    if handler.path.endswith("/datasets"):
        known |= {"id": f"dataset-{body['name']}", "projectId": "project-1"}
        answer = known | {"inputSchema": None, "expectedOutputSchema": None} | given
    elif handler.path.endswith("/dataset-items"):
        known |= {"datasetId": f"dataset-{body['datasetName']}", "input": None, "expectedOutput": None}
        answer = known | {"sourceTraceId": None, "sourceObservationId": None, "mediaReferences": []} | given
    elif handler.path.endswith("/scores"):
        status, answer = 202, {"message": "Accepted"}
    handler.send(status, json.dumps(answer).encode(), content_type="application/json")


def wrapped(path: str, text: str) -> dict[str, Any]:
    """`text` as the answer of the API at `path`."""
    if not path.endswith("/messages"):
        return choice({"content": text})
    try:
        used = {"type": "tool_use", "id": "toolu_1", "name": "Answer", "input": json.loads(text)}
    except ValueError:
        return message([{"type": "text", "text": text}], "end_turn")
    return message([used], "tool_use")


def choice(said: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    """An answer in OpenAI's shape: `said` are the fields of the assistant's message."""
    said = {"role": "assistant", "content": None, "refusal": None, **said}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_777_636_800,
        "model": "fake-1",
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def message(blocks: list[dict[str, Any]], stop: str) -> dict[str, Any]:
    """An answer in Anthropic's shape."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "fake-1",
        "content": blocks,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 20},
    }


def failure(path: str, http: int, kind: str, words: str, **more: Any) -> Reply:
    """An HTTP error with a body in the shape of the API at `path`."""
    error = {"type": kind, "message": words}
    if path.endswith("/messages"):
        body = {"type": "error", "error": error, "request_id": "req_1"}
    else:
        body = {"error": error | {"param": None, "code": None} | more}
    return status(http, json.dumps(body), content_type="application/json")


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
