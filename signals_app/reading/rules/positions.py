"""Recognises what authors say of their positions: enter, add, hold, reduce, close or stopped out, long or short.

A statement that opens, adds to or keeps a position supports its side. One that reduces or closes it, or reports a stop,
opens nothing: the words "short" and "long" in it must not be read as a call. Works on masked sentences
(`text.Sentence`): lower case, `§` for a listed token.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from signals_app.reading.rules import marks
from signals_app.reading.rules.grammar import DOWN, UP

NO_SIDE = 0


class Deed(StrEnum):
    """An action on a position."""

    ENTER = "enters"
    ADD = "adds to"
    HOLD = "holds"
    REDUCE = "reduces"
    CLOSE = "closes"
    STOPPED = "is stopped out of"


EXITS = frozenset({Deed.REDUCE, Deed.CLOSE, Deed.STOPPED})


class Form(StrEnum):
    """The form of a statement."""

    STATED = "stated"
    """Done, being done, intended, or recommended to others."""
    NEGATED = "negated"
    SUPPOSED = "supposed"
    """Conditional, wished or considered."""
    OVER = "over"
    """A past position of the author."""
    OTHERS = "others"
    """Another person's position."""
    NONE = "no position"
    """"Long" or "short" is an adjective, or concerns others: "a long road", "short covering"."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One action on a position in a sentence."""

    deed: Deed
    side: int
    """Side of the position: 1 long, -1 short, 0 where it is not named."""
    form: Form
    start: int
    end: int

    @property
    def direction(self) -> int:
        """The side the statement supports: 1, -1, or 0 for none. A denied close supports the position's side."""
        if self.form == Form.STATED:
            return NO_SIDE if self.ends else self.side
        if self.form == Form.NEGATED and self.deed in EXITS:
            return self.side
        return NO_SIDE

    @property
    def ends(self) -> bool:
        """Whether the position is reduced or closed."""
        return self.deed in EXITS and self.form == Form.STATED

    @property
    def name(self) -> str:
        """The text for the reasoning, such as "adds to a short"."""
        position = {UP: "a long", DOWN: "a short", NO_SIDE: "a position"}[self.side]
        how = "" if self.form == Form.STATED else f" ({self.form})"
        return f"{self.deed} {position}{how}"


_SHORT = (
    r"shorts?(?![- ](?:term|squeez\w*|lived|run|time|while|of|sight\w*|video|thread|list|cut|answer|story|notice|"
    r"sell\w*|interest|summary|version|clip|break)(?!\w)|-)"
    r"(?: (?:positions?|trades?|exposure|side|contracts?|entr(?:y|ies)))?"
)
_LONG = (
    r"(?<!as )(?<!how )(?<!so )(?<!all day )(?<!too )(?<!before )longs?(?![- ](?:term|run|time|way|haul|live|overdue|"
    r"ago|story|enough|weekend|road|thread|day|night|list|lasting|standing|before|after|as|gone|green|red|candles?|wicks?|shadows?)(?!\w)|-)"
    r"(?: (?:positions?|trades?|exposure|side|contracts?|entr(?:y|ies)))?"
)
_SIDES = rf"(?:(?P<short>{_SHORT})|(?P<long>{_LONG}))"
_OWNED = (
    r"(?:(?:(?:all|half|some|most|part|more|rest|third|quarter|bit|lot|the|of|out|on|in|\d+ ?%) ){0,4}(?:my|our|this|"
    r"the (?:rest|remainder) of|the remaining|the last(?: of)?) (?:(?:\w+|\$?[\d.,]+[kmx%]?) ){0,3}?"
    r"(?:§|bags?|stack|holdings?|coins?|spot)(?! (?:short|long)))"
)
_GAP = (
    r"(?: (?:more|again|back|further|aggressively|slowly|heavily|some|a|an|bit|little|up|down|in|into|to|on|onto|off|"
    r"from|with|another|hard|here|now|out|of|half|part|parts|most|all|both|rest|third|quarter|remaining|my|our|your|"
    r"their|his|her|its|the|this|that|these|those|small|big|large|tiny|nice|huge|first|second|third|last|final|new|"
    r"fresh|swing|scalp|leveraged?|lev|hedge|core|entire|whole|existing|old|current|open|size|size to|at|around|"
    r"very|net|just|also|§'?s?|§-?usd[tc]?|\d+ ?%|\d+(?:\.\d+)?x|\$?[\d.,]+[km]?)){0,8}"
)
_PROFIT = r"(?:profits?|gains?|money|chips|wins?|tp)"

_VERBS: tuple[tuple[Deed, str], ...] = (
    (
        Deed.STOPPED,
        r"(?:got |been |was |were |am |i'm |just |getting |get )?(?:stopped(?: out| at)?|liquidated|rekt|wrecked|"
        r"wiped(?: out)?|blown out|squeezed(?: out)?|shaken out|margin called|knocked out|taken out)",
    ),
    (
        Deed.REDUCE,
        r"(?:trim(?:s|med|ming)?|reduc(?:e|es|ed|ing)|scal(?:e|es|ed|ing) (?:back|down|out)|lighten(?:s|ed|ing)?|"
        r"par(?:e|es|ed|ing)|de-?risk(?:s|ed|ing)?|halv(?:e|es|ed|ing)|peel(?:s|ed|ing)?|shav(?:e|es|ed|ing)|"
        r"decreas(?:e|es|ed|ing)|downsiz(?:e|es|ed|ing)|siz(?:e|es|ed|ing) down|averag(?:e|es|ed|ing) out|"
        r"(?:take|takes|took|taking|taken|book|books|booked|booking|lock|locks|locked|locking|secure|secures|secured|"
        r"securing|bank|banks|banked|banking|realis\w+|realiz\w+|grab\w*)(?: in)?(?: \w+){0,3}? "
        + _PROFIT
        + r")",
    ),
    (
        Deed.CLOSE,
        r"(?:(?:re-?)?clos(?:e|es|ed|ing)|exit(?:s|ed|ing)?|cover(?:s|ed|ing)?|(?:buy|buys|buying|bought) back|"
        r"(?:get|gets|getting|got|step|stepped|stepping|am|i'm|is|are|now|come|came|pull|pulled|pulling) (?:right )?out"
        r"(?= of)|bail(?:s|ed|ing)?|dump(?:s|ed|ing)?|sell(?:s|ing)?|sold|cut(?:s|ting)?|kill(?:s|ed|ing)?|"
        r"flatten(?:s|ed|ing)?|end(?:s|ed|ing)?|drop(?:s|ped|ping)?|ditch(?:es|ed|ing)?|unwind(?:s|ing)?|unwound|"
        r"unload(?:s|ed|ing)?|offload(?:s|ed|ing)?|liquidating|squar(?:e|es|ed|ing)|puk(?:e|es|ed|ing)|"
        r"abandon(?:s|ed|ing)?|scratch(?:es|ed|ing)?|cash(?:es|ed|ing)? (?:in|out)|walk(?:s|ed|ing)? away|done with|"
        r"finish(?:es|ed|ing)?|(?:take|takes|took|taking|taken|pull|pulled|pulling)(?: \w+){0,4}? off|"
        r"get(?:s|ting)? rid|got rid|give(?:s)? up|gave up|giving up|los(?:e|es|ing)|lost|no longer(?: in)?)",
    ),
    (
        Deed.ADD,
        r"(?:add(?:s|ed|ing)?|scal(?:e|es|ed|ing)|averag(?:e|es|ed|ing)|build(?:s|ing)?|built|increas(?:e|es|ed|ing)|"
        r"doubl(?:e|es|ed|ing)|tripl(?:e|es|ed|ing)|load(?:s|ed|ing)?|reload(?:s|ed|ing)?|pil(?:e|es|ed|ing)|"
        r"stack(?:s|ed|ing)?|press(?:es|ed|ing)?|pyramid(?:s|ed|ing)?|top(?:s|ped|ping)? up|siz(?:e|es|ed|ing) up|"
        r"up(?:s|ped|ping)|extend(?:s|ed|ing)?|max(?:es|ed|ing)(?: out)?|ladder(?:s|ed|ing)?|dca(?:s|ing|'?d|'?ing)?|"
        r"accumulat(?:e|es|ed|ing)|layer(?:s|ed|ing)?|expand(?:s|ed|ing)?|grow(?:s|ing)?|grew)",
    ),
    (
        Deed.HOLD,
        r"(?:hold(?:s|ing)?|held|hodl\w*|keep(?:s|ing)?|kept|stay(?:s|ed|ing)?|remain(?:s|ed|ing)?|still|"
        r"sit(?:s|ting)?|sat|rid(?:e|es|ing)|let(?:s|ting)?|maintain(?:s|ed|ing)?|carry(?:ing)?|stick(?:s|ing)?|stuck|running|"
        r"i'm|i am|im|i've been|we're|we are|been|be|am|net|currently|heavily|heavy|fully|very|max|maximum|feeling|"
        r"happily|comfortably|positioned)",
    ),
    (
        Deed.ENTER,
        r"(?:(?:re-?)?open(?:s|ed|ing)?|(?:re-?)?enter(?:s|ed|ing)?|tak(?:e|es|ing|en)|took|start(?:s|ed|ing)?|"
        r"initiat(?:e|es|ed|ing)|put(?:s|ting)?|get(?:s|ting)?|got|jump(?:s|ed|ing)?|plac(?:e|es|ed|ing)|set(?:s|ting)?|"
        r"try(?:ing)?|tried|grab(?:s|bed|bing)?|fir(?:e|es|ed|ing)|flip(?:s|ped|ping)?|switch(?:es|ed|ing)?|"
        r"turn(?:s|ed|ing)?|go(?:es|ing)?|went|gone|execut(?:e|es|ed|ing)|enjoying|like|liking|love|loving|want|"
        r"eyeing|eyeballing|looking (?:to|for)|new|fresh|another|in(?= (?:a|an|my|our|another|the|this|these|some) ))",
    ),
)
_DEEDS = tuple(
    (deed, re.compile(rf"(?<![\w'-])(?P<verb>{verbs}){_GAP} {_SIDES}(?![\w'])")) for deed, verbs in _VERBS
)
_VERB_OF_SIDE = re.compile(
    r"(?<![\w'-])(?:(?:re-?)?(?:(?P<short>shorting)|(?P<long>longing))|"
    r"(?:(?:^|(?<=[,;:] )|(?<=and ))(?:just |also |now |again )*|(?<!\w)(?:i|we|i've|we've|i just|we just|have|"
    r"finally) )"
    r"(?:(?P<shorted>shorted)|(?P<longed>longed)))(?![\w'])"
    r"(?!(?: [^\s,.;:!?]+){0,6} (?:is|isn't|are|was|seems|feels|looks|makes|means|would|will|can|takes|worth)(?!\w))"
    r"(?! (?:the |my |some )?(?:usd|us dollar|dollars?|fiat|alts?|alt ?coins?|gold|silver|oil|stocks?|bonds|yen|eur|"
    r"\$[a-z]))"
)
"""Shorting by the author: not as a subject ("shorting § is …"), not of another asset, not reported by a bot."""
_SOLD_OWN = re.compile(
    rf"(?<![\w'-])(?:(?:sell(?:s|ing)?|sold|dump(?:s|ed|ing)?|unload(?:s|ed|ing)?|offload(?:s|ed|ing)?|trim(?:s|med|"
    rf"ming)?|reduc(?:e|es|ed|ing)|lighten(?:s|ed|ing)?|exit(?:s|ed|ing)?|clos(?:e|es|ed|ing)|cash(?:ed|ing)? out|"
    rf"liquidat(?:ed|ing))(?: out| up)?(?: of| on)? {_OWNED}|"
    rf"(?:exit(?:s|ed|ing)?|(?:(?:i'm|i am|im|am|we're|all|now|fully|completely|got|getting|get) )+out of|^out of) "
    rf"(?:\w+ ){{0,2}}?§|"
    rf"(?:take|takes|took|taking|taken|book\w*|lock\w*|secur\w+|bank\w*|realis\w+|realiz\w+)(?: in)?(?: \w+){{0,3}}? "
    rf"{_PROFIT}(?! (?:target|level|order|zone)s?)(?: (?:on|off|in|from|here|at)(?: \w+){{0,2}}? §)?)"
)
"""Selling what one owns reduces or closes a long; so does taking a profit, on whichever side."""
_TAKEN_OFF = re.compile(
    rf"(?<![\w'-])(?:take|takes|took|taking|taken|pull|pulls|pulled|pulling|turn\w*){_GAP} {_SIDES} off(?![\w'])"
)
_PASSIVE = re.compile(
    rf"(?<![\w'-])(?:(?:my|our|the|this|that|§|§'s) ){{0,3}}(?:\w+ )?{_SIDES}(?: (?:position|trade))?(?: from| at| @)?"
    r"(?: \$?[\d.,]+k?)? (?:(?:is|are|was|were|got|has been|have been|now|just|all|been|fully|finally|half|mostly|"
    r"partially|already|getting) ){0,4}"
    r"(?:closed|covered|stopped|liquidated|exited|taken off|trimmed|reduced|done|over|finished|flat|cut|scratched|"
    r"killed|rekt|wiped|hit (?:the |my |its )?(?:stop|tp|target|sl|take[- ]profit)\w*|out)(?![\w'])"
)
_STOP_HIT = re.compile(
    r"(?<![\w'-])(?:stopped out|got stopped|(?:my |the )?(?:stop|stop[- ]?loss|sl|tp\d?|take[- ]profit|target)(?: \w+)"
    r"{0,2} (?:got |was |is |has been |been )?(?:hit|triggered|tagged|filled|reached))"
    rf"(?:(?: [\w§'$]+){{0,5}}? {_SIDES})?(?![\w'])"
)
_MOVES = r"the (?:pops?|rips?|rall(?:y|ies)|bounces?|dips?)"
_QUALIFIED = rf"(?: (?:now|here|it|this|limit|stop|market|zone|entry|{_MOVES}|§))"
_TERMS = (
    r"(?:at|@|with|target|targets|tp|tp1|tgt|sl|stop|from|into|between|around|near|below|above|entry|zone|-|–|"
    r"\$?\d)"
)
_INSTRUCTED = re.compile(
    r"(?:^|(?<=§ )|(?<=§[:,] )|(?<=§ - ))"
    r"(?:(?:i say|just|now|so|please|guys|signal|trade|idea|call|action|position|side|setup|entry|"
    r"new trade)[ :,-]+){0,2}"
    rf"(?:(?:(?P<sell>sell)|(?P<buy>buy))(?={_QUALIFIED}|$|[.,:;!/|]| {_TERMS})|"
    rf"(?:(?P<short>short)|(?P<long>long))(?={_QUALIFIED}|[.,:;!/|] \w| {_TERMS}))"
    rf"(?:{_QUALIFIED})*(?=$|[.,:;!/|]| {_TERMS})"
)
"""The head of a trade message: "sell, target 1,900", "short § at 6,200 tp 5,800"."""

_OVER = re.compile(r"(?<!\w)(?:was|were|had|had been|used to be|once)(?: \w+){0,3} ?$")
_SUPPOSED = re.compile(
    r"(?<!\w)(?:if|when|whenever|once|unless|until|till|before|after|would|would've|could|could've|might|may|maybe|"
    r"perhaps|should have|should've|wish|hope|hoping|think(?:ing)? (?:about|of)|consider(?:ing)?|tempt(?:ed|ing)|"
    r"imagine|suppose|supposing|whether|instead of|rather than|why|how|who|regret)(?: \S+){0,6} ?$"
)
_OTHERS = re.compile(
    r"(?<!\w)(?:he|she|they|people|everyone|everybody|nobody|someone|somebody|traders|whales?|bears|bulls|funds?|"
    r"retail|institutions|investors|market makers|most of you|those|others|many|some|who|you guys|"
    r"you(?! (?:should|must|need|have to|gotta|better|can|want)))(?:'re|'s|'ve)?"
    r"(?: \S+){0,4} ?$"
)
_THEIR = re.compile(r"(?<!\w)(?:their|his|her)(?!\w)")
_DENIES = re.compile(
    rf"(?:{marks.NEGATION.pattern}|(?<!\w)(?:without|avoid(?:ing)?|refus\w+|resist\w*|against))(?: \S+){{0,5}} ?$",
    re.IGNORECASE,
)
_WAS = re.compile(r"^(?:was|were|had|used to|been)(?!\w)")
_FORCED = re.compile(rf"[ -](?:{marks.FORCED})(?!\w)")
_COUNTED = re.compile(r"(?<!\w)(?:an?|another|one|new|fresh|the|this|that|my|our)(?: \S+)* (?:long|short)$")
"""A single position: a following word is its noun, unless it begins something else."""
_NOUN = re.compile(
    r" (?!(?:scalp|swing|hedge|setup|entry|order|limit|stop|target|tp|sl|bet|leg|play|bias|signal|idea|call|"
    r"now|today|tonight|tomorrow|yesterday|earlier|overnight|early|late|again|still|already|just|too|then|there|here|"
    r"right|back|up|down|off|out|only|not|no|never|also|soon|though|instead|w|btw|imo|pls|please|lol|open\w*|clos\w+|"
    r"stopped|running|working|playing|paying|paid|looking|looks|was|were|is|are|has|had|got|will|would|should|"
    r"on|at|from|in|into|with|since|of|and|or|to|for|around|near|below|above|over|under|between|until|till|before|"
    r"after|against|vs|through|per|via|by|but|as|if|when|while|because|so|once|that|which|it|i|i'm|we|you|they|"
    r"he|a|an|the|this|last|my|our|his|their|last|\w+day|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(?!\w))"
    r"[a-z]"
)


_DOWN, _UP = ("short", "shorted", "sell"), ("long", "longed", "buy")
"""Names of the regex groups that give the side."""


def statements(text: str) -> list[Statement]:
    """Return the statements of one masked sentence in order of position, without overlaps."""
    accepted: list[Statement] = []
    for statement in _candidates(text):
        if all(statement.end <= other.start or statement.start >= other.end for other in accepted):
            accepted.append(statement)
    return sorted(accepted, key=lambda statement: statement.start)


def without(text: str, held: list[Statement]) -> str:
    """Blank out the words of the statements, keeping all offsets."""
    for statement in held:
        blank = "~" * (statement.end - statement.start)
        text = f"{text[: statement.start]}{blank}{text[statement.end :]}"
    return text


def _candidates(text: str) -> Iterator[Statement]:
    """Yield statements, exits before entries, so that "took profits on my short" is not read as "took … short"."""
    for deed, pattern in (
        (Deed.CLOSE, _PASSIVE),
        (Deed.CLOSE, _TAKEN_OFF),
        (Deed.STOPPED, _STOP_HIT),
        *_DEEDS[:3],
        (Deed.REDUCE, _SOLD_OWN),
        *_DEEDS[3:],
        (Deed.ENTER, _VERB_OF_SIDE),
        (Deed.ENTER, _INSTRUCTED),
    ):
        for match in pattern.finditer(text):
            statement = _statement(text, deed, match)
            if pattern is not _SOLD_OWN or statement.form != Form.NEGATED:  # the lexicon reads "not selling"
                yield statement


def _statement(text: str, deed: Deed, match: re.Match[str]) -> Statement:
    groups = match.groupdict()
    side = DOWN if any(map(groups.get, _DOWN)) else UP if any(map(groups.get, _UP)) else NO_SIDE
    if match.re is _SOLD_OWN and not re.search(_PROFIT, match[0]):
        side = UP
    before = marks.CLAUSE.split(text[: match.start()])[-1]
    form = Form.NONE if deed not in EXITS and _is_no_position(match) else _form(deed, before, match[0])
    return Statement(deed, side, form, match.start(), match.end())


def _is_no_position(match: re.Match[str]) -> bool:
    """Return whether the word of the side modifies the following noun."""
    if _FORCED.match(match.string, match.end()):
        return True
    return bool(_COUNTED.search(match[0]) and _NOUN.match(match.string, match.end()))


def _form(deed: Deed, before: str, words: str) -> Form:
    if _THEIR.search(words) or (
        _OTHERS.search(before) and not re.search(r"(?<!\w)(?:i|i'm|we|my)(?!\w)", before)
    ):
        return Form.OTHERS
    if _SUPPOSED.search(before):
        return Form.SUPPOSED
    if _DENIES.search(before):
        return Form.NEGATED
    if deed not in EXITS and (_OVER.search(before) or _WAS.search(words)):
        return Form.OVER
    return Form.STATED
