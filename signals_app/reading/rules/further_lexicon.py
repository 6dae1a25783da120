"""What `rules-4` adds to the lexicon: slang, signs, signal messages, words for a trend reversal, other languages, and
news feeds.

Each cue is a class of words, not a sentence that somebody wrote. Cues of languages without spaces match inside a run of
letters.
"""

# ruff: noqa: RUF001 (words of other languages)
import re
from functools import cached_property

from signals_app.reading.rules.grammar import DOWN, UP, Cue, both, cue, expand


class InsideCue(Cue):
    """A cue whose phrases need no boundary around them: signs, and languages without spaces."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What finds a phrase in a text; compiled when a text is read."""
        return re.compile("|".join(self.phrases))


class WordCue(Cue):
    """A cue of whole words in any script."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What finds a phrase in a text; compiled when a text is read."""
        return re.compile(rf"(?<!\w)(?:{'|'.join(self.phrases)})(?!\w)")


def _inside(name: str, side: int, weight: int, *words: str) -> Cue:
    return InsideCue(name, side, weight, words)


def _word(name: str, side: int, weight: int, *words: str) -> Cue:
    return WordCue(name, side, weight, words)


FURTHER_CUES: tuple[Cue, ...] = (
    # --- slang and signs ---------------------------------------------------------------------------------------
    cue(
        *("slang up", UP, 10),
        r"(?:aped|aping|ape) (?:back |hard )?in(?:to)?(?: more)?",
        r"(?:smash|smashed|smashing|slam|hammer) (?:that |the )?buy\w*",
        r"(?:load(?:ed|ing)?|fill(?:ed|ing)?|pack(?:ed|ing)?) (?:up )?(?:my|our|the|your) bags?",
        r"bags? (?:are |is )?(?:packed|loaded|filled|full)",
        r"(?:stack|stacked|stacking) (?:(?:some|more|another|those|your|up|\d\w*) ){0,3}sats",
        r"(?:go|goes|going|send|sent|way|off|fly|flying|back) (?:it )?(?:to |2 )?(?:the )?moon(?! on)",
        r"up only(?: mode)?",
        r"(?:bears|shorts|shorters) (?:are |will |gonna |about to |going to )*(?:be |get )?(?:trapped|"
        r"wrecked|rekt|"
        r"destroyed|squeezed|crying)",
        r"rip(?:s|ping)? (?:their |your |bears' )?faces? off",
        r"(?:warming|gearing) up(?! to)",
        r"(?:ready|set|prepare|preparing|time) for (?:lift ?off|take ?off|launch|the moon)",
        r"diamond hands",
        r"(?:hell'?a|hella|dirt|stupid|too|so|insanely|crazy) cheap",
        r"(?:just |only |simply )(?:hodl|hold)(?= ?[!.]|$)",
        r"(?:send it|lfg|let's fucking go)",
    ),
    cue(
        *("slang down", DOWN, 10),
        r"(?:bulls|longs|longers) (?:are |will |gonna |about to |going to )*(?:be |get )?(?:trapped|"
        r"wrecked|rekt|"
        r"destroyed|squeezed|liquidated|crying)",
        r"(?:going|goes|go|heading|headed|back|straight) to (?:zero|0(?![.,]?\d)|the ground|hell|the core)",
        r"(?:nuke|nuking|nuked) (?:coming|incoming|soon|inc|to PRICE)",
        r"(?:more|max|maximum) pain (?:ahead|coming|incoming|to come|for)",
    ),
    _inside("rockets", UP, 8, r"🚀[^\w]{0,4}🚀|📈[^\w]{0,3}📈|🌕[^\w]{0,3}🚀|🚀[^\w]{0,3}🌕"),
    _inside("falling signs", DOWN, 8, r"📉[^\w]{0,3}📉|🩸[^\w]{0,3}🩸"),
    # --- signal messages ----------------------------------------------------------------------------------------
    *both(
        *("signal", 12),
        r"(?:signal|trade|direction|side|action|position)[ :=\-]+(?:is )?LONG",
        r"LONG (?:position )?(?:suggested|recommended|triggered|confirmed|activated)",
        r"(?:enter|open|opened|opening|take|taking|took|reverse to|flip(?:ped)? to) (?:a |an |"
        r"my )?(?:\w+ )?LONG(?:s|ed)?",
        r"LONGs? <2>(?:entry|entries|zone|@)(?: price)?[ :=]*PRICE",
        r"(?:approaching|given|gives|giving|got|printed|flashed|flashing|strong|new|fresh) (?:a |an |"
        r"the )?<1>LONG signals?",
        r"§ ?(?:/ ?\w+ )?LONG <1>(?:PRICE|setup|idea|here|now)",
        r"LONGs? (?:from|at|around|near) (?:here|this|these|PRICE|LEVEL(?:support|resistance))",
    ),
    # --- words for a trend reversal ----------------------------------------------------------------------------
    cue(
        *("signs of a rise", UP, 10),
        r"signs? of (?:a |an |some )?(?:support|strength|bottoming|recovery|reversal|a bottom|life|demand|"
        r"buyers)",
        r"(?:bottom|local bottom) (?:call|signal|is near|forming|formation)",
        r"(?:i think |i believe )?(?:we've|we have|i've|have) (?:already )?(?:seen|put in|hit) (?:the|a|"
        r"our) (?:\w+ )?(?:bottom|lows?)",
        r"bear trap(?!s)",
        r"relief (?:rally |bounce |move |pump )?(?:is |looks )?(?:due|incoming|coming|likely|next|soon|"
        r"expected|ahead)",
        r"(?:probability|chance|odds|spot|area|zone)s? (?:for|of) (?:some |a )?(?:relief|bounce|"
        r"reversal up)",
        r"bounce (?:is |to be |looks )?(?:expected|expecting|due|anticipated|incoming|likely|coming|"
        r"imminent)",
        r"(?:nice|good|great|strong|solid|clean|perfect) (?:bounce|reaction|defen[cs]e|hold|reclaim)",
        r"(?:nice|good|great|strong|solid|clean) <1>bounce",
        r"(?:this|it|support|that|line) (?:should|will|must) hold",
        r"(?:holding|holds|held) (?:the )?(?:LEVELsupport|support)",
        r"(?:the )?bull ?run (?:has |is )?(?:only |just )?(?:begun|started|beginning|starting|back|here|"
        r"on)",
    ),
    cue(
        *("signs of a fall", DOWN, 10),
        r"signs? of (?:a |an |some )?(?:weakness|exhaustion|topping|distribution|a top|reversal down)",
        r"(?:local )?top (?:call|signal|is near|forming|formation)",
        r"bull trap(?!s)",
        r"(?:rejecting|rejected|getting rejected) (?:again |hard )?(?:from|at|by|off)",
        r"(?:path|line) of least resistance is (?:lower|down)",
        r"sell (?:the |every |any |this |on )?(?:rip|rips|rise|rally|rallies|bounce|pops?|news)",
        r"(?:won't|wont|will not|can't|cannot|could not|couldn't|isn't going to|"
        r"not going to) (?:be able to )?"
        r"(?:hold|stay above|stay over|keep) (?:PRICE|LEVELsupport|this)",
        r"(?:primary |main |overall |macro )?trend (?:is |remains |still )+(?:bearish|down)",
        r"(?:lack|lacking|no) <1>(?:volume|follow[- ]through|strength) on <2>(?:pumps?|bounces?|rall\w+)",
    ),
    *both(
        *("heads", 10),
        r"(?:goes|going|go|heads|headed|heading|grinds?|trend(?:s|ing)?) (?:much |even |"
        r"a lot )?WARDS (?:here|fast|soon|from|"
        r"into|this|next|today|tomorrow|again)",
        r"WARDS prices? (?:ahead|coming|incoming|next|soon|from here|are coming|to come)",
        r"(?:still|looks?|looking|very|so|more|even more|super|mega|max|ultra|af|i am|i'm|we are|"
        r"we're) (?:(?!not |never |hardly |less |no |neither )\w+ )?BULLISH(?: af| as)?",
        r"BULLISH (?:af|as fuck|asf|still|again|now|here|structure|bias|setup|retest|reversal|engulfing|"
        r"div\w*)",
        r"(?:structure|trend|momentum|market|bias|chart)(?: is| are| looks| turning| turns| turned|"
        r" remains| stays)+ <1>BULLISH",
        r"BULL div\w*",
        r"(?:i think|i see|i expect|we see|we'll see|see|expect|expecting) <3>(?:PRICE )?WARDS",
        r"(?:ready|matter of time)(?: \w+){0,2} (?:to )?RISE",
    ),
    cue(
        *("target", UP, 10),
        r"reaching <1>PRICE(?= (?:soon|next|this|by|eoy|before|tonight|today|tomorrow)|[.! 🚀]*$)",
        r"(?:next|first|main|final|my|new)? ?targets? (?:at|is|are|around|area|zone|the|of|:|=)* ?<2>PRICE",
        r"(?:targeting|eyeing) <2>PRICE",
        r"(?:see|seeing|expect|expecting|predict) (?:the )?PRICE(?:\+)?(?= (?:soon|next|this|by|before|"
        r"tonight|today|again)|[.! 🚀]*$)",
        r"PRICE (?:is )?(?:a )?(?:more |most )?(?:likely|probable) target",
        r"(?:minimum|at least) <2>PRICE <2>AHEAD",
        r"will <2>go <2>(?:back )?(?:up|down) to PRICE",
    ),
    cue(
        *("says own it", UP, 10),
        r"(?:if you|those who) (?:are not|aren't|don't|have not|haven't|"
        r"still don't) (?:\w+ )?(?:own(?:ing)?|buy(?:ing)?|invest(?:ed|ing)?|hold(?:ing)?)"
        r" <2>(?:TOKENS|§) <2>(?:you )?(?:will|'ll|are) <1>(?:regret|miss|be sorry|late)",
        r"no excuses? (?:for|to) not (?:accumulat\w+|buy\w*|hold\w*|own\w*)",
        r"(?:accumulate|buy|stack) (?:whenever|while|when|what|as much as) you (?:can|still can)",
        r"(?:^|(?<=[.!,;:] )|(?<=\bi )|(?<=\bwe )|(?<=i'll )|(?<=better )|(?<=now )|(?<=bro )|(?<=alts )|"
        r"(?<=and )|(?<=just )|(?<=should ))buy "
        r"(?:(?:some|more|a|bit|little|lil|up|of) )*(?:§|the dips?)(?! (?!AFTER)[a-z])",
        r"(?:got|grabbed|grab|get|snagged|picked up) (?:a |some |another |me )?(?:lil |little |"
        r"bit )*more §",
        r"(?:loading|load|loaded) up(?: while| on|$|[.!])",
        r"(?:good|great|best|perfect|amazing) (?:position|time|place|moment) if you buy",
        r"long on §",
        r"(?:keep|kept|(?:will|would|i'll|just|gonna) keep(?: on)?) (?:hodl\w*|hold(?:ing)?(?: on to)?|"
        r"buying|stacking|accumulating|adding) "
        r"(?:more |some |my |your |up )*(?:TOKENS|§)",
        r"(?:i'm|i am|im|we're|we are) (?:still |just )?(?:hodling|stacking|accumulating|buying (?:@|at|"
        r"here|the dip|dips|every|more))",
        r"add(?:ing|ed)? (?:more )?to (?:my |our )?§ (?:hodlings?|holdings?|stack|bags?|position)",
        r"(?:dump|sell) (?:your |my |the |all )*(?:alts?|alt ?coins?|shitcoins?|\w+) (?:and|&|,|"
        r"then)? ?(?:buy|get) (?:some |more )?§",
        r"(?:100% |fully )?all[- ]in (?:on |in )?§?(?=[ .,!]|$)",
    ),
    cue("a top twice", DOWN, 10, r"(?:double|triple) top"),
    cue("a bottom twice", UP, 10, r"(?:double|triple) bottom"),
    *both(
        "further",
        10,
        r"(?:a lot|lots|much|way|far|significantly) WARDS(?= (?:from|soon|to|before|this)|[ .,!]*$)",
        r"sees? (?:another|new|a new) MOVE",
        r"(?:up|down) for PRICE",
    ),
    # --- other languages ---------------------------------------------------------------------------------------
    _inside(
        *("a rise, in Chinese", UP, 10),
        *(
            "看涨",
            "看多",
            "做多",
            "抄底",
            "加仓",
            "买入",
            "买了",
            "上车",
            "起飞",
            "开多",
            "要涨",
            "会涨",
            "大涨在即",
            "多头趋势",
            "突破阻力",
        ),
        *("牛市", "别卖", "不要卖", "反弹在即"),
    ),
    _inside(
        *("a fall, in Chinese", DOWN, 10),
        *("看跌", "看空", "做空", "开空", "要跌", "会跌", "跌破", "暴跌在即", "崩盘", "空头趋势"),
    ),
    _inside(
        "a rise, in Japanese or Korean",
        UP,
        10,
        "買い増し",
        "ロング",
        "上昇トレンド",
        "爆上げ",
        "매수",
        "롱 ?진입",
        "상승 ?예상",
    ),
    _inside(
        "a fall, in Japanese or Korean",
        DOWN,
        10,
        "ショート",
        "下落継続",
        "暴落",
        "매도",
        "숏 ?진입",
        "하락 ?예상",
    ),
    _word(
        *("a rise, in Turkish", UP, 10),
        r"yükseliş\w*",
        r"yükselecek\w*",
        r"yükselir",
        r"al(?:dım|ıyorum|ırım|ım fırsatı)",
        r"long a(?:çtım|çıyorum|çılır)",
        r"yukarı(?: yönlü)?",
        r"direnci? (?:kırdı|kırıldı)",
        r"uçuşa geç\w*",
    ),
    _word(
        *("a fall, in Turkish", DOWN, 10),
        r"düşüş\w*",
        r"düşecek\w*",
        r"short a(?:çtım|çıyorum|çılır)",
        r"aşağı(?: yönlü)?",
        r"deste(?:k|ği) (?:kırdı|kırıldı|kaybetti)",
    ),
    _word(
        *("a rise, in a Romance language", UP, 10),
        r"alcistas?",
        r"(?:va|vai|va a) (?:a )?(?:subir|romper|explotar|explodir|monter|exploser)",
        r"subir[áa]",
        r"compr(?:é|o|ando|amos|ei|en)",
        r"(?:hay que|es (?:hora|momento) de|hora de) comprar",
        r"(?:hacia|para) (?:arriba|cima)",
        r"romp(?:ió|imos|eu|e) (?:la |a )?resist[eê]ncia",
        r"haussi(?:er|ère)",
        r"j'achète",
        r"rialzista",
        r"compro",
        r"en largo",
    ),
    _word(
        *("a fall, in a Romance language", DOWN, 10),
        r"bajistas?",
        r"(?:va|vai|va a) (?:a )?(?:caer|bajar|cair|chuter|baisser|crollare)",
        r"caer[áa]",
        r"en corto",
        r"(?:hacia|para) (?:abajo|baixo)",
        r"perdi(?:ó|eu) (?:el |o )?suporte|perdió el soporte",
        r"baissier",
        r"ribassista",
    ),
    _word(
        *("a rise, in German or Russian", UP, 10),
        r"nachgekauft",
        r"steigt (?:bald|weiter|auf)",
        r"geht (?:es )?weiter (?:hoch|nach oben)",
        r"weiter hoch",
        r"куп(?:ил|лю)",
        r"(?:жду|будет) рост",
        r"ид[её]т вверх",
        r"лонг(?!\w)",
        r"вырастет",
    ),
    _word(
        *("a fall, in German or Russian", DOWN, 10),
        r"fällt (?:bald|weiter|auf)",
        r"weiter runter",
        r"шорт(?!\w)",
        r"(?:жду|будет) (?:падени[ея]|падать)",
        r"упад[её]т",
    ),
    _word(
        "a rise, in Indonesian", UP, 10, r"siap naik", r"(?:bakal|akan|target) naik", r"serok", r"hold kuat"
    ),
    _word("a fall, in Indonesian", DOWN, 10, r"(?:bakal|akan|siap) turun"),
)
"""Cues beside those of `rules-3`."""

FURTHER_DOUBTS: tuple[tuple[str, int, re.Pattern[str]], ...] = (
    (
        "reports data",
        20,
        re.compile(
            r"(?<!\w)(?:whale ?alert\w*|unknown (?:wallet|address)|(?:transferr?ed|move[ds]?|inflows?|"
            r"outflows?) (?:from|to|just)?|"
            r"liquidat(?:ed|ion)s?(?: (?:long|short))? ?[:|$]|(?:longed|shorted) ?@|block ?(?:height|#|"
            r"_date|\d{5,})|"
            r"(?:last|in the last|change|past) (?:24|1|7) ?(?:h|hours?|d|days?)\b|24h|market ?cap ?:|"
            r"price (?:update|alert|now|is (?:now |at |currently )?\$)|"
            r"(?:current|currently|latest|live) (?:#?§ )?price|avg|scan results|top \d+ (?:bullish|"
            r"bearish|gainers|losers)|fear (?:and|&) greed|"
            r"(?:long|short)s? alert|buyer alert|seller alert|bought at market|tx ?(?:hash|id)?:)",
        ),
    ),
    (
        "reports a reached price",
        10,
        re.compile(
            expand(
                r"(?:(?<!will )(?<!to )(?<!gonna )(?<!we )(?:hits|reaches|reached|crosses|crossed|tops|"
                r"topped|surpasses|surpassed|"
                r"climbs past|rallied to|fell to|falls to|drops to|dropped to|sheds|finally visited)|"
                r"just (?:hit|broke|crossed|reached|lost)|"
                r"(?:tp|target|tgt)s? ?\d? ?(?:\w+ )?(?:hit|reached|smashed|done|achieved|✅)|all targets|"
                r"§ (?:is|was|are|currently|now|price)+ (?:at |@ |trading at |around |"
                r"worth )?PRICE(?:\+)?$)",
                UP,
            )
        ),
    ),
    (
        "is a headline",
        6,
        re.compile(
            r"^(?:breaking:? |just in:? |update:? )?(?:§|bitcoin|"
            r"crypto)(?:'s)? (?:price )?(?:just )?(?:breaks|pops|surges|soars|tops|jumps|"
            r"climbs|slides|drops|falls|sheds|sinks|plunges|rises|rallies|hits|reaches|recovers|slips|"
            r"tumbles|storms|rips|passes|posts) "
            r"(?:through|to|past|above|below|under|as|after|on|over|amid|back|in|near|another|new|a|its|"
            r"the|\$?\d)(?!\w)"
        ),
    ),
    (
        "advertises a product or a person",
        6,
        re.compile(
            r"(?<!\w)(?:sign ?up|join (?:us|our|now|the)|our (?:platform|exchange|app|channel|vip)|"
            r"vip (?:group|channel|signals?)|"
            r"airdrop|giveaway|link in (?:bio|profile)|free (?:signals?|trial)|earn (?:\$|up to|daily|"
            r"free)|wallet balance|"
            r"pre-?sale|whitelist|how to (?:buy|sell|trade|short)|step \d|in \d (?:easy |simple )?steps|"
            r"debit card|credit card|can (?:now )?buy)(?!\w)"
        ),
    ),
    (
        "says it of somebody else",
        8,
        re.compile(
            r"(?<!\w)(?:el salvador|bukele|microstrategy|saylor|tesla|musk|cathie|grayscale|blackrock|"
            r"institutions?|whales?|"
            r"retail|governments?|treasury|etfs?|companies|my (?:uncle|friend|barber|neighbou?r|dad|mom|"
            r"wife|boss|brother|sister))(?:'s)? "
            r"(?:\w+ )?(?:is |are |has |have |just |keeps? )*(?:buy|buys|bought|buying|sell|sells|sold|"
            r"selling|add|adds|added|adding|accumulat\w+|"
            r"purchas\w+|holds?|holding|dump\w*|short\w*|long\w*)(?!\w)"
        ),
    ),
    (
        "is sarcastic",
        8,
        re.compile(
            r"(?<!\w)(?:yeah,? (?:sure|right)|sure,? (?:buddy|jan|thing)|ok(?:ay)? (?:boomer|buddy|sure)|"
            r"oh (?:great|wow|no|yay)|imagine (?:not |still |\w+ing)|"
            r"my (?:trading )?strategy: buy|buy(?:ing)? (?:high|the top)|sell(?:ing)? (?:low|the bottom)|"
            r"what could (?:possibly )?go wrong)(?!\w)"
        ),
    ),
    (
        "excludes a side",
        10,
        re.compile(
            r"(?<!\w)(?:neither (?:bullish|bearish|long|short)|not (?:long|bullish)[, ]+(?:not|nor|"
            r"or) (?:short|bearish)|either (?:way|direction|side)|"
            r"up or down|(?:above|below) \S+ (?:is )?bullish,? (?:and )?(?:above|"
            r"below) \S+ (?:is )?bearish|no (?:position|trade)|"
            r"(?:waiting|wait) for (?:confirmation|a break|direction))(?!\w)"
        ),
    ),
)
"""Deductions of a sentence beside those of `rules-3`: (reason, weight, pattern)."""
