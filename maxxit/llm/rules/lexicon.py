"""What traders say when they make a call. Each cue has a side, a weight and the phrase.

`§` is a listed token. Weights have no unit: `read.THRESHOLD` is what a call needs after its doubts are taken away,
so 10 is a call by itself and 6 needs company. They were set by hand on the tuning half of the labelled posts
(docs/reading.md).
"""

from maxxit.llm.rules.chart_lexicon import CHART_CUES
from maxxit.llm.rules.cue import DOWN, UP, Cue, cue

CUES: tuple[Cue, ...] = (
    # --- what the author does ---------------------------------------------------------------------------------
    cue(
        *("buys", UP, 10),
        r"(?:i'm|i am|im|i've been|been|just|also|still|now|started) (?:buying|accumulating|adding|"
        r"longing) TOKENS",
        r"^(?:buying|bought|adding|added|longing|longed|accumulating|loading|loaded)(?! your) TOKENSGERUND",
        r"(?<!because )(?<!that )(?<!if )(?<!when )(?<!since )i (?:just |also |already )?(?:bought|added|"
        r"longed|entered|opened|scooped|grabbed) TOKENS",
        r"i(?:'m| am|'ve been|'ll| will|'d)? (?:still |just |also |rather |have been |been )*(?:long|riding|"
        r"holding|hold|hodl|hodling) TOKENS",
        r"just (?:bought|added|longed|rebought) TOKENS",
        r"(?:entered|getting|jumped) into TOKENS",
        r"(?:riding|long) TOKENS and short",
        r"(?:picked|pick|scooped|scoop|loaded|loading|stacked|stacking) up (?:on )?TOKENS",
        r"(?:managed to )?(?:pick|scoop|grab|snag) (?:up )?TOKENS",
        r"(?:went|going|i'm|im|am) all[- ]in (?:on )?TOKENS",
        r"(?:rebought|re-entered|bought back|buying back|bid(?:s|ding)? on) TOKENS",
        r"waiting to (?:buy|long|add) TOKENS",
    ),
    cue("long", UP, 7, r"^long TOKENS", r"(?:now|still|net|going|went) long TOKENS", r"riding TOKENS"),
    cue(
        *("holds", UP, 7),
        r"(?:i |i'll |i'm |i will |i've been |been |just )?(?:holding|hodling|hold|hodl) TOKENS",
        r"(?:remains|still|is) a (?:hold|buy|strong buy)",
        r"(?:not|never|won't|wont|will not|don't|do not|refuse to)(?: be)? (?:sell|selling)(?: my| your|"
        r" any| a single)? ?§",
        r"been (?:in|long|holding|punting|accumulating) § since",
        r"(?:my|in my) § (?:long|bags?|position) (?:is|are) (?:still |now )?(?:up|green|positive|in profit|"
        r"alive)",
        r"(?:long term|happy|proud) § (?:holder|hodler|bull)",
    ),
    cue(
        *("sells", DOWN, 10),
        r"(?:i'm|i am|im|just|now|started) (?:selling|shorting|dumping) TOKENS",
        r"^(?:selling|sold|shorting|shorted|dumping|dumped) TOKENSGERUND",
        r"(?<!because )(?<!that )(?<!if )(?<!when )(?<!since )i (?:just |also |would )?(?:sold|shorted|sell|"
        r"short|dumped) TOKENS",
        r"just (?:sold|shorted|dumped) TOKENS",
        r"i'm short TOKENS",
        r"(?:closed|took profits? on|taking profits? on|exited|out of) my TOKENS(?: long)?",
        r"(?:entered|opened|opening|took|taking) a TOKENS short",
        r"TOKENS short (?:is )?(?:opened|open|working|still)",
    ),
    # --- what the author tells others to do -----------------------------------------------------------------
    cue(
        *("says buy", UP, 12),
        r"^(?:just |now |so |please |psst[. ]*)?(?:keep )?(?:buy|accumulate|long)(?: up| more|"
        r" some)? TOKENSGERUND",
        r"keep buying(?: up)? TOKENS",
        r"buy (?:and|&) (?:hold|hodl)(?: TOKENS)?",
        r"btfd",
        r"buy the (?:dip|ath|fear|blood)",
        r"(?:dip|time|level|price|place|spot) to (?:buy|long|add|accumulate)",
        r"(?:buy|long) of the (?:day|week|month)",
        r"(?:you should|better|gotta|to just|safer to|just) buy(?: more| some)? TOKENS",
        r"(?:do not|don't|dont|never|will not) sell(?: your| my| any)? TOKENS",
        r"buy more TOKENS",
        r"i told you,? buy",
    ),
    cue(
        *("says sell", DOWN, 12),
        r"^(?:sell|short|dump)(?: all| more| some| your)? TOKENS",
        r"(?:time|place|level|chance) to (?:sell|short|take profits?|get out)",
        r"(?:stay|get) (?:out|away) (?:of|from) TOKENS",
    ),
    cue("never short", UP, 10, r"(?<!i )(?:don't|dont|do not|never) short(?: this| here| TOKENS)?"),
    cue("never short", UP, 10, r"shorting TOKENS is (?:stupid|dumb|suicide|crazy|insane)"),
    # --- what the author expects -----------------------------------------------------------------------------
    cue(
        *("expects rise", UP, 10),
        r"(?<!i'm )(?<!still )(?:will|gonna|gunna|going to|likely|could|should|easily|about to|ready to|"
        r"set to)(?: \w+){0,2} "
        r"(?:rise|rally|moon|pump|head up|go up|go higher|move higher|bounce|break its ath|break ath|double|"
        r"surge|fly)",
        r"(?:we|it) (?:move|go|heads?|moves?) (?:higher|up)",
        r"(?:heading|headed|heads?) (?:back )?up",
        r"§ (?:is |keeps )?moving up",
        r"(?:leg|push|continuation|reversal|breakout|break|wave|(?:next|another|big|the|a|"
        r"for) move) (?:to the )?(?:up|upside|upwards?|higher)(?: next| soon| incoming| imo)?",
        r"move up now",
        r"(?:bottom|lows?) (?:is|are|looks?) in",
        r"(?:i|we) (?:expect|predict|anticipate|think|believe)(?: \w+){0,5} "
        r"(?:higher|ath|new high|new highs|rally|breakout|bounce|go up|moon|break out|green|outperform|"
        r"will rise)",
        r"(?:big|huge|massive|great|good|green) (?:week|month|year|move|run|rally|pump|weekly) (?:ahead|"
        r"incoming|coming|inc|for §)",
        r"(?:incoming|upcoming) § (?:\w+ )?(?:pump|rally|run|green|breakout|moon|weekly)",
        r"(?:bull run|bull market|uptrend|rally|trend)(?: \w+){0,2} (?:continues|continuing|resumes|intact|"
        r"not over|just (?:started|beginning|getting started))",
        r"(?:will|to) (?:outperform|skyrocket|explode|recover|bounce back|make new highs)",
        r"(?:20\d\d|this|next year) (?:is going to be|will be|is) the year of(?: \w+){0,4} §",
        r"the year of(?: [^.]{0,30})? §",
        r"§'s year",
        r"(?:new|fresh|another) (?:ath|all time high|all-time high|high|highs)(?: soon| inc| incoming| next|"
        r" imo| imminent)",
        r"break (?:its|the|a new) (?:ath|all time high)",
        r"to new highs",
        r"(?:next|another) (?:move|leg) (?:is )?up",
        r"(?:up|higher) from here",
        r"not (?:even )?the top(?: yet)?",
        r"can go higher",
        r"still has \w+(?: \w+)? pump left",
        r"incoming §? ?(?:green|pump|rally|moon)",
    ),
    cue(
        *("expects fall", DOWN, 10),
        r"(?:will|gonna|gunna|going to|likely|about to|ready to|set to|looks ready to)(?: \w+){0,2} "
        r"(?:fall|crash|dump|tank|drop|go down(?! as)|go lower|roll over|retrace|correct|bleed|"
        r"drag everything down)",
        r"(?:we|it) (?:move|go|heads?|moves?) (?:lower|down)",
        r"(?:going|heading|headed) (?:back )?down",
        r"(?:next|another) (?:move|leg) (?:is )?down",
        r"(?:leg|continuation|reversal|break|wave|(?:next|another|big|the|a|for) move) (?:to the )?(?:down|"
        r"downside|downwards?|lower)",
        r"(?:top|high) (?:is|looks) in",
        r"(?:going|goes|headed|heading|drop|dropping|fall|falling|go) (?:much |even |way )?lower",
        r"lower (?:we|it) (?:go|goes)",
        r"(?:i|we) (?:expect|predict|anticipate|think|believe)(?: \w+){0,5} "
        r"(?:lower|correction|dump|crash|drop|pullback|retrace|drag everything down|red|fall|dip)",
        r"(?:chance|risk|danger) of (?:a )?(?:\d+% )?(?:retrace|correction|crash|dump|drop|pullback)",
        r"(?:correction|crash|dump|pullback|retrace|retracement) (?:is )?(?:coming|incoming|inc|imminent|"
        r"ahead|overdue|soon)",
        r"(?:drag|pull) (?:everything|alts|the market|all) down",
        r"down (?:only )?from here",
    ),
    cue(
        *("target", UP, 10),
        r"(?:next |first |my |new |price )?(?:target|targets|tgt|trgt|tp)s?(?: of| is| are| @| at|:| up|"
        r" remains)*,? ?PRICE",
        r"PRICE (?:target|trgt|tgt|is the target|projected|inc|incoming|next|soon|easy|eoy|by eoy|by end of)",
        r"PRICE(?: \w+)? (?:target|trgt|tgt) ?,?(?: here we come| remains)?",
        r"targets? (?:are|is) ath",
        r"(?<!once )(?<!before )(?<!when )(?<!if )(?<!after )(?<!until )(?:§|it|price|that) (?:will |could |"
        r"can |should |to )(?:easily )?(?:hit|reach|touch|see|test|go to|eiffel tower to|get to) PRICE",
        r"(?<!i'm )(?<!i'm still )(?:go|going|heads?|headed|heading|ride|way up|pumped|tower|"
        r"pump) to (?:the )?(?:PRICE|moon)",
        r"here we come",
        r"the case for (?:a )?PRICE",
        r"next stop(?: is|:)? PRICE",
        r"on (?:its|the|our) way to PRICE",
        r"(?:is|to be|will be) worth PRICE(?: by| in| next)",
        r"(?:bring|take|send|push) § to PRICE",
        r"hits? PRICE(?: \w+){0,2} (?:next year|soon|this (?:week|month|year)|tomorrow|tomm?\.?)",
        r"PRICE next (?:year|week|month)",
        r"will hit PRICE",
    ),
    # --- what it is worth --------------------------------------------------------------------------------------
    cue("cheap", UP, 10, r"undervalued", r"on sale", r"(?:a|such a) (?:bargain|steal)", r"such a deal"),
    cue("cheap", UP, 8, r"so cheap", r"this cheap"),
    cue(
        "cheap",
        UP,
        10,
        r"never (?:been )?a better time",
        r"(?:good|great|attractive|fair) (?:dip|price|level|entry)",
    ),
    cue(
        "dear",
        DOWN,
        10,
        r"over ?-?valued",
        r"(?:way |far )?too expensive",
        r"not worth (?:that|this)",
        r"over ?-?priced",
    ),
    cue("dear", DOWN, 9, r"don't believe(?: that)? § is valued"),
    # --- signs --------------------------------------------------------------------------------------------------
    cue("rocket and nothing else", UP, 10, r"^§[! ]*[🚀📈][🚀📈👍🏻🎯💪🔥! ]*$"),
    cue("is bullish", UP, 6, r"i'm (?:\w+ )?bullish on TOKENS"),
    cue("is bearish", DOWN, 6, r"i'm (?:\w+ )?bearish on TOKENS"),
    cue("rocket", UP, 4, r"🚀+", r"📈", r"to the moon", r"🎯"),
    cue("falling sign", DOWN, 4, r"📉", r"🩸", r"🔻"),
    *CHART_CUES,
)
