"""Damaged samples: bytes flipped, cut, repeated or moved, values replaced, and JSON of another structure."""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|\b(?:true|false|null)\b')
AWKWARD = (
    b"null", b"true", b"[]", b"{}", b'""', b'" "', b"0", b"-1", b"1.5", b"-0.0", b"1e999", b"1e-999", b"NaN",
    b"Infinity", b"-Infinity", b"1e99999999999999999999", b'"NaN"', b'"Infinity"', b'"-1"', b'"1e400"', b'"0x"',
    b'"0xzz"', b'"0x0"', b"9223372036854775808", b"99999999999999999999999999", b"9" * 5000, b'"' + b"9" * 5000 + b'"',
    b'"\\u0000"', b'"\\ud800"', b'"\xff\xfe"', b"\x00", b'"2026-13-45T99:99:99Z"', b'"1970-01-01"', b"1700000000",
    b"1700000000000000", b"177245284528452800", b'"\xd9\xa3"', b'"_1_0"', b"[" * 300, b'{"a":' * 300, b"[[]]",
    b'{"id": null}', b"[null]", b'"' + b"A" * 30_000 + b'"', b"\xef\xbb\xbf", b"\r", b",", b"\n\n", b"\\", b'"', b"-",
    b"\x1f\x8b",
)  # fmt: skip
"""What readers of JSON, CSV and hex have trouble with."""
VALUES: tuple[Any, ...] = (
    None, True, [], {}, [None], {"id": None}, "", " ", "\0", "NaN", "0x", "-1", 0, -1, 1.5, 10**18, 10**30,
    float("inf"),
)  # fmt: skip
Span = tuple[int, int]


class Mutator:
    """Damaged samples. Input `number` is the same for the same samples and seed."""

    def __init__(self, samples: Sequence[bytes], seed: int) -> None:
        self.samples, self.seed = list(samples), seed
        self.values = [[match.span() for match in VALUE.finditer(sample)] for sample in self.samples]
        self.documents = [_documents(sample) for sample in self.samples]
        self.random = random.Random()
        self.ways: list[Callable[[bytes], bytes]] = [
            self._flip, self._cut, self._repeat, self._insert, self._splice, self._end,
        ]  # fmt: skip

    def make(self, number: int) -> bytes:
        """A sample as it is for the first numbers, then one of them after one or more edits."""
        if number < len(self.samples):
            return self.samples[number]
        self.random.seed(self.seed * 1_000_000_007 + number)
        pick = self.random
        place = pick.randrange(len(self.samples))
        made = self._first(self.samples[place], self.values[place], self.documents[place])
        while pick.random() < 0.35:
            made = pick.choice(self.ways)(made)
        return made

    def _first(self, sample: bytes, values: list[Span], documents: list[Span]) -> bytes:
        """One edit: of the structure, of a value, or of bytes."""
        kind = self.random.random()
        if documents and kind < 0.35:
            return self._restructure(sample, documents)
        if values and kind < 0.7:
            return self._replace(sample, values)
        return self.random.choice(self.ways)(sample)

    # -- values and structure

    def _replace(self, sample: bytes, values: list[Span]) -> bytes:
        """One value becomes an awkward one, or another of the sample's."""
        start, end = self.random.choice(values)
        if self.random.random() < 0.7:
            other = self.random.choice(AWKWARD)
        else:
            other = sample[slice(*self.random.choice(values))]
        return sample[:start] + other + sample[end:]

    def _restructure(self, sample: bytes, documents: list[Span]) -> bytes:
        """One JSON document with an item removed, doubled, moved, renamed, replaced or wrapped."""
        start, end = self.random.choice(documents)
        document = [json.loads(sample[start:end])]
        container = self.random.choice(_containers(document))
        keys = [*container] if isinstance(container, dict) else [*range(len(container))]
        self._edit(container, self.random.choice(keys), self.random.choice(keys))
        text = json.dumps(document[0] if document else None, ensure_ascii=False)
        return sample[:start] + text.encode("utf-8", "surrogatepass") + sample[end:]

    def _edit(self, container: Any, key: Any, other: Any) -> None:
        way, value = self.random.randrange(6), container[key]
        if way == 0:
            del container[key]
        elif way == 1 and isinstance(container, list):
            container.insert(key, value)
        elif way == 1:
            container[self.random.choice((key.upper(), key + "s", "", "id"))] = container.pop(key)
        elif way == 2:
            container[key], container[other] = container[other], value
        elif way == 3:
            container[key] = self.random.choice(([value], {"data": value}, json.dumps(value), [value, value]))
        else:
            container[key] = self.random.choice(VALUES)

    # -- bytes

    def _place(self, data: bytes) -> int:
        return self.random.randrange(len(data) + 1)

    def _span(self, data: bytes) -> Span:
        start = self._place(data)
        return start, min(len(data), start + self.random.choice((1, 1, 2, 4, 16, 64, 200)))

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return b"\0"
        place = self.random.randrange(len(data))
        return data[:place] + bytes([data[place] ^ (1 << self.random.randrange(8))]) + data[place + 1 :]

    def _cut(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:end] + data[start:end] * self.random.choice((1, 1, 1, 2, 8)) + data[end:]

    def _insert(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self.random.choice(AWKWARD) + data[place:]

    def _splice(self, data: bytes) -> bytes:
        """A part of another sample."""
        other = self.random.choice(self.samples)
        start, end = self._span(other)
        place = self._place(data)
        return data[:place] + other[start:end] + data[place:]

    def _end(self, data: bytes) -> bytes:
        return data[: self._place(data)]


def _documents(sample: bytes) -> list[Span]:
    """Where the JSON documents of a sample stand: all of it, or its lines."""
    if _is_json(sample):
        return [(0, len(sample))]
    found, start = [], 0
    for line in sample.splitlines(keepends=True):
        if line.strip() and _is_json(line):
            found.append((start, start + len(line.rstrip())))
        start += len(line)
    return found


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict | list)
    except ValueError:
        return False


def _containers(document: Any) -> list[Any]:
    """Every object and array that holds something, `document` first."""
    found: list[Any] = []
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list) and one:
            found.append(one)
            waiting += one.values() if isinstance(one, dict) else one
    return found
