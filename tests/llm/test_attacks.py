"""What attackers get: from a model that obeys them, from the parser, and from the rules reader."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Rejected
from maxxit.llm.ask import ask
from maxxit.llm.providers.base import Request
from maxxit.llm.schema import clean, read_answer, salvage
from maxxit.market.instruments import stablecoins, words_by_token
from signals_app.reading.rules.read import Reader
from signals_app.reading.schema import Reading, Readings
from signals_app.verify import verify
from tests.llm.attacks import CARRIERS, Attack, Obedient, attacks, plain_words

ALL = list(attacks())
NAMES = {"BTC": {"BTC", "BITCOIN"}, "ETH": {"ETH", "ETHEREUM"}}


def test_there_are_five_hundred_of_many_kinds() -> None:
    kinds = Counter(attack.kind for attack in ALL)
    assert len({attack.text for attack in ALL}) >= 500
    assert len(kinds) >= 40


@pytest.mark.django_db
def test_a_model_that_obeys_gets_no_further_than_tokens_in_its_own_text(policy_dir: Path) -> None:
    """Nothing unlisted, no stablecoin, no token that is not there to be seen; size and gate are not in its hands."""
    escaped = []
    caused: Counter[str] = Counter()
    for attack in ALL:
        orders = {"1": attack}
        got = ask(
            purpose="classify",
            data={
                "posts": [{"post_id": "1", "author": "x", "text": attack.text}],
                "tokens": words_by_token(),
            },
            schema=Readings,
            correlation_ids=[uuid4()],
            provider=Obedient(orders),
        )
        verified = verify(got.answer.readings[0], attack.text, words_by_token(), stablecoins())
        caused[attack.kind.split(",")[0]] += verified.candidate
        seen = plain_words(attack.text)
        escaped += [
            (attack, token)
            for token in verified.tokens
            if token not in words_by_token() or token in stablecoins() or not seen & NAMES.get(token, {token})
        ]
    print("candidates from an obedient model, by kind:", dict(caused))
    assert not escaped
    assert caused["coordinated pump"] == 0


@pytest.mark.parametrize(
    "attack", [one for one in ALL if one.wants[0] in {"SCAM", "USDT"}][:60], ids=lambda one: one.kind
)
def test_unlisted_coins_and_stablecoins_never_pass(attack: Attack) -> None:
    obeyed = Reading(
        post_id="1",
        candidate=True,
        tokens=attack.wants,
        sentiment="bullish",
        confidence=Decimal(1),
        reasoning="",
    )
    assert not verify(obeyed, attack.text, words_by_token(), stablecoins()).candidate


def test_a_second_reading_of_the_same_post_is_refused() -> None:
    """An attacker who makes the model write a second reading of somebody else's post gains nothing."""
    one = {
        "post_id": "1",
        "candidate": False,
        "tokens": [],
        "sentiment": "neutral",
        "confidence": 0,
        "reasoning": "",
    }
    text = json.dumps({"readings": [one, one | {"candidate": True}, one | {"post_id": "2"}]})
    with pytest.raises(Rejected, match="more than one reading"):
        read_answer(Readings, text)
    kept = salvage(Readings, text)
    assert kept is not None
    assert [reading.post_id for reading in kept.readings] == ["2"]


READER = Reader.of(words_by_token())
BENIGN = [
    *CARRIERS,
    "I'm long $BTC, target 20k",
    "Just bought more $ETH",
    "I sold all my $XRP today",
    "$LTC breakout confirmed",
]


@pytest.mark.parametrize("base", BENIGN)
def test_an_appended_order_never_raises_confidence_nor_changes_tokens(base: str) -> None:
    """Metamorphic: what is appended may cost a call, never make one or a surer one."""
    before = READER.read(base)
    for attack in ALL:
        order = attack.text
        for carrier in CARRIERS:
            order = order.removeprefix(carrier)
        after = READER.read(f"{base} {order}")
        if before.candidate:
            assert set(after.tokens) <= set(before.tokens), attack
            assert not after.candidate or after.confidence <= before.confidence, attack
        else:
            assert not after.candidate, attack


def test_orders_about_other_posts_reach_no_token_that_those_posts_lack() -> None:
    """A model that obeys one post about all others can turn their sides, not their tokens.

    That is why posts of different authors should not share a call: then an attacker only reaches himself.
    """
    victim = "I'm long $LTC from here"
    for attack in ALL[::25]:
        posts = [{"post_id": "1", "text": attack.text}, {"post_id": "2", "text": victim}]
        request = Request("classify", "", "", {"posts": posts}, {}, "Readings")
        text = Obedient({"1": attack}, spill=True).complete(request).text
        forged = read_answer(Readings, clean(text)).readings[1]
        verified = verify(forged, victim, words_by_token(), stablecoins())
        assert set(verified.tokens) <= {"LTC"}


def test_no_attack_is_a_call_to_the_rules() -> None:
    called = [attack for attack in ALL if READER.read(attack.text).candidate]
    assert called == []


@given(
    st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
def test_the_parser_survives_any_text(text: str) -> None:
    parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "readings",
                    "post_id",
                    "candidate",
                    "tokens",
                    "sentiment",
                    "confidence",
                    "reasoning",
                    "sides",
                    "x",
                ]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=30,
)


@given(JSON)
def test_the_parser_survives_any_json(value: object) -> None:
    parse(json.dumps(value))


def parse(text: str) -> None:
    """A valid reading or `Rejected`: nothing else may come out."""
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    try:
        readings = read_answer(Readings, cleaned).readings
    except Rejected:
        kept = salvage(Readings, cleaned)
        readings = kept.readings if kept else ()
    for reading in readings:
        assert 0 <= reading.confidence <= 1
        assert reading.sentiment in {"bullish", "bearish", "neutral"}


@pytest.mark.slow
def test_a_million_mutated_answers() -> None:
    """0 crashes, 0 escapes; a valid answer with bytes changed, cut, doubled and swapped."""
    from random import Random

    one = {"post_id": "1", "candidate": True, "tokens": ["BTC"], "sentiment": "bullish", "confidence": 0.7}
    seed = json.dumps({"readings": [one | {"reasoning": "a", "sides": {"ETH": "bearish"}}]})
    pieces = [
        '"',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "1e999",
        "NaN",
        "-1",
        "\\u0000",
        "\\ud800",
        "null",
        "true",
        "9" * 30,
        "🚀",
    ]
    random = Random(7)
    for _ in range(1_000_000):
        at, size = random.randrange(len(seed)), random.randrange(8)
        piece = random.choice(pieces) if random.random() < 0.7 else seed[at : at + size]
        parse(seed[:at] + piece + seed[at + random.randrange(4) :])
