"""The campaign from the command line."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import django
from django.conf import settings

import tests.fuzz

if TYPE_CHECKING:
    from tests.fuzz.campaign import Result


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=tests.fuzz.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets and parts together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="targets with this text in their name")
    parser.add_argument(
        "--part", type=part, default=(1, 1), metavar="N/M", help="every M-th input, from the N-th"
    )
    parser.add_argument("--number", type=int, help="show this input of the targets, and what comes of it")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def part(text: str) -> tuple[int, int]:
    """N and M of "N/M"."""
    number, _, of = text.partition("/")
    if not 1 <= int(number) <= int(of):
        raise ValueError(text)
    return int(number), int(of)


def start_django() -> None:
    """Settings of a replay, without database, Redis or the developer's environment."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "maxxit.settings", "MAXXIT_PROFILE": "replay", "MAXXIT_ENV_FILE": os.devnull,
        "MAXXIT_DATA_DIR": tempfile.mkdtemp(prefix="maxxit-fuzz-"), "REDIS_URL": "redis://127.0.0.1:1/0",
    }  # fmt: skip
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    django.setup()


def show(only: str, seed: int, number: int) -> None:
    """One input of each target, and its result."""
    from tests.fuzz import campaign
    from tests.fuzz.door import replaced

    for name, target in campaign.TARGETS.items():
        if only in name:
            print(f"{name} {number}: {campaign.inputs_of(name, target, seed)(number)!r}")
            with replaced():
                print(campaign.one_target(name, target, [number], seed).as_json())


def main() -> int:
    given = arguments()
    start_django()
    if given.number is not None:
        show(given.only, given.seed, given.number)
        return 0
    from tests.fuzz.campaign import run

    began = time.monotonic()
    results: list[Result] = []
    for one in run(given.inputs, given.seed, given.only, given.part):
        results.append(one)
        print(
            f"{time.monotonic() - began:6.0f} s  {one.target}: {one.violations} violations", file=sys.stderr
        )
    report(results, given.seed, time.monotonic() - began, as_json=given.json)
    return 1 if any(one.violations for one in results) or not results else 0


def report(results: "list[Result]", seed: int, seconds: float, *, as_json: bool) -> None:
    from tests.fuzz.campaign import table

    if as_json:
        print(
            json.dumps({"seed": seed, "seconds": round(seconds), "targets": [r.as_json() for r in results]})
        )
        return
    print(f"{table(results)}\n\nseed {seed}, {seconds:.0f} s")
    for one in results:
        for kind, first in one.kinds.items():
            print(
                f"\n{one.target} {first.number}: {kind} ({first.times} times)\n{first.trace}{first.input[:300]!r}"
            )


if __name__ == "__main__":
    sys.exit(main())
