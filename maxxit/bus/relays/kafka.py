"""Relay to Kafka: Avro with Confluent's framing, key = correlation id, header `event_id`, acks of all replicas.

Needs the extra `kafka` (confluent-kafka). The schemas are the files of `maxxit/bus/schemas`; the newest one is
registered for each topic when the relay starts.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

from maxxit.bus.messages import SCHEMA_VERSION, SOURCE, TOPICS, Message
from maxxit.core import redact
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable

SCHEMAS = Path(__file__).parent.parent / "schemas"
MAGIC = 0
REGISTRY_SECONDS = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
OURS = {"bootstrap.servers", "acks", "enable.idempotence", "delivery.report.only.error", "sasl.password"}
"""Settings of librdkafka that `settings` may not change."""
EXTRA = (
    "config/bus.yaml: kafka needs confluent-kafka: `pip install --require-hashes -r requirements-kafka.txt`"
)


def newest_schema() -> str:
    """Return the text of the newest schema."""
    files = sorted(SCHEMAS.glob("message.v*.avsc"), key=lambda path: int(path.name.split(".")[1][1:]))
    return files[-1].read_text()


def client_settings(servers: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of librdkafka that a producer and a consumer share; the password is KAFKA_PASSWORD."""
    if wrong := sorted(OURS & set(settings)):
        raise Misconfigured(f"config/bus.yaml: kafka.options.settings: remove {', '.join(wrong)}")
    password = os.environ.get("KAFKA_PASSWORD")
    return {
        "bootstrap.servers": servers,
        "client.id": "maxxit",
        **settings,
        **({"sasl.password": password} if password else {}),
    }


def registry_settings(url: str) -> dict[str, Any]:
    """Return settings of the schema registry's client; SCHEMA_REGISTRY_AUTH is USER:PASSWORD."""
    auth = os.environ.get("SCHEMA_REGISTRY_AUTH")
    return {"url": url, "timeout": REGISTRY_SECONDS, **({"basic.auth.user.info": auth} if auth else {})}


class Kafka:
    """One topic for each of ours; a message is published when all in-sync replicas have it."""

    def __init__(
        self,
        *,
        servers: str,
        registry: str,
        topics: Mapping[str, str],
        settings: Mapping[str, Any] = {},
        timeout_seconds: float = 30.0,
    ) -> None:
        """Args: registry: URL of the schema registry. topics: ours -> theirs; what is left out is not published."""
        try:
            import confluent_kafka
            import fastavro
            import httpx2
            from confluent_kafka import schema_registry
        except ImportError as error:
            raise Misconfigured(f"{EXTRA} ({error})") from None
        if unknown := sorted(set(topics) - set(TOPICS)):
            raise Misconfigured(
                f"config/bus.yaml: kafka.options.topics: {', '.join(unknown)}; known: {', '.join(TOPICS)}"
            )
        self._kafka, self._avro, self._registry = confluent_kafka, fastavro, schema_registry
        self._away = (OSError, httpx2.HTTPError)
        self._topics, self._url, self._timeout = dict(topics), registry, timeout_seconds
        self._settings = {
            **client_settings(servers, settings),
            "acks": "all",
            "enable.idempotence": True,
            "delivery.report.only.error": True,
            "linger.ms": 20,
            "message.timeout.ms": int(timeout_seconds * 1000),
        }
        self._text = newest_schema()
        self._schema = fastavro.parse_schema(json.loads(self._text))
        self._frames: dict[str, bytes] = {}
        """Topic -> the bytes before each value: 0 and the schema's id."""
        self._producer: Any = None

    def begin(self, position: int) -> None:
        """Kafka keeps what it has: messages that are published again have the same event id."""

    def send(self, messages: Sequence[Message], after: int, upto: int) -> int:
        """See `Relay.send`."""
        self.publish(messages)
        return upto

    def newest(self) -> str:
        """See `Relay.newest`: a topic has no position of ours."""
        return ""

    def publish(self, messages: Sequence[Message]) -> None:
        """See `Relay.publish`."""
        chosen = [one for one in messages if one.topic in self._topics]
        if not chosen:
            return
        errors: list[Any] = []

        def failed(error: Any, _message: Any) -> None:
            errors.append(error)

        try:
            with self._known_errors():
                producer = self._opened()
                for one in chosen:
                    self._produce(producer, one, failed)
                left = producer.flush(self._timeout)
        except MaxxitError:
            self._drop()
            raise
        if errors:
            self._drop()
            raise self._error(errors[0])
        if left:
            self._drop()
            raise Retryable(f"Kafka: {left} messages were not acknowledged within {self._timeout:g} s")

    def close(self) -> None:
        """Give up what is not acknowledged; the cursor has not passed it."""
        self._drop()

    def value(self, message: Message) -> bytes:
        """Return the Avro value of a message with its frame. Raises as `Relay.send` does."""
        out = BytesIO()
        out.write(self._frame(self._topics[message.topic]))
        self._avro.schemaless_writer(
            out,
            self._schema,
            {
                "event_id": message.event_id,
                "name": message.name,
                "ts": (message.at - EPOCH) // MICROSECOND,
                "source": SOURCE,
                "schema_version": SCHEMA_VERSION,
                "subject": message.subject,
                "correlation_id": message.correlation_id or None,
                "symbol": message.symbol or None,
                "idempotency_key": message.idempotency_key,
                "data": message.data,
            },
        )
        return out.getvalue()

    def _produce(self, producer: Any, message: Message, failed: Any) -> None:
        """Queue one message; where the queue is full, wait for a part of it."""
        value, key = self.value(message), message.key.encode()
        while True:
            try:
                producer.produce(
                    self._topics[message.topic],
                    value,
                    key,
                    headers=[("event_id", message.event_id.encode())],
                    timestamp=int(message.at.timestamp() * 1000),
                    on_delivery=failed,
                )
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def _opened(self) -> Any:
        if self._producer is None:
            self._producer = self._kafka.Producer(self._settings)
        return self._producer

    def _drop(self) -> None:
        """Forget the producer with what it has queued, so that nothing old is sent after what comes next."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(1)

    def _frame(self, topic: str) -> bytes:
        if topic not in self._frames:
            client = self._registry.SchemaRegistryClient.new_client(registry_settings(self._url))
            schema = self._registry.Schema(self._text, "AVRO")
            self._frames[topic] = pack(">bI", MAGIC, client.register_schema(f"{topic}-value", schema))
        return self._frames[topic]

    @contextmanager
    def _known_errors(self) -> Iterator[None]:
        """Turn the clients' errors into ours."""
        try:
            yield
        except MaxxitError:
            raise
        except self._kafka.KafkaException as error:
            raise self._error(error.args[0]) from error
        except self._registry.error.SchemaRegistryError as error:
            text = redact.text(str(error))
            if error.http_status_code in (401, 403, 409, 422):
                raise Misconfigured(
                    f"config/bus.yaml: kafka.options.registry refuses our schema: {text}"
                ) from error
            raise Retryable(f"schema registry: {text}") from error
        except self._away as error:
            raise Retryable(f"schema registry: {redact.text(str(error))}") from error

    def _error(self, error: Any) -> MaxxitError:
        """Return our error for one of librdkafka."""
        codes, text = self._kafka.KafkaError, f"Kafka: {redact.text(str(error.str()))}"
        if error.code() in (codes.MSG_SIZE_TOO_LARGE, codes.INVALID_RECORD, codes.INVALID_MSG):
            return Rejected(text, code="kafka_refused")
        if error.code() in (
            codes._AUTHENTICATION,
            codes.SASL_AUTHENTICATION_FAILED,
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes.CLUSTER_AUTHORIZATION_FAILED,
            codes._INVALID_ARG,
        ):
            return Misconfigured(f"config/bus.yaml: kafka.options: {text}")
        return Retryable(text)
