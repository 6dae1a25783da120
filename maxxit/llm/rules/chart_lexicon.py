"""What a chart says, in the words of those who read charts. Part of the lexicon."""

from maxxit.llm.rules.cue import DOWN, UP, Cue, cue

CHART_CUES: tuple[Cue, ...] = (
    # --- what the chart says ----------------------------------------------------------------------------------
    cue(
        *("breaks up", UP, 10),
        r"(?:break|breaks|broke|breaking|broken|breakout|break-out)(?: \w+){0,3} "
        r"(?:out|above|resistance|upside|upwards?|over)",
        r"(?:confirm\w*|complete\w*|finish\w*)(?: \w+){0,4} (?:breakout|break out|break to the upside)",
        r"(?:breakout|break out) (?:confirm\w*|complete\w*|and retest)",
        r"(?:looks|attempting|about|trying|ready) to break ?out",
        r"resistance(?: \w+){0,5} (?:breached|broken|flipped)",
        r"broken resistance",
        r"(?:flips?|flipped|turned|turning|turns)(?: \w+){0,3} (?:into|to) support",
        r"(?:reclaim|reclaims|reclaimed|reclaiming|pushing|pushed|punched|blasted) (?:through|above|past|"
        r"back above)",
        r"(?:flag|pennant|wedge|triangle|h&s)(?: \w+){0,3} (?:confirm\w*|complete\w*|breakout|broke out|"
        r"break out)",
        r"(?:close[sd]?|closing)(?: \w+){0,2} above",
        r"close above",
        r"above (?:white |fib |the |trend ?line )*resistance",
        r"(?:flag|pennant|wedge|triangle) (?:breakout|break out|complete)",
        r"setting up for(?: \w+){0,5} bullish",
    ),
    cue(
        *("breaks down", DOWN, 10),
        r"(?:fell|falls|fall|falling|drops?|dropping|dropped|breaks?|broke|breaking|slips?|slipping|lost|"
        r"losing)"
        r"(?: \w+){0,3} (?:support|below|downside)",
        r"(?:falling|fell|dropping|breaking|broke) (?:down )?(?:through|under)",
        r"break ?down",
        r"edge of a(?: \w+){0,2} cliff",
        r"broke(?: \w+){0,3} support",
        r"(?:flips?|flipped|turned|turning|turns)(?: \w+){0,3} (?:into|to) resistance",
        r"(?:through|below|under) (?:the )?(?:\w+ ){0,2}support",
        r"broke \d+ (?:fractals?|supports?|levels?)(?: w/ ?support)?",
        r"roll(?:ing)? over",
    ),
    cue(
        *("held", UP, 8),
        r"bounc(?:ed|ing) (?:off|from|nicely)",
        r"(?:support|bids?|200ema|50ema|kijun|ema) (?:held|holding|holds|bid)",
        r"(?:responding|reacting|behaving|holding)(?: \w+)? (?:nicely|well)",
        r"(?:shelf|confluence|zone) of support",
        r"bids are supporting",
        r"pulling back to(?: \w+){0,2} (?:confluence|support)",
        r"(?:above|over|held|holding|holds|defended|off) (?:the |its )?(?:\d+ ?-?(?:day|d|week|w|"
        r"h)? ?-?)?(?:sma|ema|ma)",
        r"support (?:is )?(?:holding|held|intact|working)",
        r"(?:bounce|bounced|bouncing|rebound\w*)(?: \w+){0,3} (?:support|fib|channel|sma|ema|low|lows)",
        r"(?:higher lows?|higher highs?|double bottom|cup (?:and|&) handle|oversold|short squeeze)",
        r"touch(?:ed|es)?(?: \w+){0,2} support and",
        r"(?:floating|still|well) above (?:my )?entry",
    ),
    cue(
        *("turned away", DOWN, 8),
        r"(?:stopped|rejected|stopping|halted)(?: \w+){0,6} (?:resistance|the bounce|by)",
        r"resistance (?:stopping|stopped|rejecting|rejected)",
        r"(?:not able|unable|failed|fails|failing) to (?:pass|break|close|hold|clear)",
        r"rejection",
        r"(?:lower highs?|lower lows?|double top|overbought|blow ?-?off top|topping|toppy|exhaustion)",
    ),
    cue(
        *("bullish", UP, 8),
        r"(?:still|very|super|more|so|mega|extremely|uber|max|turning|staying|feeling|i'm|im|am) bullish",
        r"(?<!or )(?<!eliminate )bullish (?:on(?! \S+ (?:vs|versus|against|relative))|bias|signals?|pattern|"
        r"continuation|pennant|flag|divergence|engulfing|tk|cross|setup|structure)",
        r"(?:long|buy) (?:entry|signal)",
        r"looking (?:very |still |so |really |pretty )?(?:good|strong|great|bullish|primed|healthy|nice)",
        r"(?:still|very|more|is|super) (?:strong|healthy)(?: here| now| today)?$",
        r"(?:bullish|good|great|strong|positive|nice) (?:signs?|signal|momentum|setup|structure|chart|entry)",
        r"bulls (?:in control|are back|winning|took)",
        r"looks (?:good|strong|great|bullish|primed)",
    ),
    cue(
        *("bearish", DOWN, 8),
        r"(?:still|very|super|more|so|mega|extremely|turning|staying|feeling|i'm|im|am) bearish",
        r"bearish (?:on(?! \S+ (?:vs|versus|against|relative))|bias|signals?|pattern|continuation|pennant|"
        r"flag|divergence|engulfing|harmonic|setup|structure)",
        r"looking (?:very |still |so |really |pretty )?(?:weak|bearish|toppy|heavy|bad|ugly)",
        r"(?:bearish|weak|bad|negative) (?:signs?|signal|momentum|setup|structure|chart)",
        r"bears (?:in control|are back|winning|took)",
        r"looks (?:weak|bearish|toppy|heavy|bad)",
    ),
    cue(
        *("names a rising pattern", UP, 6),
        *(
            r"bull flag",
            r"(?:falling|descending) wedge",
            r"inverse h&s",
            r"(?:asc|ascending) tri(?:angle)?",
            r"golden cross",
        ),
    ),
    cue(
        *("names a falling pattern", DOWN, 6),
        *(
            r"bear flag",
            r"rising wedge",
            r"(?<!inverse )h&s",
            r"(?:desc|descending) tri(?:angle)?",
            r"death cross",
        ),
    ),
)
