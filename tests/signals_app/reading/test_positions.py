"""What authors say about positions, over a generated grid: the wrong side is never read, and closing opens nothing."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import product

import pytest

from signals_app.reading.rules.read import Reader

READER = Reader.of({"BTC": ["btc", "bitcoin"], "ETH": ["eth", "ethereum"]})
PRICES = {"BTC": Decimal(6200), "ETH": Decimal(2000)}
SIDES = {"long": "bullish", "short": "bearish"}
OTHER = {"long": "short", "short": "long"}

# (present participle, past, base): each takes "my X", "a X", "X" with X one of short, shorts, long, longs.
OPENING = {
    "enter": (
        ("opening {a}", "opened {a}", "open {a}"),
        ("entering {a}", "entered {a}", "enter {a}"),
        ("taking {a}", "took {a}", "take {a}"),
        ("putting on {a}", "put on {a}", "put on {a}"),
        ("starting {a}", "started {a}", "start {a}"),
        ("going {side}", "went {side}", "go {side}"),
        ("flipping {side}", "flipped {side}", "flip {side}"),
    ),
    "add": (
        ("adding to {my}", "added to {my}", "add to {my}"),
        ("adding more to {my}", "added more to {my}", "add more to {my}"),
        ("scaling into {sides}", "scaled into {sides}", "scale into {sides}"),
        ("averaging into {my}", "averaged into {my}", "average into {my}"),
        ("doubling down on {my}", "doubled down on {my}", "double down on {my}"),
        ("increasing {my}", "increased {my}", "increase {my}"),
        ("building {my}", "built {my}", "build {my}"),
        ("loading up on {sides}", "loaded up on {sides}", "load up on {sides}"),
        ("piling into {sides}", "piled into {sides}", "pile into {sides}"),
    ),
    "hold": (
        ("holding {my}", "", "hold {my}"),
        ("keeping {my}", "", "keep {my}"),
        ("staying {side}", "", "stay {side}"),
        ("riding {my}", "", "ride {my}"),
    ),
}
CLOSING = {
    "reduce": (
        ("trimming {my}", "trimmed {my}", "trim {my}"),
        ("reducing {my}", "reduced {my}", "reduce {my}"),
        ("scaling out of {my}", "scaled out of {my}", "scale out of {my}"),
        ("taking profits on {my}", "took profits on {my}", "take profits on {my}"),
        ("taking some profit off {my}", "took some profit off {my}", "take some profit off {my}"),
        ("lightening up on {my}", "lightened up on {my}", "lighten up on {my}"),
    ),
    "close": (
        ("closing {my}", "closed {my}", "close {my}"),
        ("closing out {my}", "closed out {my}", "close out {my}"),
        ("exiting {my}", "exited {my}", "exit {my}"),
        ("covering {my}", "covered {my}", "cover {my}"),
        ("getting out of {my}", "got out of {my}", "get out of {my}"),
        ("dumping {my}", "dumped {my}", "dump {my}"),
        ("cutting {my}", "cut {my}", "cut {my}"),
        ("unwinding {my}", "unwound {my}", "unwind {my}"),
        ("taking {my} off", "took {my} off", "take {my} off"),
        ("buying back {my}", "bought back {my}", "buy back {my}"),
        ("selling {my}", "sold {my}", "sell {my}"),
        ("bailing on {my}", "bailed on {my}", "bail on {my}"),
        ("flattening {my}", "flattened {my}", "flatten {my}"),
    ),
    "stopped": (
        ("getting stopped out of {my}", "got stopped out of {my}", ""),
        ("", "was stopped out of {my}", ""),
        ("", "got liquidated on {my}", ""),
        ("", "just got wrecked on {my}", ""),
    ),
}
FORMS = {
    "present": ("i'm {ing}", "{ing}", "currently {ing}", "we're {ing} again"),
    "past": ("i {ed}", "just {ed}", "{ed} this morning", "i've {ed}"),
    "intention": ("i'm going to {do}", "i'll {do}", "about to {do}", "planning to {do}"),
    "instruction": ("{do}", "you should {do}", "time to {do}", "now {do}"),
    "negated": (
        "i'm not {ing}",
        "not {ing}",
        "i won't {do}",
        "zero chance i'm {ing}",
        "no way i {do}",
        "there is no chance that i {do}",
        "i never {do}",
        "i refuse to {do}",
    ),
    "quoted": ('he wrote "{ing}, easy money"', 'somebody said: "i\'m {ing} all day"'),
    "others": ("everyone is {ing}", "they are all {ing}", "whales are {ing}"),
    "supposed": ("should i {do}?", "if i {do}", "thinking about {ing}", "i wish i had {ed}", "i would {do}"),
}
PLACES = (
    "{said} on $BTC",
    "$BTC: {said}",
    "{said_token}",
    "$BTC update, {said} here",
    "{said} $BTC at 6,150",
)


def grid() -> Iterator[tuple[str, str, str, str]]:
    """(sentence, deed, side, form) for every combination that is English."""
    for deed, verbs in (OPENING | CLOSING).items():
        for (ing, ed, do), side, (form, frames), place in product(verbs, SIDES, FORMS.items(), PLACES):
            for frame in frames:
                words = {"ing": ing, "ed": ed, "do": do}
                if not all(words[name] for name in words if f"{{{name}}}" in frame):
                    continue
                said = frame.format(**words)
                plain = {"my": f"my {side}", "a": f"a {side}", "side": side, "sides": f"{side}s"}
                named = {
                    "my": f"my $BTC {side}", "a": f"a $BTC {side}", "side": f"{side} on $BTC",
                    "sides": f"$BTC {side}s",
                }  # fmt: skip
                yield (
                    place.format(said=said.format(**plain), said_token=said.format(**named)), deed, side, form
                )  # fmt: skip


GRID = sorted(set(grid()))


def read(text: str) -> str:
    """bullish, bearish, or empty for no call."""
    found = READER.read(text, PRICES)
    return found.sentiment if found.candidate else ""


def test_the_grid_is_large() -> None:
    assert len(GRID) > 13_000
    assert {(deed, side, form) for _, deed, side, form in GRID} >= set(
        product(OPENING, SIDES, ("present", "intention", "instruction", "negated"))
    )


def test_no_sentence_is_read_as_the_opposite_side() -> None:
    wrong = [
        (text, read(text))
        for text, deed, side, _ in GRID
        if deed in OPENING and read(text) not in ("", SIDES[side])
    ]
    assert wrong == []


def test_closing_reducing_and_being_stopped_out_open_nothing() -> None:
    wrong = [
        (text, found)
        for text, deed, side, form in GRID
        if deed in CLOSING and (found := read(text)) and not (form == "negated" and found == SIDES[side])
    ]
    assert wrong == []


@pytest.mark.parametrize("form", ["negated", "quoted", "others", "supposed"])
def test_what_is_not_stated_opens_nothing(form: str) -> None:
    wrong = [
        (text, read(text))
        for text, deed, _, found in GRID
        if found == form and deed in OPENING and read(text)
    ]
    assert wrong == []


@pytest.mark.parametrize("form", ["present", "past", "intention", "instruction"])
def test_what_is_stated_is_read(form: str) -> None:
    """A reader that never says anything would pass the tests above."""
    counted = Counter(bool(read(text)) for text, deed, _, found in GRID if found == form and deed in OPENING)
    assert counted[True] > 0.9 * counted.total()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BTC heading to 5,800", "bearish"),
        ("BTC heading to 7,000", "bullish"),
        ("$BTC target 5.8k", "bearish"),
        ("$BTC targets 5,600-5,900", "bearish"),
        ("$BTC targets 5,600-6,900", ""),
        ("$BTC will hit $20k next month", "bullish"),
        ("$BTC going to 6,200", ""),
        ("$ETH: sell, target 1,900", "bearish"),
        ("sell, target 1,900 $ETH", "bearish"),
        ("buy $ETH target 2,300", "bullish"),
        ("buy $ETH target 1,900", ""),
        ("long $BTC at 6,200, tp 5,800", ""),
        ("short $BTC at 6,200, tp 5,800", "bearish"),
        ("$ETH target 0.05 btc", ""),
        ("$ETH will hit 0.4 this season", "bullish"),
        ("$ETH heading to 0.25", "bearish"),
        ("$ETH target is 33000000 sats", "bullish"),
        ("$ETH target is 31000000sats", "bearish"),
        ("$ETH heading to $0.4", ""),
        ("$BTC heading to 0.9", ""),
    ],
)
def test_a_target_is_compared_with_the_price(text: str, expected: str) -> None:
    assert read(text) == expected


def test_without_a_price_a_target_is_no_call_by_itself() -> None:
    assert not READER.read("BTC heading to 5,800").candidate
    assert READER.read("I'm shorting $BTC here, target 5,800").sentiment == "bearish"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zero chance I'm selling $BTC", ""),
        ("covered my BTC shorts, going long here", "bullish"),
        ("closing my $BTC long, time to go short", "bearish"),
        ("stopped out of my $BTC long. Still bullish on $BTC", "bullish"),
        ("my $BTC short is closed", ""),
        ("$BTC short stopped out at 6,300", ""),
        ("tp hit on my $BTC short", ""),
        ("I sold all my $BTC", ""),
        ("out of my $BTC bags", ""),
        ("in short, $BTC is going nowhere", ""),
        ("shorts on $BTC are getting squeezed", ""),
        ("I'm not closing my $BTC short", "bearish"),
        ("never short $BTC", "bullish"),
        ("he's adding to his $BTC short", ""),
        ("I was short $BTC from 8k", ""),
        ("still short $BTC from 6,400", "bearish"),
        ("TP1 hit on the $BTC short, moving stop to entry", ""),
        ("Got stopped on my $BTC long, back to flat", ""),
        ("🔻 $1,164,100 BTC shorted @ $42,601 on #Binance", ""),
        ("Exited $BTC at 6,300 for +5%", ""),
    ],
)
def test_positions_in_other_words(text: str, expected: str) -> None:
    assert read(text) == expected


COUNTED = ("in a", "taking a", "opened another", "still a", "we're in another", "holding the", "it's a new")
THINGS = (
    "road", "ways to go", "way to go", "look", "meeting", "break", "list of problems", "conversation", "downtrend",
    "uptrend", "consolidation", "dip", "candle", "journey", "wait", "nap", "squeeze", "liquidation", "covering rally",
)  # fmt: skip


@pytest.mark.parametrize("thing", THINGS)
def test_how_long_something_is_and_what_happens_to_others_is_no_position(thing: str) -> None:
    frames = ("{before} {side} {thing} for $BTC", "$BTC: {before} {side} {thing}")
    said = [
        frame.format(before=before, side=side, thing=thing)
        for before, side, frame in product(COUNTED, SIDES, frames)
    ]
    wrong = [(text, found) for text in said if (found := READER.positions(text))]
    assert wrong == []


@pytest.mark.parametrize(
    "after", ["", " here", " at 6,150", ", target 7k", " scalp", " position", " this morning"]
)
@pytest.mark.parametrize(("side", "expected"), SIDES.items())
def test_one_position_is_read_by_what_follows_it(side: str, expected: str, after: str) -> None:
    after = after.replace("7k", "5.5k") if side == "short" else after
    assert read(f"$BTC: opened a {side}{after}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$BTC is one short liquidation away from a fresh ATH", "bullish"),
        ("expecting more long liquidations on $BTC", ""),
        ("$ETH hasn't been this cheap for half a year", "bullish"),
        ("$ETH has never been this cheap", "bullish"),
        ("I've never been more bullish on $BTC", "bullish"),
        ("I haven't been this bearish on $BTC in months", "bearish"),
        ("$ETH isn't this cheap", ""),
        ("I haven't been that bullish on $BTC", ""),
        ("I'm not bullish on $BTC", ""),
    ],
)
def test_what_only_sounds_like_the_other_side(text: str, expected: str) -> None:
    assert read(text) == expected


def test_the_price_of_bitcoin_is_wanted_beside_those_that_a_post_names() -> None:
    assert READER.priced("$ETH will hit 0.4") == {"BTC", "ETH"}
    assert READER.priced("good morning") == set()
    assert Reader.of({"ETH": ["eth"]}).priced("$ETH will hit 0.4") == {"ETH"}
