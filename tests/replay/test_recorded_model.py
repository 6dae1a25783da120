"""A model's answers, recorded once, replay bit for bit without it; another prompt finds no recording and says so.

The whole month: `python -m tests.replay.recorded_month`.
"""

import json
import re
from pathlib import Path

import pytest

from tests.llm.server import running
from tests.replay.recorded import DATA, Span, change_prompt, our_config, play, reader

START, END = "2017-12-07", "2017-12-07"
AUTHORS = {"CarpeNoctom", "VentureCoinist", "anondran"}

pytestmark = [pytest.mark.realdata, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def span(tmp_path: Path) -> Span:
    """A day of three people."""
    with (DATA / "posts-2017-12.jsonl").open() as lines:
        kept = [
            line
            for line in lines
            if START <= json.loads(line)["created_at"][:10] <= END and json.loads(line)["username"] in AUTHORS
        ]
    file = tmp_path / "posts.jsonl"
    file.write_text("".join(kept))
    return Span(file, DATA, START, END, tmp_path)


@pytest.mark.limit(600)
def test_a_recorded_model_replays_with_the_server_down_and_another_prompt_does_not(
    worker_environ: dict[str, str], span: Span
) -> None:
    config = our_config(span.folder / "config")
    with running() as server:
        server.otherwise = reader()
        recorded = play(span, "record", server.url, config, worker_environ)
        asked = len(server.asked)
    assert recorded.code == 0, recorded.errors[-3000:]
    assert recorded.figures["signals"] > 0
    recordings = sorted(span.recordings.iterdir())
    assert len(recordings) == asked > 10

    again = play(span, "replay", server.url, config, worker_environ)  # nothing listens there any more
    assert again.code == 0, again.errors[-3000:]
    assert again.events == recorded.events
    assert again.figures == recorded.figures

    change_prompt(config)
    other = play(span, "replay", server.url, config, worker_environ)
    assert other.code == 1
    told = other.errors.strip().splitlines()[-1]
    assert "no recording of 'classify' by openai" in told
    named = re.findall(rf"{re.escape(str(span.recordings))}/\w{{64}}\.json", told)
    assert len(named) == 1, "the first that is missing ends it"
    assert not Path(named[0]).exists()
    assert sorted(span.recordings.iterdir()) == recordings
