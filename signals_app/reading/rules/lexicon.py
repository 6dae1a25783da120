"""The lexicon of the lexical reader: cues of a call, each with a side, a weight and phrases (notation: `grammar`).

Weights have no unit. A call needs `read.THRESHOLD` after deductions, so that a weight of 10 is a call alone and 6 needs
another cue.
"""

from signals_app.reading.rules.chart_lexicon import CHART_CUES
from signals_app.reading.rules.grammar import DOWN, UP, Cue, both, cue

_DEED = (
    r"(?! (?:with|via|because|and using|(?:[^\s,.;:!?]+ ){0,7}(?:is|isn't|are|was|takes?|took|makes?|means|"
    r"would|can|will|feels|has)\b))"
)
"""After "buying §": excludes continuations that make it the subject of a sentence instead of the author's action."""

CUES: tuple[Cue, ...] = (
    # --- what the author does ----------------------------------------------------------------------------------
    cue(
        *("buys", UP, 10),
        r"IAMBUYING(?: TOKENS|(?=[.,!]|$))",
        rf"^ADVERBBUYING(?! your) TOKENS{_DEED}",
        r"IDIDBOUGHT (?:TOKENS|(?:the|this|that|every) <1>dip)",
        r"IWILL(?:BUY|HOLD|own|be BUYING) TOKENS",
        r"(?:a |net )buyer of TOKENS",
        r"filled on <1>§ (?:bids?|buys?|longs?|orders?)",
        r"(?:i|we|i've|i'm) ADVERB(?:hold|hodl|long) TOKENS",
        r"long TOKENS (?:and|/|&) short",
        r"keep <3>in TOKENS",
        r"(?:i'm|i) (?:putting|put|moving|moved|converting|converted) <5>into TOKENS",
    ),
    cue(
        *("holds", UP, 10),
        r"(?:IAM|i'll be )HOLDING TOKENS",
        rf"^ADVERBHOLDING TOKENS{_DEED}",
        r"(?:remains|still|is) a (?:hold|buy)",
        r"been (?:in|long|HOLDING|BUYING) TOKENS since",
        r"my (?:§ )?(?:longs?|bags?|position|stack|bitcoins?)(?: on §)? (?:is|are) (?:still |now )?(?:up|"
        r"green|positive|in profit|alive|safe)",
        r"NOT <2>worried <4>(?:my )§",
        r"my (?:biggest|largest|top|main) (?:position|holding|bag|bet) (?:is )?(?:still )?§",
        r"(?:long term|happy|proud) § (?:holder|hodler|bull)",
    ),
    cue(
        *("keeps", UP, 10),
        r"NOT (?:be |ever )?(?:sell|selling|sold|bet against|betting against) (?:this|here|TOKENS)",
        r"would(?:n't| not| never) short",
        r"(?<!i )(?:never|don't|dont|do not|no way to <1>) ?short (?:this|here|TOKENS|§)",
    ),
    cue(
        *("sells", DOWN, 10),
        r"IAMSELLING(?: TOKENS|(?=[.,!]|$))",
        r"(?:i'm|i am|im) ADVERBout of TOKENS",
        rf"^ADVERBSELLING TOKENS{_DEED}",
        r"IDIDSOLD TOKENS",
        r"IDID(?:took|taken) <1>§ profits?",
        r"IWILLSELL TOKENS",
        r"i ADVERB(?:sell|short) TOKENS",
        r"IAMshort TOKENS",
        r"(?:my )?§ shorts? (?:is |are )?(?:still |now )?(?:opened|open|working|still|up|green|in profit|running)",
    ),
    # --- what the author tells others to do ----------------------------------------------------------------
    cue(
        *("says buy", UP, 12),
        r"(?:TELLBUY|STARTHOLD) TOKENS(?! (?:is|isn't|with|via|at \w+ is)\b)",
        r"(?:keep|should be|better be) BUYING (?:TOKENS|(?:the|this|every) <1>dip)",
        r"strong buy",
        r"buying opportunity",
        r"^buy(?: now| here| it| this| this dip| more)?[.! ]*$",
        r"and HOLD TOKENS",
        r"(?:is|are) for (?:buying|accumulating)",
        r"TELL(?:buy (?:and|&) )?(?:hold|hodl)\b(?: on| and|[.!]| until| strong|$| your)",
        r"buy (?:and|&) (?:hold|hodl)(?: TOKENS)?",
        r"btfd",
        r"TELLbuy the (?:<1>dip|ath|fear|blood|bottom)",
        r"(?:time|place|spot|opportunity|level|price|dip|chance|moment) to (?:buy|long|add|accumulate|be "
        r"long|buy into)",
        r"is (?:simply |just )?to (?:buy|hold|hodl)\b",
        r"^#hodl TOKENS",
    ),
    cue(
        *("says sell", DOWN, 12),
        r"TELLSELL TOKENS",
        r"^(?:sell|short|dump)(?: now| here| it| this| it all)?[.! ]*$",
        r"(?:time|place|level|chance|moment) to (?:sell|short|take <2>(?:profits?|money|chips)|get out)",
        r"TELLtake (?:some |your )?profits?(?! target| level| order)",
    ),
    cue(
        *("warns of shorts", UP, 10),
        r"(?:short|sell)(?:ing)? TOKENS <2>is <2>(?:stupid|dumb|suicide|crazy|insane|foolish|dangerous|"
        r"risky|bad|mistake|madness)",
    ),
    # --- what the author expects -------------------------------------------------------------------------------
    *both("expects", 10, r"(?<!i'm )(?<!still )FUTURE <2>RISE", r"MOVING"),
    *both(
        *("foresees", 10),
        r"EXPECT <5>(?:MOVE|RISE|WARDS|BULLISH)",
        r"(?:we|it|price) ADVERB(?:move|go|heads?|moves?|goes) WARDS",
        r"WARDS we go",
        r"(?:next|another|big|huge|the|a|for|first) (?:leg|move|push|wave) <3>WARDS",
        r"(?:continuation|reversal|break|breakout) (?:to the )?WARDS",
        r"MOVE (?:is |are |looks |looking )?(?:coming|incoming|inc|imminent|ahead|overdue|soon|next|loading|"
        r"likely|expected|inevitable|for §)",
        r"(?:incoming|upcoming|imminent|expect(?:ing)?|inbound) (?:§ )?<1>MOVE",
        r"(?:chance|risk|danger|odds|probability|potential)(?: of| for) <3>MOVE",
        r"(?:towards?|before|away from|to) (?:a |the |its |another )?(?:new |fresh )MOVE",
        r"before going WARDS",
        r"due for <3>MOVE",
        r"(?:i|we) (?:can )?see <2>RISING",
        r"WARDS from here",
        r"(?:still|is|are|remains?) in (?:an?|the) <1>TREND",
        r"MOVE (?:has |have |is |just )*(?:start(?:ed|ing)|begun|beginning|resum(?:ed|ing|es))",
    ),
    cue(
        *("expects strength", UP, 10),
        r"(?:big|huge|massive|great|good|green|bullish) (?:week|month|year|move|run|rally|pump|weekly)s? "
        r"(?:ahead|incoming|coming|inc|for §)",
        r"another big (?:run|move|rally)",
        r"(?:bull ?run|bull market|uptrend|rally|trend|show|party)(?: \w+){0,2} (?:continues|continuing|"
        r"resumes|intact|(?:not|isn't|ain't) over|(?:far|long way) from over|just (?:started|beginning|"
        r"getting started))",
        r"the year of <4>§",
        r"§'?s year",
        r"(?:bottom|lows?) (?:is|are|looks?) in",
        r"(?:§|price|it) (?:has |have |just |may have )?bottomed",
        r"not (?:even )?(?:the|a) top(?: yet)?",
        r"can (?:still )?go (?:much |a lot |way )?higher",
    ),
    cue(
        *("expects weakness", DOWN, 10),
        r"(?:top|high) (?:is|looks) in",
        r"(?:§|price|it) (?:has |have |just )?topped",
        r"not (?:even )?(?:the|a) bottom(?: yet)?",
        r"(?:rally|bull ?run|party) (?:is )?(?:over|fading|ending|exhausted)",
        r"fading <1>§ (?:rally|run|pump)",
    ),
    # --- targets -----------------------------------------------------------------------------------------------
    cue(
        *("target", UP, 10),
        r"(?:targets?|tgts?|trgts?|tps?)(?: of| is| are| @| at|:| up| remains)*,? ?PRICE",
        r"(?<!broke the )(?<!hit the )(?<!hit )(?<!hits )(?<!reached )(?<!reached the )PRICE "
        r"(?:<1>)?(?:target|trgt|tgt|is the target)s?",
        r"targets? (?:are|is|getting|looking|still) <1>(?:ath|crazy|higher|insane)",
        r"PRICE (?:§ )?(?:projected|is next|inc|incoming|next|soon|easy|eoy|here we come|imminent|loading)",
        r"PRICE (?:TOKENS )?AHEAD",
        r"PRICE,? here we come",
        r"(?<!once )(?<!before )(?<!when )(?<!if )(?<!after )(?<!until )(?:§|it|price|that|we|we'll|it'll|"
        r"<2>)(?:FUTURE|to) <2>(?:hit|reach|touch|see|test|retest|go to|get to|top|pass|surpass|break|be "
        r"(?:at|worth|over)?) ?PRICE",
        r"(?<!i'm )(?<!i'm still )(?:go|goes|going|heads?|headed|heading|ride|way up|way|pumped|pump|moves?|"
        r"moving|rise|rising) (?:back |down |up )?to (?:the )?(?:PRICE|moon)",
        r"next (?:stop|target|up)(?: is|:|,)? PRICE",
        r"(?:bring|take|send|push|get|see) (?:§ |us |it )(?:to|at) PRICE",
        r"hits? PRICE(?: \w+){0,2} AHEAD",
    ),
    cue("above a price", UP, 10, r"§ ?>+ ?PRICE"),
    cue("below a price", DOWN, 10, r"§ ?<+ ?PRICE"),
    # --- what it is worth --------------------------------------------------------------------------------------
    *both("value", 10, r"(?<!so )CHEAP", r"(?:so|this|too|way too|very) CHEAP"),
    cue(
        *("attractive", UP, 10),
        r"(?:never (?:been )?a|no) better time",
        r"(?:good|great|attractive|fair|amazing|nice) (?:dip|price|level|entry|opportunity|risk)",
        r"(?:dip|price|level|entry)(?:'s| that's| is| looks) (?:very |so |pretty )?(?:attractive|tempting)",
    ),
    cue("not worth it", DOWN, 10, r"NOT (?:\w+ )?worth (?:that|this|PRICE)"),
    # --- signs -------------------------------------------------------------------------------------------------
    cue("rocket and nothing else", UP, 10, r"^§[! ]*[🚀📈][🚀📈👍🏻🎯💪🔥! ]*$"),
    cue("rocket", UP, 4, r"🚀+", r"📈", r"to the moon", r"🎯"),
    cue("falling sign", DOWN, 4, r"📉", r"🩸", r"🔻"),
    *CHART_CUES,
)
