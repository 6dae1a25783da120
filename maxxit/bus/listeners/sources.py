"""The sources of listeners: our event log, a Redis stream, a Kafka topic."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from maxxit.bus import updates
from maxxit.bus.cursors import advance, cursor_of, refuse_restored
from maxxit.bus.listeners.base import Inbound, Source, inbound
from maxxit.bus.models import EventCursor
from maxxit.bus.relays.kafka import EXTRA, client_settings, registry_settings
from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.core.untrusted import storable
from maxxit.events import log
from maxxit.market.stream.status import open_bus


class EventLog:
    """Our events, and the updates that follow from them, from the listener's own cursor on."""

    def __init__(self, name: str, final: log.FinalId) -> None:
        self._name, self._final = name, final
        self._cursor: EventCursor | None = None
        self._upto = self._read = 0

    def read(self, most: int) -> Sequence[Inbound]:
        """See `Source.read`."""
        final = self._final.read()
        self._cursor = cursor_of(self._name, final)
        refuse_restored(self._cursor, self._final.newest)
        events = log.read(self._cursor.position, final, most)
        self._upto, self._read = (events[-1].id if events else self._cursor.position), len(events)
        return [
            Inbound(one.event_id, one.name, one.key, json.loads(one.as_json()))
            for one in updates.messages(events)
        ]

    def done(self) -> None:
        """See `Source.done`."""
        if self._cursor is not None and self._read:
            advance(self._cursor, self._upto, sent=self._read)

    def close(self) -> None:
        """There is nothing to close."""


class RedisStream:
    """A Redis stream, by a consumer group of the listener's own, made where it is missing.

    A new group begins with the oldest entry: after Redis lost its memory, nothing tells whether what it holds was read.
    """

    def __init__(self, name: str, *, stream: str, url: str = "") -> None:
        self._stream, self._group = stream, f"maxxit:{name}"
        self._bus = open_bus(url or os.environ.get("BUS_REDIS_URL", ""))
        self._has_group = False
        """Whether the group is known to exist."""
        self._pending = True
        """Whether entries may be left that were read and not acknowledged before a crash."""
        self._entries: list[bytes] = []

    def read(self, most: int) -> Sequence[Inbound]:
        """See `Source.read`."""
        try:
            self._make_group()
            self._pending = self._pending or bool(
                self._entries
            )  # a step that failed did not mark them as done
            found = self._next(most) if self._pending else []
            self._pending = bool(found)
            found = found or self._next(most, ">")
        except redis.ResponseError as error:
            if "NOGROUP" in str(error):
                self._has_group = False  # Redis lost its memory: the next read makes the group again
            raise Retryable(f"Redis: {error}") from error
        except redis.RedisError as error:
            raise Retryable(f"Redis: {error}") from error
        self._entries = [ident for ident, _ in found]
        return [self._inbound(ident.decode(), fields) for ident, fields in found if fields]

    def done(self) -> None:
        """See `Source.done`."""
        if self._entries:
            try:
                self._bus.xack(self._stream, self._group, *self._entries)
            except redis.RedisError as error:
                raise Retryable(f"Redis: {error}") from error
            self._entries = []

    def close(self) -> None:
        """Close the connections."""
        self._bus.close()

    def _make_group(self) -> None:
        if self._has_group:
            return
        try:
            self._bus.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._has_group = True

    def _next(self, most: int, after: str = "0") -> list[tuple[bytes, dict[bytes, bytes]]]:
        streams: Any = {self._stream: after}
        answer: Any = self._bus.xreadgroup(self._group, "maxxit", streams, count=most)
        return [entry for _, entries in answer for entry in entries]

    def _inbound(self, ident: str, fields: Mapping[bytes, bytes]) -> Inbound:
        texts = {
            name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()
        }
        where = f"{self._stream}:{ident}"
        return _of_json(texts["message"], where, "") if "message" in texts else inbound(texts, where, "")


class KafkaTopic:
    """A Kafka topic, by a consumer group of the listener's own: JSON, or Avro of the schema registry."""

    def __init__(
        self, name: str, *, servers: str, topic: str, registry: str = "", settings: Mapping[str, Any] = {}
    ) -> None:
        try:
            import confluent_kafka
            from confluent_kafka.schema_registry import SchemaRegistryClient, avro
        except ImportError as error:
            raise Misconfigured(f"{EXTRA} ({error})") from None
        self._kafka, self._topic = confluent_kafka, topic
        self._avro = (
            avro.AvroDeserializer(SchemaRegistryClient.new_client(registry_settings(registry)))
            if registry
            else None
        )
        self._consumer = confluent_kafka.Consumer(
            {
                **client_settings(servers, settings),
                "group.id": f"maxxit-{name.replace(':', '-')}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.subscribe([topic])
        self._messages: list[Any] = []

    def read(self, most: int) -> Sequence[Inbound]:
        """See `Source.read`."""
        try:
            found = self._consumer.consume(most, timeout=0.2)
        except self._kafka.KafkaException as error:
            raise Retryable(f"Kafka: {redact.text(str(error))}") from error
        if errors := [failure for one in found if (failure := one.error())]:
            raise Retryable(f"Kafka: {redact.text(errors[0].str())}")
        self._messages = found
        return [self._inbound(one) for one in found]

    def done(self) -> None:
        """See `Source.done`."""
        if not self._messages:
            return
        try:
            self._consumer.commit(asynchronous=False)
        except self._kafka.KafkaException as error:
            raise Retryable(f"Kafka: {redact.text(str(error))}") from error

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def _inbound(self, message: Any) -> Inbound:
        ident = f"{self._topic}:{message.partition()}:{message.offset()}"
        key = (message.key() or b"").decode(errors="replace")
        value = message.value() or b""
        if value[:1] != b"\0":
            return _of_json(value.decode(errors="replace"), ident, key)
        if self._avro is None:
            return _unreadable(
                "Avro without a registry: set `registry` in the listener's options", ident, key
            )
        try:
            body = self._avro(value, None)
        except Exception as error:  # the client's own errors, and those of Avro
            return _unreadable(f"no Avro of the registry: {error}", ident, key)
        return inbound(body, ident, key) if isinstance(body, dict) else _unreadable("no record", ident, key)


def _of_json(text: str, ident: str, key: str) -> Inbound:
    try:
        body = json.loads(text)
    except ValueError:
        return _unreadable(f"no JSON: {text[:200]}", ident, key)
    return (
        inbound(body, ident, key)
        if isinstance(body, dict)
        else _unreadable(f"no JSON object: {text[:200]}", ident, key)
    )


def _unreadable(error: str, ident: str, key: str) -> Inbound:
    return Inbound(storable(ident)[:120], "", storable(key or ident)[:120], {}, storable(error))


def open_source(kind: str, name: str, options: Mapping[str, Any], final: log.FinalId) -> Source:
    """Open a source of `config/bus.yaml`. Raises `Misconfigured` for an option that it does not take."""
    try:
        if kind == "events":
            return EventLog(f"listener:{name}", final, **options)
        return (RedisStream if kind == "redis" else KafkaTopic)(name, **options)
    except TypeError as error:
        raise Misconfigured(f"config/bus.yaml: listener_stanzas.{name}.options: {error}") from error
