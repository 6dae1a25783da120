"""Issue 6, done when seen 1: `python -m tests.replay.recorded_month` (about eight minutes; README's data beside us).

Plays December 2017 with the provider `openai`, once against a fake model server that is recorded, once from the
recordings with the server down, and once with another prompt. Prints what it measured as JSON; exit code 1 when the
second run is not the first, byte for byte, or when the third does not end at the first missing recording, naming it.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.llm.server import running
from tests.replay.recorded import DATA, Played, Span, change_prompt, our_config, play, reader


def main() -> int:
    """Do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--posts", type=Path, default=DATA / "posts-2017-12.jsonl")
    parser.add_argument("--candles", type=Path, default=DATA)
    parser.add_argument("--from", dest="start", default="2017-12-01")
    parser.add_argument("--to", dest="end", default="2017-12-31")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recorded-month-") as folder:
        told, wrong = recorded_and_replayed(
            Span(given.posts, given.candles, given.start, given.end, Path(folder))
        )
    print(json.dumps(told, indent=1))
    for one in wrong:
        print(f"WRONG: {one}", file=sys.stderr)
    return 1 if wrong else 0


def recorded_and_replayed(span: Span) -> tuple[dict[str, Any], list[str]]:
    """The three runs: what was measured, and what was not as it must be."""
    config = our_config(span.folder / "config")
    with running() as server:
        server.otherwise = reader()
        first = _played("recording", play(span, "record", server.url, config))
        asked = len(server.asked)
    files = sorted(span.recordings.iterdir())
    again = _played("replaying, the server is down", play(span, "replay", server.url, config))
    change_prompt(config)
    other = _played("replaying with another prompt", play(span, "replay", server.url, config))
    said = other.errors.strip().splitlines()[-1] if other.errors.strip() else ""
    told = {
        "posts": first.figures.get("posts"),
        "signals": first.figures.get("signals"),
        "orders": first.figures.get("orders"),
        "events": first.figures.get("events"),
        "events_bytes": len(first.events),
        "events_sha256": first.figures.get("events_sha256"),
        "replayed_sha256": again.figures.get("events_sha256"),
        "calls": asked,
        "recordings": len(files),
        "recordings_bytes": sum(file.stat().st_size for file in files),
        "seconds": {"record": round(first.seconds, 1), "replay": round(again.seconds, 1)},
        "other_prompt": {"exit_code": other.code, "seconds": round(other.seconds, 1), "said": said[-400:]},
    }
    held = {
        f"the recording run failed: {first.errors[-500:]}": first.code == 0,
        f"the replay failed: {again.errors[-500:]}": again.code == 0,
        "the events differ": first.events == again.events != b"",
        "the figures differ": first.figures == again.figures,
        f"{asked} calls, {len(files)} recordings": asked == len(files) > 0,
        "another prompt was answered": other.code == 1,
        "the missing recording is not named": "no recording of 'classify' by openai" in said,
        "a replay wrote recordings": sorted(span.recordings.iterdir()) == files,
    }
    return told, [what for what, right in held.items() if not right]


def _played(what: str, played: Played) -> Played:
    print(f"{what}: {played.seconds:.0f} s, exit code {played.code}", file=sys.stderr)
    return played


if __name__ == "__main__":
    sys.exit(main())
