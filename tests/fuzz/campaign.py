"""Runs targets over damaged samples and keeps what they did wrong."""

import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from maxxit.core.errors import MaxxitError
from tests.fuzz import answers, chain, feeds, files
from tests.fuzz.door import Target, replaced
from tests.fuzz.mutate import Mutator

TARGETS = feeds.TARGETS | answers.TARGETS | chain.TARGETS | files.TARGETS
COLUMNS = ("inputs", "refused whole", "rows read", "rows refused", "violations")


@dataclass
class Violation:
    """One kind of violation: how often, and the first input that showed it."""

    number: int
    input: bytes
    trace: str = ""
    times: int = 0


@dataclass
class Result:
    """One target's inputs. Rows are counted where the input was not refused as a whole."""

    target: str
    inputs: int = 0
    whole: int = 0
    """Inputs that were refused as a whole, with one of our own errors."""
    read: int = 0
    refused: int = 0
    violations: int = 0
    kinds: dict[str, Violation] = field(default_factory=dict)

    def row(self) -> tuple[int, ...]:
        """In the order of `COLUMNS`."""
        return self.inputs, self.whole, self.read, self.refused, self.violations

    def as_json(self) -> dict[str, Any]:
        """With the first input of each kind as escaped text."""
        return asdict(self) | {
            "kinds": {name: asdict(one) | {"input": repr(one.input)} for name, one in self.kinds.items()}
        }

    def violated(self, kind: str, number: int, data: bytes, trace: str = "") -> None:
        self.violations += 1
        self.kinds.setdefault(kind, Violation(number, data, trace)).times += 1


def inputs_of(name: str, target: Target, seed: int) -> Callable[[int], bytes]:
    """Input number -> bytes."""
    return Mutator(target.samples, seed * 1_000_003 + zlib.crc32(name.encode())).make


def run(inputs: int, seed: int, only: str = "", part: tuple[int, int] = (1, 1)) -> Iterator[Result]:
    """Each target whose name contains `only`, with an equal share of `inputs`; of them every part[1]-th."""
    names = [name for name in TARGETS if only in name]
    each = -(-inputs // max(1, len(names)))
    with replaced():
        for name in names:
            yield one_target(name, TARGETS[name], range(part[0] - 1, each, part[1]), seed)


def one_target(name: str, target: Target, numbers: Iterable[int], seed: int) -> Result:
    """The inputs of one target with these numbers."""
    make, result = inputs_of(name, target, seed), Result(name)
    for number in numbers:
        data = make(number)
        result.inputs += 1
        try:
            outcome = target.read(data)
        except MaxxitError:
            result.whole += 1
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
            result.violated(kind, number, data, traceback.format_exc(limit=-4))
        else:
            result.read, result.refused = result.read + outcome.read, result.refused + outcome.refused
            if outcome.lost:
                kind = f"read {outcome.read} + refused {outcome.refused} is not present {outcome.present}"
                result.violated(kind, number, data)
    return result


def table(results: Iterable[Result]) -> str:
    """The results as Markdown, with their sum."""
    rows = [(one.target, one.row()) for one in results]
    rows.append(("all", tuple(sum(column) for column in zip(*(row for _, row in rows), strict=True))))
    lines = [f"| target | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(f'{n:,}' for n in row)} |" for name, row in rows)])
