"""Lexicon of chart reading: phrases on breaks, bounces, rejections and patterns."""

from signals_app.reading.rules.grammar import DOWN, UP, Cue, both, cue

CHART_CUES: tuple[Cue, ...] = (
    *both(
        *("breaks", 10),
        r"BREAK <3>OVER(?! PRICE)",
        r"WALL (?:\w+ ){0,5}(?:breached|broken|flipped|cleared|gone)",
        r"broken WALL",
        r"(?:close[sd]?|closing) <2>ABOVE",
        r"ABOVE LEVEL(?:WALL|MEAN)",
        r"BULL FIGURE <3>DONE",
        r"setting up for <5>BULLISH",
    ),
    cue(
        *("breaks out", UP, 10),
        r"FIGURE <3>DONE",
        r"DONE <4>(?:breakout|break out)",
        r"(?:breakout|break out) DONE",
        r"(?:looks|attempting|about|trying|ready|looking) to break ?out",
        r"(?:reclaim|reclaims|reclaimed|reclaiming)\b",
        r"(?:flips?|flipped|turned|turning|turns) <3>(?:into|to) support",
        r"BREAK <1>towards",
    ),
    cue(
        *("falls through", DOWN, 10),
        r"(?:fell|falls|fall|falling|drops?|dropping|dropped|slips?|slipping|lost|losing) <3>(?:support|"
        r"below|through)(?! PRICE)",
        r"(?:breaking|broke|breaks) down(?! (?:the|why|how|what|your|my|this|of))",
        r"breakdown (?:below|confirmed|coming|from|in progress)",
        r"los(?:t|es|ing) PRICE",
        r"dead cat bounce",
        r"(?:flips?|flipped|turned|turning|turns) <3>(?:into|to) resistance",
        r"roll(?:ing|s)? over(?! (?:this|the|my))",
    ),
    cue(
        *("held", UP, 8),
        r"(?:bounc(?:es|ed|ing)|rebound(?:s|ed|ing)) (?:nicely )?(?:off|from|at|on)",
        r"FLOOR (?:is |are )?(?:held|holding|holds|bid|intact|working|supporting)",
        r"(?:responding|reacting|behaving|holding|performing) <1>GOOD",
        r"(?:shelf|confluence|zone) of support",
        r"(?:finds?|finding|found) support",
        r"pulling back to <2>(?:confluence|support)",
        r"(?:above|over|held|holding|holds|defended|off) (?:the |its )?MEAN",
        r"(?:bounce|bounced|bouncing|touch(?:ed|es)?|tapped|retested) <3>FLOOR",
        r"(?:higher lows?|higher highs?|double bottom|cup (?:and|&) handle|oversold|short squeeze|"
        r"bull(?:ish)? div\w*)",
        r"(?:floating|still|well) above (?:my )?(?:entry|it)",
    ),
    cue(
        *("turned away", DOWN, 8),
        r"(?:stopped|rejected|stopping|halted|stalled|rejecting) <6>(?:resistance|the bounce|by|at)",
        r"resistance (?:stopping|stopped|rejecting|rejected|held|holding|holds)",
        r"(?:not able|unable|failed|fails|failing|can't seem) to (?:pass|break|close|hold|clear|reclaim|"
        r"get)",
        r"rejection",
        r"(?:lower highs?|lower lows?|double top|overbought|blow ?-?off top|topping|toppy|exhaustion|"
        r"bear(?:ish)? div\w*)",
    ),
    *both(
        *("mood", 10),
        r"(?:still|very|super|more|so|mega|extremely|uber|max|turning|staying|feeling|equally|i'm|im|am|is|"
        r"be) BULLISH",
        r"BULLISH (?:on(?! \S+ (?:vs|versus|against|relative))|<1>(?:bias|signals?|continuation|FIGURE|tk|"
        r"cross|setup|divergence|div|engulfing|harmonic|pattern|retest|signs?|momentum|chart|trend))",
        r"BULL (?:FIGURE|div|divergence|engulfing)",
        r"LONG (?:entry|signal|setup)",
        r"(?:looking|looks) (?:very |still |so |really |pretty |fairly )*GOOD",
        r"GOOD (?:signs?|signal|momentum|setup|structure|entry)",
        r"BULLS <1>(?:in (?:full )?(?:control|charge)|are back|winning|took)",
    ),
    cue(
        *("a rising pattern", UP, 8),
        r"(?:falling|descending) wedge",
        r"inv(?:erse|erted)? (?:h ?[&+] ?s|head and shoulders)",
        r"(?:asc|ascending) tri(?:angle)?",
        r"golden cross",
    ),
    cue(
        *("a falling pattern", DOWN, 8),
        r"rising wedge",
        r"(?<!inverse )(?<!inv )(?<!inverted )(?:h&s|head and shoulders)",
        r"(?:desc|descending) tri(?:angle)?",
        r"death cross",
    ),
)
