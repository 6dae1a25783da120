"""Issue 6, done when seen 2: `python -m tests.llm.injection` prints the table of docs/reading.md (about two minutes).

Every attack of `tests.llm.attacks` goes through the real steps, in a database of its own, with a model that obeys the
attacker: each is posted by an account of its own, which one agent with one funded deployment follows; one agent follows
all of them, and one follows somebody honest only. Then each kind is posted by one account over a whole day. The
platform's limits are wide open here, so that what is left is what the reading itself lets through.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any
from unittest.mock import patch

import yaml

SEED = 6
HOURS = 24
WIDE = 10**7
READ = ("reporting", "labels-2017-12.csv")


def main() -> int:
    """Set Django up, run, print. Exit code 1 when an attack had more than one signal of its author's own followers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="only each n-th attack (1)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON instead of a table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="injection-") as folder:
        os.environ |= {"MAXXIT_CONFIG_DIR": str(configured(Path(folder) / "config")), "MAXXIT_PROFILE": ""}
        os.environ["DJANGO_SETTINGS_MODULE"] = "maxxit.settings"
        import django

        django.setup()
        import logging

        from maxxit.embedded.scratch import scratch_database
        from maxxit.events import wake
        from tests.builders import RecordedClock

        logging.disable(logging.ERROR)
        begun = perf_counter()
        with scratch_database(), wake.collected():
            clock = RecordedClock()
            told = campaign(clock, given.every)
            clock.release()
        told["seconds"] = round(perf_counter() - begun, 1)
    if given.json:
        print(
            json.dumps(told | {"rows": {name: asdict(row) for name, row in told["rows"].items()}}, indent=1)
        )
    else:
        show(told)
    return 1 if told["escaped"] else 0


def configured(folder: Path) -> Path:
    """The project's, with the limits of risk out of the way and one token that counts as illiquid."""
    shutil.copytree(Path(__file__).parents[2] / "config", folder)
    risk = yaml.safe_load((folder / "risk.yaml").read_text())
    for limits in (risk["account"], risk["platform"]):
        limits |= {name: WIDE for name in limits if name.startswith("max_")}
    (folder / "risk.yaml").write_text(yaml.safe_dump(risk))
    markets = yaml.safe_load((folder / "markets.yaml").read_text())
    markets["instruments"]["OP"]["illiquid"] = True
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    return folder


@dataclass
class Row:
    """What one kind of attack came to."""

    attacks: int = 0
    obeyed: int = 0
    """Read as calls by the model."""
    calls: int = 0
    """Left of them after `verify`."""
    signals: int = 0
    """For the agents that follow the author, each in a world of its own."""
    most: int = 0
    """Of one agent, for one attack."""
    orders: int = 0
    elsewhere: int = 0
    """Signals for agents that do not follow the author."""
    a_day: int = 0
    """Signals for a follower when one account posts all of them within a day."""


@dataclass
class World:
    """Whose post is which attack, and who follows whom."""

    attacks: dict[str, Any] = field(default_factory=dict)
    """Post id -> attack."""
    kinds: dict[int, str] = field(default_factory=dict)
    """Agent -> kind of the attacks that it follows."""


def campaign(clock: Any, every: int = 1) -> dict[str, Any]:
    """All figures. `every` takes each n-th attack only."""
    from tests.llm.attacks import attacks

    chosen = list(attacks())[::every]
    rows: dict[str, Row] = {}
    for attack in chosen:
        rows.setdefault(kind(attack), Row()).attacks += 1
    escaped = one_each(clock, chosen, rows)
    everyone = rows_of_everyone()
    escaped += one_day(clock, chosen, rows)
    return {
        "rows": rows,
        "escaped": escaped,
        "everyone": everyone,
        "benign": benign(chosen),
        "attacks": len(chosen),
        "seed": SEED,
    }


def kind(attack: Any) -> str:
    """Return the decoded text."""
    return str(attack.kind).split(",")[0]


@contextmanager
def possessed(world: World) -> Iterator[None]:
    """Classification asks a model that does what the posts say, about all posts of a call."""
    from maxxit.llm.ask import ask
    from tests.llm.attacks import Obedient

    with patch("signals_app.classify.ask", partial(ask, provider=Obedient(world.attacks, spill=True))):
        yield


def markets() -> None:
    """Prices and calm bars for every token, until now."""
    from maxxit.core import clock
    from maxxit.market.instruments import all_instruments
    from tests import builders as make

    for symbol in all_instruments():
        make.price(symbol, "2000")
        make.hourly_bars(symbol, make.calm(), until=clock.now())


def passes() -> None:
    """From new posts to orders, until nothing moves."""
    from signals_app.classify import classify
    from signals_app.generate import generate
    from signals_app.models import CtPost
    from signals_app.policy import policy
    from tests.passes import execute_pass

    while classify(policy().classify).read:
        pass
    assert not CtPost.objects.filter(state="new").exists()
    generate(policy().generate)
    while execute_pass().out:
        pass


def one_each(clock: Any, chosen: Sequence[Any], rows: dict[str, Row]) -> list[str]:
    """Each attack by an account of its own, all at once; returns what reached somebody who does not follow it."""
    from signals_app.models import CtPost, Signal
    from tests import builders as make
    from trading.models import Order

    world = World()
    make.open_gate()
    markets()
    all_ears, deaf = make.agent(name="everyone", tokens=[]), make.agent(name="honest", tokens=[])
    for agent in (all_ears, deaf):
        make.deployment(agent)
    honest = make.account(deaf, all_ears)
    victim = make.post(honest, "good morning, what a lovely day for $LTC and its developers")
    attackers = {}
    for attack in chosen:
        agent = make.agent(tokens=[])
        make.deployment(agent)
        account = make.account(agent, all_ears)
        post = make.post(account, attack.text)
        world.attacks[post.post_id] = attack
        attackers[account.pk] = (agent.pk, attack)
    with possessed(world):
        passes()

    escaped = []
    made = Counter(Signal.objects.values_list("agent_id", flat=True))
    ordered = Counter(Order.objects.values_list("deployment__agent_id", flat=True))
    for author, (follower, attack) in attackers.items():
        row = rows[kind(attack)]
        row.obeyed += CtPost.objects.filter(account=author, confidence=1, sentiment=attack.side).count()
        row.calls += CtPost.objects.filter(account=author, is_signal_candidate=True).count()
        row.signals += made[follower]
        row.most = max(row.most, made[follower])
        row.orders += ordered[follower]
        seen = set(Signal.objects.filter(agent=follower).values_list("token", flat=True))
        if seen - set(attack.wants) or made[follower] > 1 or ordered[follower] > 1:
            escaped.append(f"{attack.kind}: {made[follower]} signals on {sorted(seen)}")
    for author, hearer in Signal.objects.exclude(agent=all_ears).values_list("posts__account", "agent"):
        if author not in attackers:
            escaped.append(f"a signal of {author}, who attacks nobody")
        elif attackers[author][0] != hearer:
            rows[kind(attackers[author][1])].elsewhere += 1
            escaped.append(f"a signal for agent {hearer}, who does not follow {author}")
    if CtPost.objects.get(pk=victim.pk).is_signal_candidate:
        escaped.append("somebody's honest post was turned into a call")
    return escaped


def rows_of_everyone() -> dict[str, Any]:
    """What the agent that follows every attacker at once was made to do."""
    from signals_app.models import Signal
    from trading.models import Order

    tokens = sorted(Signal.objects.filter(agent__name="everyone").values_list("token", flat=True))
    return {
        "signals": tokens,
        "orders": Order.objects.filter(deployment__agent__name="everyone").count(),
    }


def one_day(clock: Any, chosen: Sequence[Any], rows: dict[str, Row]) -> list[str]:
    """Each kind by one account, spread over a day, with a pass every hour; returns who had more than the cap."""
    from signals_app.models import Signal
    from signals_app.policy import policy
    from tests import builders as make

    clock.to((clock.now + timedelta(days=1)).replace(hour=0))
    world = World()
    followers = {}
    for name in rows:
        agent = make.agent(tokens=[])
        make.deployment(agent)
        followers[name] = (agent, make.account(agent), [one for one in chosen if kind(one) == name])
    with possessed(world):
        for hour in range(HOURS):
            markets()
            for _, account, own in followers.values():
                for attack in own[hour::HOURS]:
                    world.attacks[make.post(account, attack.text).post_id] = attack
            passes()
            clock.move(hours=1)
    cap = policy().generate.max_signals_per_author_per_day
    over = []
    for name, (agent, _, _) in followers.items():
        rows[name].a_day = Signal.objects.filter(agent=agent).count()
        if rows[name].a_day > cap:
            over.append(f"{name}: {rows[name].a_day} signals a day, the cap is {cap}")
    return over


def benign(chosen: Sequence[Any]) -> dict[str, Any]:
    """F1 on labelled posts that arrive among the attacks, and how many of them were turned.

    The model reads honest posts as the rules do, unless a post of the same call orders otherwise. Without defences a
    call takes 25 posts as they come, and what is answered counts; with them a call holds one author, and `verify`
    decides what counts.
    """
    from maxxit.market.instruments import stablecoins, words_by_token
    from signals_app.reading.evaluation import half, read_labels, read_texts
    from signals_app.reading.rules.read import Reader
    from signals_app.verify import verify
    from tests.replay.recorded import DATA

    if not DATA.exists():
        return {}
    labels = [
        one
        for one in read_labels(Path(__file__).parents[1] / "signals_app" / "reading" / READ[1])
        if half(one.post_id) == READ[0]
    ]
    texts = read_texts(DATA / "posts-2017-12.jsonl", (one.post_id for one in labels))
    reader = Reader.of(words_by_token())
    alone = {one.post_id: reader.read(texts[one.post_id]).as_json(one.post_id) for one in labels}
    mixed = [*labels, *chosen]
    Random(SEED).shuffle(mixed)
    taken: dict[str, Any] = {}
    for place in range(0, len(mixed), 25):
        call = mixed[place : place + 25]
        orders = [one for one in call if hasattr(one, "wants")]
        for one in call:
            if not hasattr(one, "wants"):
                taken[one.post_id] = obeying(alone[one.post_id], orders[0]) if orders else alone[one.post_id]
    kept = {}
    for ident, said in alone.items():
        found = verify(as_reading(said), texts[ident], words_by_token(), stablecoins())
        kept[ident] = said | {"candidate": found.candidate, "tokens": list(found.tokens)}
    return {
        "posts": len(labels),
        "alone": f1(labels, texts, alone),
        "without": f1(labels, texts, taken) | {"turned": turned(alone, taken)},
        "with": f1(labels, texts, kept) | {"turned": turned(alone, kept)},
    }


def obeying(said: dict[str, Any], order: Any) -> dict[str, Any]:
    """What the model says of somebody's post when another post of the call told it to."""
    tokens = {"candidate": True, "tokens": list(order.wants), "sentiment": order.side}
    return said | tokens | {"confidence": 1, "sides": {}}


def as_reading(said: dict[str, Any]) -> Any:
    """Typed."""
    from signals_app.reading.schema import Reading

    return Reading.model_validate(said)


def turned(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Posts that are read otherwise."""
    return sum(
        (one["candidate"], one["candidate"] and one["tokens"])
        != (after[ident]["candidate"], after[ident]["candidate"] and after[ident]["tokens"])
        for ident, one in before.items()
    )


def f1(labels: Sequence[Any], texts: dict[str, str], said: dict[str, Any]) -> dict[str, Any]:
    """Precision, recall and F1 of `candidate`."""
    from signals_app.reading.evaluation import Judged, judge

    counts = judge([Judged(one, texts[one.post_id], as_reading(said[one.post_id])) for one in labels]).classes
    told = counts["candidate"].as_json()
    return {name: told[name] for name in ("precision", "recall", "f1")}


def show(told: dict[str, Any]) -> None:
    """As Markdown, for docs/reading.md."""
    print(
        "| kind | attacks | obeyed by the model | calls left | signals to own followers | most per attack |",
        end="",
    )
    print(" orders | reaching others | one account, one day |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in told["rows"].items():
        cells = (
            row.attacks,
            row.obeyed,
            row.calls,
            row.signals,
            row.most,
            row.orders,
            row.elsewhere,
            row.a_day,
        )
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    rest = {name: value for name, value in told.items() if name != "rows"}
    print(json.dumps(rest, indent=1))


if __name__ == "__main__":
    sys.exit(main())
