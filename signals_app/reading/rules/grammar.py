"""The notation of the lexicon: phrases over word classes, compiled to regular expressions.

In a phrase a name in capitals stands for a word class (`CLASSES`, or `SIDED` with one pattern for a rise and one for a
fall), `<n>` for up to n words of any kind, and `§` for a listed token.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

UP, DOWN = 1, -1


@dataclass(frozen=True)
class Cue:
    """A set of phrases that indicate a side, with a weight."""

    name: str
    side: int
    weight: int
    phrases: tuple[str, ...]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What finds a phrase in a text; compiled when a text is read."""
        joined = "|".join(expand(phrase, self.side) for phrase in self.phrases)
        return re.compile(rf"(?<![\w-])(?:{joined})(?!\w)")


CLASSES: Mapping[str, str] = {
    # --- slots -------------------------------------------------------------------------------------------------
    "PRICE": r"(?:\$ ?\d[\d,.]{0,12}(?:-\$?\d[\d,.]{0,12})?(?: ?k| million)?|"
    r"(?:\d[\d,.]{0,12}(?:-\d[\d,.]{0,12})?(?:k| ?(?:usd|sats|dollars))|\d{1,3},\d{3}|\d{3,9}|"
    r"\d{0,9}\.\d{1,9})(?! ?(?:btc|§)))\+?(?![\w%]|[.,]\d| ?%| (?:days?|hours?|minutes?|weeks?|months?|"
    r"years?|times|people|transactions?|txs?|users?|volume|(?:billion|bn|b)\b))",
    "LEVEL": r"(?:(?:the|a|its?|new|key|major|white|\$?\d[\d,.]{0,12}k?|\w+day|\w+ly|\d*[hdwm]) ){0,3}",
    "TOKENS": r"(?:(?:some|more|my|the|your|a|an|any|another|those|this|these|that|all|of|up|on|into|in|to|"
    r"little|bit|few|back|out|single|half|most|part|third|satoshi|sats?|coins?|\$?\d[\d,.]{0,12}[km]?) "
    r"){0,5}§(?! (?!AFTER)[a-z])",
    "ADVERB": r"(?:(?:just|also|still|now|already|again|only|literally|finally|personally|simply|currently|"
    r"always|probably|definitely|certainly|really|very|quite|soon|quickly|slowly|eventually|easily|likely|"
    r"so|too|actually|then|even|much|way|back|a lot|a bit|further|straight|all|been|officially|actively|"
    r"happily|gladly) )*",
    "AFTER": r"(?:at|here|now|for|from|before|after|and|or|but|with|without|on|in|into|until|to (?!my|the|a|"
    r"your|our)|to (?:my|the) (?:bags?|positions?|portfolio|stack|holdings|longs?)|till|til|since|so|"
    r"because|by|below|above|under|over|around|near|against|as|if|when|while|where|that|which|is|are|was|"
    r"will|would|again|today|tonight|tomorrow|yesterday|this|these|right|too|soon|instead|already|yet|still|"
    r"more|not|then|than|through|every|each|all|back|off|up|down|out|imo|i|we|you|u|it|they|the|a|my|your|"
    r"just|only|even|though|via|rather|people|folks|guys|dips?|bags?|longs?|shorts?|positions?|holdings?|"
    r"price|bottom|breakout|pump|like|no|futures|daily|weekly|last|next|per|vs|w|x|usd|please|very|sub)\b",
    "THING": r"(?:wallets?|address\w*|hardware|futures?|transactions?|txs?|fees?|blockchains?|blocks?|"
    r"network|exchanges?|miners?|mining|etfs?|trust|compan\w+|atms?|debit|cards?|podcast|community|dev\w*|"
    r"conference|core|protocol|skeptics?|critics?|maximalists?|flippening|volume|investors?|traders?|"
    r"twitter|space|chains?|payments?|users?|adoption|funds?|economy|economics|options|supply|dominance|"
    r"market ?cap|mempool|hash ?rate|difficulty|books?)\b",
    # --- who and when ------------------------------------------------------------------------------------------
    "IAM": r"(?:(?:i'm|i am|im|i've been|i have been|we're|we are|we've been|still|currently|been) ADVERB)",
    "IDID": r"(?:(?:(?<!because )(?<!that )(?<!if )(?<!when )(?<!since )(?:i|we|i've|i have|we've)|^(?:and "
    r")?|, and|and) ?ADVERB(?:(?:managed|decided|was able) to )?)",
    "IWILL": r"(?:(?:i'll|i will|we'll|i'd (?:rather|prefer to)|i would|i'd|i'm (?:going|looking|ready|"
    r"waiting|planning|about) to|i plan to|i intend to|i keep|(?:^|'cuz |(?<=, )|i )(?:will|waiting to|"
    r"looking to|planning to|going to|about to|ready to|rather)) ADVERB)",
    "START": r"(?:(?:^|(?<=[,;)] )|(?<=advice: )|(?<=tip: )|(?<=plan: )|(?<=- )|(?<=\* ))(?:(?:just|now|so|"
    r"please|psst|and|but|or|then|go|simply|always|also|yes|no|well|ok)[,.]? )*)",
    "TELL": r"(?:START|(?:keep|remember to|make sure to|you should|you must|should|better|gotta|need to|"
    r"have to|(?:easi|saf|smart|wis|b)(?:er|est) to|risky to|best to|advice is to|to just|told you,?) "
    r"(?:just |simply |also )?)",
    "FUTURE": r"(?:will|'ll|gonna|gunna|going to|about to|ready to|set to|poised to|bound to|likely to|most "
    r"likely|(?<!we )(?<!you )(?<!they )should|expected to|sure to|easily|looks? to|looking to|want(?:s|"
    r"ing)? to|trying to|attempting to|will likely|could easily|can easily)(?! have)",
    "EXPECT": r"(?:(?:i|we|i'm|i've) (?:\w+ )?(?:expect|expecting|predict|predicting|anticipate|"
    r"anticipating|think|believe|foresee|guess|bet|betting|feel|target|targeting|looking for|calling for|am "
    r"calling|reckon|wager)|my (?:view|guess|bet|prediction|call|bias|point)|strongly believe|expect|"
    r"expecting|predicting)",
    "AHEAD": r"(?:(?:(?:by|before|until|in|at|for|this|coming) )*(?:(?:the )?end of \w+|(?:the )?year[- "
    r"]?end|eoy|eom|eow|tomorrow|tomm?\b|next (?:day|week|month|year|summer|spring)|soon|(?:new years?|"
    r"christmas|xmas)(?: eve)?)|(?:by|before|this|in) (?:week|month|year|weekend|summer|spring|january|"
    r"february|march|april|june|july|august|september|october|november|december|jan|feb|mar|apr|q[1-4]|"
    r"h[12]|20\d\d)\b)",
    # --- deeds -------------------------------------------------------------------------------------------------
    "BUY": r"(?:buy|accumulate|(?<!, )long|stack|load up|pick up|scoop(?: up)?|grab|snag|get into|acquire|"
    r"invest in|load the boat(?: on)?|stock up|re-?enter|rebuy|bid on|btd on|go long(?: on)?)",
    "BUYING": r"(?:(?:re-?)?buying|scaling into|accumulating|adding|longing|stacking|loading(?: up)?|"
    r"picking up|scooping(?: up)?|getting into|acquiring|investing in|going all[- ]in(?: on)?|all[- ]in(?: "
    r"on)?|bidding(?: on)?|going long(?: on)?)",
    "BOUGHT": r"(?:bought|accumulated|added|longed|stacked|loaded up|picked up|scooped(?: up)?|grabbed|"
    r"snagged|got into|entered(?: into)?|jumped into|jumped in|opened|acquired|invested in|rebought|"
    r"re-?entered|went all[- ]in(?: on)?|scaled into|flipped long(?: on)?|went long(?: on)?|pick up|scoop "
    r"up|pulled the trigger on)",
    "SELL": r"(?:sell|(?<!, )short|dump|get out of|exit|take profits?(?! target| level| order)(?: on| in)?|"
    r"stay (?:out of|away from)|stay away from|get rid of|avoid|close|trim|reduce|go short(?: on)?)",
    "SELLING": r"(?:selling|cashing out(?: of)?|reducing|closing|shorting|dumping|getting out of|exiting|"
    r"taking profits?(?: on| in)?|staying (?:out of|away from)|trimming|going short(?: on)?)",
    "SOLD": r"(?:sold(?: out of)?|cashed out(?: of)?|reduced|flipped short(?: on)?|shorted|dumped|got out "
    r"of|exited|closed|(?:took|taken) <2>profits?(?! target| level| order)(?: on| in)?|trimmed|went "
    r"short(?: on)?)",
    "HOLD": r"(?:hold|hodl|hold on to|hang on to)",
    "HOLDING": r"(?:holding|hodling|long|riding|holding on to|punting)",
    "NOT": r"(?:not|haven't|never|won't|wont|don't|dont|do not|didn't|refuse to|can't|cannot|no need to|"
    r"stop|no way to|nobody should|no (?:good )?reason to|without|isn't|ain't|wouldn't|would not|would "
    r"never)",
    # --- charts ------------------------------------------------------------------------------------------------
    "FIGURE": r"(?:flag|pennant|wedge|triangle|tri|h&s|head and shoulders|channel|cup (?:and|&) handle|"
    r"pattern|range|consolidation|structure|cross|recross|\w*flag\w*)",
    "MEAN": r"(?:(?:\d+ ?-?(?:day|d|week|w|h|hr)? ?-?)?(?:sma|ema|ma|dma|moving average|kijun|vwap|cloud|"
    r"kumo|trend ?line|fib\w*|neckline|box|zone|range))",
    "DONE": r"(?:confirm\w*|complet\w*|finish\w*|play(?:s|ed|ing) out|in play|breakout|broke out|break ?out|"
    r"breaking out|broken|valid\w*)",
    "BREAK": r"(?:break|breaks|broke|breaking|broken|breakout|break-out|break out|bust\w*|punch(?:es|ed|"
    r"ing)?|blast(?:s|ed|ing)?|slic(?:es|ed|ing)|clear(?:s|ed|ing)|smash\w*|pass)",
}

SIDED: Mapping[str, tuple[str, str]] = {
    "WARDS": (r"(?:up|upside|upwards?|higher)", r"(?:down|downside|downwards?|lower)"),
    "RISE": (
        r"(?:rise|rally|moon|pump|bounce|surge|soar|fly|climb|double|triple|explode|skyrocket|recover|"
        r"outperform|rip|rebound|appreciate|make a (?:run|move|push)|continue WARDS|break ?out|make new "
        r"(?:highs|aths?)|(?:break|hit|test|retest|make|see|reach|set) (?:its |the |a |an |another |new "
        r")*(?:aths?|all[- ]time highs?|highs?)|(?:go|head|move|run|push|shoot|trade|climb|drift|trend|"
        r"break|keep going) ADVERB(?:up|higher|upwards?|parabolic)\b(?! to date)|keep (?:rising|going|"
        r"climbing|pumping|growing)|do well|be (?:huge|massive|bullish|green))",
        r"(?:fall|drop|crash|dump|tank|retrace|correct|bleed|collapse|plunge|plummet|dip|roll over|break "
        r"?down|pop|burst|underperform|pull ?back|implode|get (?:crushed|wrecked|rekt|hammered|destroyed|"
        r"dumped|slaughtered)|drag \w+ down|make new lows|(?:go|head|move|push|trade|drift|trend|come|break|"
        r"be) ADVERB(?:down|lower|downwards?)\b(?! as)|keep (?:falling|dropping|dumping|bleeding)|be "
        r"(?:bearish|red|ugly)|lose (?:support|value|\d+%))",
    ),
    "RISING": (
        r"(?:rising|rallying|climbing|pumping|mooning|bouncing|recovering|ripping|doubling|tripling|surging|"
        r"soaring)",
        r"(?:falling|crashing|dumping|tanking|bleeding|collapsing|dropping|correcting|halving|plunging)",
    ),
    "MOVING": (
        r"(?:(?:heading|headed|heads?|moving|moves|climbing|pushing|going|ripping|trending|breaking|"
        r"continuing|continues|grinding|stairstepping) ADVERBWARDS(?! (?:the|my|your|our|some)\b)|(?:rising|"
        r"rallying|climbing|pumping|mooning|bouncing|recovering|ripping) (?:again|hard|nicely))",
        r"(?:(?:heading|headed|heads?|moving|moves|pushing|going|goes|trending|breaking|continuing|"
        r"continues|grinding|bleeding|rolling|drop|dropping|fall|falling) (?:back |much |way |even )?WARDS|"
        r"(?:falling|crashing|dumping|tanking|bleeding|collapsing|dropping) (?:again|hard|fast))",
    ),
    "MOVE": (
        r"(?:rally|bull ?run|run|pump|breakout|break ?out|bounce|rebound|(?:leg|move|push|continuation|"
        r"reversal|break|wave|swing|explosion|spike)(?: to the| is)? WARDS|upside|recovery|\w* ?aths?|"
        r"(?:new |fresh |another |higher )?(?:all[- ]time )?highs?|green (?:candles?|weekly|daily|week|day|"
        r"month)|moon|short squeeze|uptrend)",
        r"(?:crash|correction|dump|pullback|pull back|retrace|retracement|drop|sell-?off|breakdown|(?:leg|"
        r"move|push|continuation|reversal|break|wave|swing)(?: to the| is)? WARDS|downside|(?:new |lower |"
        r"fresh )lows|red candles?|collapse|bear market|downtrend|blood\w*|capitulation)",
    ),
    "GOOD": (
        r"(?:good|strong|great|bullish|primed|healthy|nice|nicely|well|amazing|beautiful|solid|ready|"
        r"positive|excellent|juicy|sexy|tasty)",
        r"(?:weak|bearish|toppy|heavy|bad|ugly|exhausted|terrible|shaky|tired|dangerous|scary|negative|"
        r"poor)",
    ),
    "LONG": (r"(?:long|buy)", r"(?:short|sell)"),
    "BULL": (r"(?:bull|bullish)", r"(?:bear|bearish)"),
    "BULLS": (r"bulls", r"bears"),
    "BULLISH": (r"bullish", r"bearish"),
    "TREND": (
        r"(?:uptrend|up ?trend|bull (?:market|trend))",
        r"(?:downtrend|down ?trend|bear (?:market|trend))",
    ),
    "OVER": (
        r"(?:above|over|out|through|past|upside|upwards?|resistance)",
        r"(?:below|under|underneath|downside|downwards?|support)",
    ),
    "ABOVE": (r"(?:above|over|past)", r"(?:below|under|underneath)"),
    "WALL": (r"(?:resistance|supply|sell wall)", r"(?:support|demand|neckline|buy wall)"),
    "FLOOR": (
        r"(?:support|demand|bids?|neckline|MEAN|channel|lows?|bottom)",
        r"(?:resistance|supply|MEAN|highs?)",
    ),
    "CHEAP": (
        r"(?:(?<!most )under[- ]?(?:valued|priced|appreciated)|on sale|(?:a |such a |an? absolute "
        r")(?:bargain|steal)|such a deal|dirt cheap|at a discount|(?:is|are|looks|so|this|too|very|pretty|"
        r"still) cheap(?! (?!here|now|at|right|compared|today|for)\w))",
        r"(?:over[- ]?(?:valued|priced|hyped|extended)|too expensive)",
    ),
}


_NAME = re.compile("|".join(sorted({*CLASSES, *SIDED}, key=lambda name: (-len(name), name))))
_FREE = re.compile(r"<(\d)>")


def expand(phrase: str, side: int) -> str:
    """Expand the word classes of a phrase to a regular expression."""

    def words(found: re.Match[str]) -> str:
        name = found[0]
        return expand(CLASSES[name] if name in CLASSES else SIDED[name][side == DOWN], side)

    return _NAME.sub(words, _FREE.sub(r"(?:[\\w§'%$&./-]+ ){0,\1}", phrase))


def cue(name: str, side: int, weight: int, *phrases: str) -> Cue:
    """Make a cue of phrases for one side."""
    return Cue(name, side, weight, phrases)


def both(name: str, weight: int, *phrases: str) -> tuple[Cue, Cue]:
    """Make the two cues of phrases whose side depends on the words of their classes."""
    return cue(f"{name} up", UP, weight, *phrases), cue(f"{name} down", DOWN, weight, *phrases)
