"""What `make up` holds in memory while it idles: the proportional set size (PSS) of each of its parts.

    python -m tests.bench.memory [--seconds 30]

Starts the whole in a folder of its own, lets it run for so long, and adds up each part with its children. Shared pages
count once, divided among those who share them (`smaps_rollup`).
"""

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from tests.chaos.stack import PATTERNS, Stack

MB = 1024 * 1024


def pss(process: psutil.Process) -> int:
    """Bytes, children included."""
    family = [process, *process.children(recursive=True)]
    return sum(one.memory_full_info().pss for one in family if one.is_running())


def main() -> None:
    """Print a line for each part, and the sums."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=30)
    wait = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="maxxit-memory-") as home:
        stack = Stack.start(Path(home))
        try:
            time.sleep(wait)
            held = {name: pss(stack.find(name)) for name in PATTERNS}
        finally:
            stack.stop()
    for name, size in held.items():
        print(f"{name:<16} {size / MB:7.0f} MB")
    workers = [size for name, size in held.items() if name.startswith("worker")]
    base = held["web"] + held["beat"]
    print(f"web + beat + one worker (the largest): {(base + max(workers)) / MB:.0f} MB; target 300 MB")
    print(f"web + beat + all {len(workers)} workers: {(base + sum(workers)) / MB:.0f} MB")


if __name__ == "__main__":
    main()
