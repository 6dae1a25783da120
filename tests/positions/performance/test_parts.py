"""The parts of the PnL: what each holds, that every list of them adds up, and that the roll-up changes none."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal as D
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.config import ROOT
from positions import tasks
from positions.models import PnlPart, PnlWatermark, Position
from positions.performance import parts, roll_up
from positions.performance.parts import DIMENSIONS, Part
from signals_app.generate import generate
from signals_app.models import Signal
from signals_app.policy import policy
from tests import builders as make
from tests.builders import HOUR, RecordedClock
from tests.fakes import FakeModel
from tests.positions.performance.drafts import DRAFTS, SPANS, START, Draft, World
from trading import passes

pytestmark = pytest.mark.django_db


@settings(max_examples=15)
@given(
    drafts=DRAFTS,
    span=SPANS,
    scope=st.none() | st.sets(st.integers(0, 2)),
    passes=st.lists(st.integers(0, 6 * 1440), max_size=3),
    batch=st.integers(1, 4),
)
def test_every_list_of_parts_adds_up_to_the_total_of_its_deployments_and_span(
    drafts: list[Draft],
    span: tuple[datetime | None, datetime | None],
    scope: set[int] | None,
    passes: list[int],
    batch: int,
) -> None:
    with transaction.atomic(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(roll_up, "BATCH", batch)
        world = World.made()
        for draft in drafts:
            world.close(draft)
        for minute in sorted(passes):
            with clock.frozen(START + timedelta(minutes=minute)):
                roll_up.roll_up()
        assert roll_up.differences() == []
        ids = None if scope is None else [world.deployments[place].pk for place in sorted(scope)]
        read = parts.breakdown(DIMENSIONS, ids, *span)
        total = parts.total(ids, *span)
        for dimension, found in read.items():
            assert _by_key(found) == world.expected(drafts, dimension, ids, *span), dimension
            whole = _bare(sum(found, Part("")))
            assert replace(whole, trades=total.trades) == _bare(total), dimension
            assert whole.trades == total.trades or dimension == "author"  # each author counts a whole trade
        transaction.set_rollback(True)


def _by_key(found: list[Part]) -> dict[str, Part]:
    return {part.key: _bare(part, part.key) for part in found}


def _bare(part: Part, key: str = "") -> Part:
    """The part without its label, and with numbers that compare."""
    return Part(key) + part


def closed(deployment: Deployment, pnl: str = "5", *, ago: timedelta = HOUR, **fields: Any) -> Position:
    """A position that closed so long before now."""
    return make.position(
        deployment,
        state="closed",
        realised_pnl=D(pnl),
        opened_at=clock.now() - ago - HOUR,
        closed_at=clock.now() - ago,
        **fields,
    )


def test_a_trade_is_divided_among_the_authors_by_the_weights_of_their_posts(time: RecordedClock) -> None:
    agent = make.agent()
    anna, ben = make.account(agent, username="anna"), make.account(agent, username="ben")
    posts = [make.candidate(author) for author in (anna, anna, ben)]
    weights = {str(post.pk): weight for post, weight in zip(posts, ("0.5", "0.25", "0.25"), strict=True)}
    called = make.signal(agent, risk_model={"posts": weights})
    called.posts.set(posts)
    deployment = make.deployment(agent)
    closed(deployment, "10.000001", by=called)
    closed(deployment, "-4")

    found = {
        part.label: (part.net, part.closed, part.trades)
        for part in parts.attribution("author", [deployment.pk])
    }
    assert found == {
        "@anna": (D("7.500001"), D("0.75"), 1),
        "@ben": (D("2.500000"), D("0.25"), 1),
        "no post": (D(-4), 1, 1),
    }


def test_a_signal_stores_the_weight_of_each_post(time: RecordedClock, model: FakeModel) -> None:
    agent = make.agent()
    make.hourly_bars("ETH", make.rising())
    make.price("ETH", "2000")
    strong = make.candidate(make.account(agent, impact_factor=D("0.8")), confidence="0.9")
    weak = make.candidate(make.account(agent, impact_factor=D("0.1")), confidence="0.5")
    generate(policy().generate)

    # Weights: 0.9 × min(1.6, 1) and 0.5 × 0.2
    assert Signal.objects.get().risk_model["posts"] == {str(strong.pk): "0.900000", str(weak.pk): "0.100000"}


def test_two_passes_add_a_position_once(time: RecordedClock) -> None:
    deployment = make.deployment(make.agent())
    closed(deployment)
    assert (roll_up.roll_up(), roll_up.roll_up()) == (1, 0)
    closed(deployment, "-3", ago=timedelta(minutes=5))
    assert roll_up.roll_up() == 0, "too new to be complete"
    assert parts.total().net == 2
    time.move(minutes=15)
    assert roll_up.roll_up() == 1
    assert parts.total().net == 2
    assert PnlPart.objects.get(dimension="total", deployment=deployment).trades == 2


def test_positions_that_closed_at_the_same_moment_are_in_one_batch(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_up, "BATCH", 2)
    deployment = make.deployment(make.agent())
    for _ in range(5):
        closed(deployment)
    assert roll_up.roll_up() == 5
    assert roll_up.differences() == []


def test_a_pass_without_time_left_wakes_the_next_one(
    time: RecordedClock, woken: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (tasks.roll_up_pnl(), woken) == (0, set())
    monkeypatch.setattr(passes.TimeBudget, "left", _no_time)
    assert (tasks.roll_up_pnl(), woken) == (0, {tasks.ROLL_UP})


def _no_time(budget: passes.TimeBudget) -> bool:
    budget.cut = True
    return False


def test_a_batch_that_fails_leaves_nothing(time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(make.deployment(make.agent()))
    with monkeypatch.context() as patch:
        patch.setattr(PnlWatermark, "save", _fail)
        with pytest.raises(RuntimeError):
            roll_up.roll_up()
    assert not PnlPart.objects.exists()
    assert roll_up.roll_up() == 1


def _fail(*args: Any, **options: Any) -> None:
    raise RuntimeError("killed before the watermark moved")


def test_a_corrected_position_is_found_and_added_again(time: RecordedClock) -> None:
    right, wrong = (make.deployment(make.agent()) for _ in range(2))
    closed(right)
    position = closed(wrong)
    roll_up.roll_up()
    Position.objects.filter(pk=position.pk).update(realised_pnl=D(-1))
    assert roll_up.differences() == [wrong.pk]
    roll_up.start_over()
    assert parts.total().net == 4, "read from the positions meanwhile"
    assert (roll_up.roll_up(), roll_up.differences()) == (2, [])


@pytest.mark.django_db(transaction=True)
def test_the_watermark_waits_for_a_transaction_that_is_still_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_up, "BEHIND", -HOUR)
    deployment = make.deployment(make.agent(), funded=False)
    writing, done = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            closed(deployment, ago=timedelta(0))
            writing.set()
            done.wait(30)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert writing.wait(30)
        closed(deployment, "7", ago=timedelta(0))
        assert roll_up.roll_up() == 0, "one that closed no later is still to be committed"
    finally:
        done.set()
        writer.join()
    assert roll_up.roll_up() == 2
    assert parts.total().net == 12


KILLED = """
import django; django.setup()
from positions.performance import roll_up
roll_up.BATCH = 2
print("ready", flush=True)
roll_up.roll_up()
"""


@pytest.mark.django_db(transaction=True)
def test_a_roll_up_that_is_killed_at_any_moment_adds_each_position_once() -> None:
    deployment = make.deployment(make.agent(), funded=False)
    for number in range(60):
        closed(deployment, str(number), ago=HOUR + timedelta(seconds=number))
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    for milliseconds in (2, 40, 90):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url.geturl()},
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            sleep(milliseconds / 1000)
            process.send_signal(signal.SIGKILL)
        assert roll_up.differences() == []
        assert parts.total().net == sum(range(60))
    roll_up.roll_up()
    assert (
        roll_up.differences(),
        PnlPart.objects.get(dimension="total", deployment=None, day=None).trades,
    ) == ([], 60)
