"""Patterns that speak against a call: reposts, questions, jokes, news, history, far horizons, negation."""

import re

REPOST = re.compile(r"^\s*(?:RT @|RT:|MT @|via @)", re.IGNORECASE)

JOKE = re.compile(
    r"😂|🤣|😜|😝|🤡|🤪|/s\b|(?<!\w)(?:lol|lmao|lmfao|rofl|haha\w*|hehe\w*|jk|kidding|(?<!is a )joke\w*|sarcas\w*|"
    r"satire|meme\w*|inb4|mfw|tfw|hilarious|wen|smh|wtf|ffs|parody|lambo\w*|mcafee\w*)(?!\w)",
    re.IGNORECASE,
)
ADVERT = re.compile(
    r"(?<!\w)(?:you can now|can now be|now (?:accepting|available|supports?|live)|giveaway|give away|sign "
    r"up|free (?:§|coins?)|promo|referral|discount code|retweet|(?:visit|follow) us|check out|"
    r"download)(?!\w)"
)
"""Words of advertisements."""
MACHINE = re.compile(
    r"(?<!\w)(?:ignore (?:all|any|the|previous)|(?:previous|all) instructions?|new rules|(?:system|"
    r"assistant|user|human) ?:|classify|post_id|\"candidate\"|\"sentiment\"|tool_use|function_call|(?:with "
    r")?confidence (?:of )?[\d.]+|you (?:are|now) (?:an? )?(?:ai|model|trade)|operator of|must output|"
    r"decode and)(?!\w)|<\|?\w+\|?>|\[/?inst\]|<<sys>>",
    re.IGNORECASE,
)
"""Words of prompt injections."""
OTHERS = re.compile(
    r"(?<!\w)(?:says?|sees|warning|experts?|thinks|believes|(?:some|others|many|people|they) (?:think|"
    r"believe|expect)|said|saying|tells|according to|reports?|reported|reporting|claims?|claimed|predicts|"
    r"warns?|warned|announce[sd]?|article|via|interview|bloomberg|cnbc|reuters|wsj|forbes|shout\w*|"
    r"commented|analysts?|strategist|regulators?|government|govt|ceo|breaking(?= news|:)|recap|podcast|"
    r"episode|video|livestream|going live|live to talk|wall st(?:reet)?|elon|krugman)(?!\w)",
    re.IGNORECASE,
)
PEOPLE = re.compile(
    r"(?<!\w)(?:people (?:are|who|keep)|someone|everyone|anyone|nobody|they|their|them|he|she|his|her|"
    r"investors?|newbies|traders|companies|you were|you are|if you)(?!\w)",
    re.IGNORECASE,
)
PAST = re.compile(
    r"(?<!\w)(?:last (?:year|month|week|time|two)|yesterday|(?:days?|weeks?|months?|years?|hours?|hrs?) ago|"
    r"since 20\d\d|back in (?:20\d\d|the day|time)|in 20(?:0\d|1[0-7])|(?<!than i have been )in the past \w|"
    r"used to|was|were|had|history|remember|reminds? me|earlier|so far|this year|ytd|year-to-date|should "
    r"have|could have|would have|went from|has gone|have gone|outperformed|returned?|returns|played|sold "
    r"off|did)(?!\w)",
    re.IGNORECASE,
)
FAR = re.compile(
    r"(?<!\w)(?<!past )(?<!last )(?:(?:few|couple(?: of)?|next \w+|\d+(?:-\d+)?|many|several|coming) "
    r"(?:more )?(?:years|decades)|decade|decades|long[- ]?(?:run|term|haul)|by 20(?:19|[2-9]\d)|in 20(?:19|"
    r"[2-9]\d)|for 20(?:19|[2-9]\d)|some ?day|eventually|forever|future|one day)(?!\w)",
    re.IGNORECASE,
)
SUPPOSED = re.compile(
    r"(?<!\w)(?:what if|imagine|let's say|let's assume|assume|assuming|hypothetical\w*|suppose|would be|"
    r"would have|wouldn't|if i|if they|if there|if he|for example|e\.g\.|example|in order to|in order for|"
    r"hoping|hope|wish|pray\w*|ideal|dream)(?!\w)",
    re.IGNORECASE,
)
CHART = re.compile(
    r"(?<!\w)(?:\d{1,2}[mhdw]|[14]hr?|daily|weekly|fibs?|resistance|support|flag|wedge|pennant|triangle|tri|"
    r"kumo|cloud|kijun|tk|rsi|macd|\d*ema|\d*sma|ma|harmonic|h&s|channel|fractals?|trend ?line|breakout|"
    r"target|targets|trgt|volume|pattern|ath|chart|entry|bids?)(?!\w)",
    re.IGNORECASE,
)
NEGATION = re.compile(
    r"(?<!\w)(?:not|never|no|without|neither|nor|isn't|isnt|aren't|won't|wont|can't|cant|cannot|don't|dont|"
    r"doesn't|doesnt|didn't|didnt|ain't|hardly|stop|instead of|rather than|nobody|no one|nope|nowhere near|far from|"
    r"(?:zero|0 ?%|no|not an?|slim|little|snowball's) (?:chance|way|intention|interest|plans?|desire|reason|point|"
    r"need|appetite)|wouldn't|wouldnt|couldn't|shouldn't|haven't|hasn't|wasn't|weren't|nothing|none|refus\w+|avoid\w*)"
    r"(?!\w)",
    re.IGNORECASE,
)
EXTREME = re.compile(
    r"(?:never (?:been|felt|looked|seen) (?:§ |it )?(?:this|so|more)|"
    r"(?:(?:has|have)n't|(?:not|n't) ever|not|never) (?:been|felt|looked|seen) (?:§ |it )?this) "
)
"""A negation that intensifies: "hasn't been this cheap", "never been more bullish"."""
CLAUSE = re.compile(r"[,;:()]| - | but | and | so | because | though ")
"""Where a clause ends: a negation reaches no further."""
UNSURE = re.compile(
    r"(?<!\w)(?:either|might|maybe|perhaps|may|possibly|could(?! easily)|can (?:go|be)|unless|until|not "
    r"sure|doubtful|otherwise|not in the clear|not saying)(?!\w)",
    re.IGNORECASE,
)
NOT_CLAIMED = re.compile(
    r"(?<!\w)(?:if|when|whenever|once|until|unless|whether|while|each time|every time|why|how|reasons?|"
    r"after|who|what|than)(?: \S+){0,3} ?$"
)
"""Text before a cue that makes it a condition, reason or question instead of a claim."""
SUBJECT = re.compile(
    r"(?:§|\b(?:it|its|it's|we|we're|we'll|it'll|price|prices|this|that|that's|market|chart|bulls|bears|"
    r"things))(?:'s)?(?: \S+){0,4} ?$|^ ?(?:\S+ )?$"
)
"""Text before a verb whose subject is a token, its price or "we"."""
OTHER_COIN = re.compile(
    r"\$[a-z]{2,7}\b|(?<!\w)(?:alts?|alt ?coins?|shitcoins?|bcash|bch|bitcoin cash|gold|stocks?|gbtc|"
    r"icos?)(?!\w)"
)
OTHER_SUBJECT = re.compile(
    r"\$[a-z]{2,7}\b|(?<!\w)(?:alts?|alt ?coins?|shitcoins?|bcash|bch|bitcoin cash|gold|stocks?|fees?|gbtc|"
    r"etfs?|(?<!/)usd|dollars?|fiat|(?:the |this )?coins?|tokens?|everyone|banks?|people|miners?|forks?|"
    r"icos?|counts?|volume|supply|mempool|market share|hash ?rate|difficulty|adoption|interest|dominance|"
    r"market ?cap)(?!\w)"
)
"""Subjects of a cue other than a listed token, in masked lower-case text."""
PRICE = re.compile(r"\$ ?\d[\d,.]*|(?<![\w.])\d[\d,.]*k(?!\w)")
MANY_PRICES = 4
"""From this many prices on a post is history or rhetoric, not a target."""
FORCED = r"squeez\w*|liquidations?|covering"
"""After "short" or "long": forced closing of others' positions."""
SHORT_WORDS = re.compile(
    rf"(?<![\w-])(?:shorts?(?![- ](?:term|lived|run|time|while|of|{FORCED})(?!\w)|-)|shorting|shorted|sells?|"
    r"selling|sold|bearish|puts)(?![\w-])"
)
LONG_WORDS = re.compile(
    rf"(?<![\w-])(?:(?<!as )(?<!how )(?<!so )longs?(?![- ](?:term|run|time|way|haul|(?:{FORCED})(?!\w))|-)|longing|"
    r"longed|buys?|buying|bought|bullish)(?![\w-])"
)
"""Words of one side: together with cues of the other they contradict each other."""
