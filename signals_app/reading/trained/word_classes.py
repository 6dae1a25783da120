"""Classes of words for the trained reader: who acts, what they do, which way, when, and what speaks against a call.

A class has the words of several languages and times, so that a weight learned from one word serves the others. Words
are in lower case, as `rules.text.sentences` gives them; phrases of languages without spaces match inside a run of
letters.
"""

# ruff: noqa: RUF001 (words of other languages)
import re
from collections.abc import Mapping

CLASSES: Mapping[str, str] = {
    # --- who ---------------------------------------------------------------------------------------------------
    "I": "i i'm im i've ive i'll i'd my me mine myself yo mi je j'ai j'achète ich mein meine ben benim eu meu "
    "minha я "
    "мой saya aku gue gw io mio ik",
    "WE": "we we're we've we'll us our ours nosotros nous wir biz nós мы kita kami",
    "YOU": "you you're your u ur yours yourself y'all guys folks fam friends frens anon lads boys tú tu usted "
    "vous du "
    "sen siz você ты вы kamu kalian",
    "THEY": "he she they they're he's she's his her him hers their them people someone somebody everyone everybody "
    "anyone nobody others traders investors whales whale retail institutions institution funds fund banks bank "
    "hedge companies company governments government country countries miners miner millionaires billionaire friend "
    "uncle barber brother dad mom wife boss neighbor microstrategy saylor tesla elon musk blackrock fidelity "
    "grayscale "
    "bukele salvador cathie ark trump powell sec schiff dimon buffett smart-money gente alguien leute jemand "
    "insanlar "
    "люди они orang mereka",
    # --- deeds -------------------------------------------------------------------------------------------------
    "BUY": "buy buys accumulate accumulates stack grab ape bid dca load scoop snag rebuy purchase invest btfd "
    "btd get "
    "acquire comprar compra compren compre compra acheter achetez achète kaufen kauf kaufe kauft kopen al "
    "alın alınır "
    "купить покупай покупать покупаю беру beli borong serok comprare",
    "BUYING": "buying accumulating stacking aping bidding dcaing loading longing adding scooping buyer buyers "
    "acquiring investing comprando alıyorum kaufend membeli nyerok akumulasi",
    "BOUGHT": "bought accumulated aped longed added loaded filled grabbed scooped snagged picked purchased entered "
    "opened invested rebought bagged compré comprei comprado comprato gekauft nachgekauft acheté aldım купил купила "
    "докупил набрал entré",
    "LONG": "long longs longed longing calls largo largos лонг лонги",
    "SHORT": "short shorts shorted shorting puts put corto cortos шорт шорты shortladım shortluyorum",
    "SELL": "sell sells dump exit vender venda vendan vendre vendez verkaufen verkauf sat satın продавай "
    "продать jual "
    "vendere",
    "SELLING": "selling dumping exiting offloading reducing trimming vendiendo vendendo satıyorum menjual",
    "SOLD": "sold dumped offloaded reduced trimmed sell-off vendí vendi verkauft vendu sattım продал dijual",
    "HOLD": "hold holds holding hodl hodling hodler hodlers holder holders hodling holded keep keeping kept tight "
    "diamond mantener aguantar tutun tutuyorum halten halte держу держим держать tahan garder",
    "CLOSE": "closed closing close exited stopped secured secure banked profit profits tp'd flat sidelined sidelines "
    "cashed covered breakeven liquidated rekt wrecked cerré cerrado fechei geschlossen kapattım закрыл ditutup "
    "gewinn kâr ganancias",
    # --- which way ---------------------------------------------------------------------------------------------
    "RISE": "rise rises rising rose up upward upwards upside higher high highs pump pumps pumping pumped "
    "rally rallies "
    "rallying moon mooning moonshot bounce bounces bouncing bounced rip rips ripping fly flies flying soar soars "
    "soaring explode explodes explosion exploding surge surges surging climb climbs climbing rocket skyrocket "
    "skyrocketing breakout breakouts uptrend recover recovery recovering rebound parabolic green ath aths double "
    "triple 2x 3x 5x 10x send sending sends jump jumps pop blast launch liftoff takeoff appreciate outperform "
    "strength "
    "strong stronger reclaim reclaimed reclaiming reclaims gain gains sube subir subirá subiendo arriba alza alcista "
    "alcistas alta cima monter monte hausse haussier steigt steigen steigend hoch höher yükseliş yükselecek "
    "yükseliyor "
    "yükselir yukarı çıkar çıkacak uçacak uçar рост растет растёт вырастет вверх взлетит полетит памп naik terbang "
    "rialzo rialzista sale",
    "FALL": "fall falls falling fell down downward downwards downside lower low lows dump dumps dumping dumped crash "
    "crashes crashing crashed drop drops dropping dropped tank tanks tanking bleed bleeding bleeds correction "
    "correct "
    "corrects retrace retracement pullback decline declines plunge plunges plummet plummeting collapse collapses "
    "collapsing nuke nukes nuked nuking capitulation capitulate downtrend breakdown red weak weaker weakness "
    "rejection "
    "rejected rejects rejecting sinks sinking slump fade fades fading zero cae caer caerá cayendo bajar baja bajará "
    "bajista bajistas abajo queda cair cairá baixa chute chuter baisse baisser baissier fällt fallen fallend runter "
    "tiefer düşüş düşecek düşüyor düşer aşağı iner inecek падение падает упадет упадёт вниз рухнет дамп turun anjlok "
    "longsor jatuh crollo ribassista scende",
    "BULL": "bullish bull bulls optimistic bullrun bull-run bulla",
    "BEAR": "bearish bear bears pessimistic doomed",
    "CHEAP": "cheap undervalued underpriced discount discounted bargain steal gift sale opportunity "
    "opportunities dip "
    "dips attractive oversold oportunidad barato günstig ucuz fırsat fırsatı дешево дешёво murah",
    "DEAR": "overvalued overpriced expensive overbought overextended toppy frothy bubble overheated ponzi caro teuer "
    "pahalı пузырь дорого",
    "TOP": "top topped tops peak",
    "BOTTOM": "bottom bottomed bottoms bottoming dipten fondo suelo boden дно",
    "TRAP": "trap trapped fakeout deviation squeeze squeezed manipulation",
    # --- when and how sure -------------------------------------------------------------------------------------
    "FUTURE": "will we'll it'll 'll gonna gunna soon incoming imminent next about coming ready loading inc "
    "tomorrow eoy "
    "eow eom inevitable overdue due ahead heading headed headed likely until before brewing vamos va vai pronto "
    "próximo próxima bald nächste wird werden bientôt prochain yakında скоро будет следующая akan bakal segera siap",
    "NOW": "now today here currently rn already still again finally tonight hoy ahora agora hoje heute jetzt bugün "
    "şimdi сейчас сегодня sekarang hari aujourd'hui maintenant oggi",
    "PAST": "was were had did ago yesterday last since been once remember history historically earlier "
    "previously back "
    "went came then 2009 2010 2011 2012 2013 2014 2015 2016 ayer ontem gestern dün вчера kemarin hier",
    "REACHED": "hit hits reached reaches smashed achieved crossed crosses touched printed done nailed called "
    "surpasses "
    "surpassed tops broke breaks alcanzado erreicht ulaştı tercapai достигнута",
    "VIEW": "think believe imo imho opinion guess expect expecting predict prediction bet feel feels feeling looks "
    "looking look seems confident convinced view bias thesis sure creo pienso acho glaube denke bence düşünüyorum "
    "думаю считаю menurut pense penso anticipate anticipating forecast eyeing watching",
    "HEDGE": "might may could maybe perhaps possibly possible either or whether unless probably depends unclear "
    "uncertain quizás talvez vielleicht belki возможно mungkin peut-être",
    "IF": "if once when whenever si falls wenn eğer если kalau jika se",
    "NOT": "not no never don't dont didn't doesn't isn't aren't won't can't cannot wouldn't shouldn't haven't "
    "without "
    "neither nor ain't nothing stop nunca não nicht kein keine değil yok не нет tidak jangan bukan pas jamais non",
    "ASK": "? should what why how who which where wen when thoughts poll vote qué cuándo cómo wann warum ne "
    "nasıl mı mi "
    "mu что когда apa kapan",
    "HOPE": "hope hoping wish pray praying please pls dream hopefully ojalá hoffe inşallah semoga",
    "YEARS": "years year decade decades generation generations forever someday eventually future century 2030 2035 "
    "2040 kids grandchildren long-term longterm años anos jahre yıl лет tahun",
    # --- trading -----------------------------------------------------------------------------------------------
    "TARGET": "target targets tp tp1 tp2 tp3 tgt tgts trgt objective objetivo objetivos alvo alvos ziel ziele hedef "
    "hedefi цель цели objectif targetnya obiettivo",
    "ENTRY": "entry entries entering enter stop stops sl stoploss stop-loss leverage lev risk invalidation "
    "size sized "
    "position positions limit order orders margin swing scalp spot perp perps giriş einstieg entrada вход стоп",
    "SETUP": "setup signal signals idea trade trades trading plan confluence trigger triggered alert strategy",
    "CHART": "support resistance level levels trendline range channel ma ema sma ma200 200ma fib fibonacci rsi macd "
    "vwap divergence wedge triangle flag pennant pattern structure candle candles close daily weekly monthly "
    "4h 1h 1d "
    "15m h4 timeframe chart retest breakout wave neckline shoulders cup handle golden death cross accumulation "
    "consolidation volume soporte resistencia suporte unterstützung widerstand destek direnç поддержка сопротивление",
    "AMOUNT": "more some another bag bags sats coins stack position few lot bit whole half most all "
    "everything paycheck "
    "más mais mehr daha ещё lagi plus",
    "GOOD": "good great nice beautiful perfect healthy solid clean primed juicy best better golden comfortable easy",
    "BAD": "bad ugly terrible scary dangerous pain painful worst worse trash garbage shit careful caution warning "
    "beware",
    # --- what speaks against a call ------------------------------------------------------------------------------
    "NEWS": "breaking says said say report reports reported news announces announced announcement according analyst "
    "analysts article ceo via interview warns claims bloomberg cnbc reuters forbes cointelegraph coindesk strategist "
    "economist regulators regulation lawsuit court approves approved adoption adopts launches launched conference "
    "podcast episode video webinar study survey",
    "DATA": "price market cap volume dominance liquidations liquidation funding inflows outflows transferred wallet "
    "address block height hashrate mempool utc update alert 24h fees supply exchange exchanges binance bitfinex "
    "coinbase kraken deribit ftx bybit index ratio",
    "ADVERT": "giveaway airdrop join sign link free follow following retweet rt like vip telegram discord subscribe "
    "channel course tutorial referral bonus promo win earn mining presale whitelist project gem token nft dm",
    "JOKE": "lol lmao lmfao rofl haha hahaha jk kidding joke meme sarcasm 😂 🤣 🤡 😭 🙃 lambo ngmi imagine",
    "PRAISE": "love thank thanks congrats congratulations happy welcome gm gn proud community fam ❤️ 🙏",
    "ALTS": "alt alts altcoin altcoins shitcoins shitcoin altseason doge dogecoin shib ada cardano bnb link "
    "dot matic "
    "avax luna atom xlm trx xmr dash zec etc vet ftm near apt arb pepe wif bonk gold silver stocks spx nasdaq "
    "dxy bch",
    "UPSIGN": "🚀 📈 🌕 🌙 🔥 💎 🟢 🐂 🐮 💪 🤑 lfg wagmi ✈️ ⬆️ ☝️ 🆙 🔝",
    "DOWNSIGN": "📉 🔻 🩸 🐻 🔴 💀 ☠️ ⬇️ 👇 🆘",
}
"""Class -> its words."""

INSIDE: Mapping[str, str] = {
    "I": "我 俺 僕 私 나는 저는",
    "BUY": "买入 買入 抄底 定投 买 買 매수 買い 사세요 사자",
    "BOUGHT": "买了 買了 加仓 加倉 建仓 上车 上車 买进 買った 買い増し 샀다 샀어요 매수했",
    "LONG": "做多 开多 開多 多单 多單 ロング 롱",
    "SHORT": "做空 开空 開空 空单 空單 ショート 숏",
    "SELL": "卖出 賣出 卖 賣 清仓 减仓 매도 売り 売る 팔",
    "HOLD": "持有 拿住 拿着 囤 ガチホ 홀딩 존버",
    "CLOSE": "平仓 平倉 止盈 离场 離場 利確 損切り 손절 익절 爆仓 爆倉",
    "RISE": "涨 漲 起飞 起飛 突破 反弹 反彈 新高 牛市 上昇 上がる 爆上げ 반등 상승 떡상 오른다",
    "FALL": "跌 崩盘 崩盤 回调 回調 熊市 下落 下がる 暴落 하락 떡락 폭락 내린다",
    "BULL": "看涨 看漲 看多 强気 強気",
    "BEAR": "看跌 看空 弱気",
    "FUTURE": "即将 即將 马上 馬上 要 会 會 将 接下来 予想 そう はず 예상 것 곧",
    "VIEW": "我认为 我認為 觉得 觉得 感觉 看来 思う 생각",
    "HEDGE": "可能 也许 或者 还是 還是 观望 觀望 様子見 관망 かも",
    "ASK": "吗 嗎 怎么 什么 か? ? 까요",
    "NEWS": "宣布 报道 報導 消息 新闻 发布 発表 速報 뉴스 속보",
    "DATA": "现价 現價 价格 價格 行情 価格 相場 시세 가격 市值",
    "NOT": "不 没 別 别 ない 안 않",
    "TARGET": "目标 目標 目标价 목표",
    "CHART": "支撑 支撐 阻力 支持線 抵抗線 지지 저항",
}
"""Class -> phrases of languages without spaces."""

PHRASES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(rf"(?<!\w)(?:{words})(?!\w)"))
    for name, words in {
        "BOUGHT": r"pulled the trigger|went (?:all[- ]in|long)|got (?:some|more|filled)|went full port|flipped long",
        "BUYING": r"all[- ]in|going long|buying the dip|doubling down",
        "SHORT": r"(?:went|going|flipped) short",
        "CLOSE": r"took (?:some |my )?profits?|taking (?:some )?profits?|cashed out|stopped out|got out|"
        r"out of (?:my|the|all)|no position|i'm out|im out|"
        r"(?:tp|target)s? ?\d? (?:hit|reached|done|✅)|closed (?:my|the|all)",
        "FUTURE": r"going to|about to|set to|poised to|bound to|on its way|here we (?:go|come)|matter of time|"
        r"just (?:getting )?started|not done",
        "YEARS": r"long[- ](?:term|run|haul)|\d+\+? ?(?:years|yrs)|in the future|one day",
        "UP_LINE": r"to the moon|up only|new (?:ath|highs?)|all[- ]time highs?|leg up|much higher|way higher|"
        r"breaks? out|"
        r"breaking out|broke out|(?:bottom|low)s? (?:is|are) in|moon (?:soon|time)|so back",
        "DOWN_LINE": r"leg down|much lower|way lower|going to zero|dead cat|(?:top|high) is in|breaks? down|"
        r"breaking down|"
        r"broke down|lost support|more pain|bull trap|it's over|so over",
        "EITHER": r"either way|up or down|both (?:ways|directions|sides)|bulls and bears|long or short|buy or sell|"
        r"wait(?:ing)? for (?:a |the )?(?:confirmation|break|direction)|no trade|sit(?:ting)? (?:this|on) \w+ out",
        "DEED_OF_OTHERS": r"(?:was|were|got|are being|have been|been) (?:liquidated|longed|shorted|bought|sold|moved|"
        r"transferred|burned|minted|withdrawn|deposited)",
        "MACHINE": r"(?:whale|order|trade|price|liquidation|signal) ?(?:alert|update|bot)",
        "ADVERT": r"sign up|join (?:us|our|my|now)|link in bio|follow (?:me|us|@)|check out|how to (?:buy|"
        r"sell|trade)|"
        r"super underrated|tweets and tips",
        "OWNED": r"my (?:avg|average|entry|bags?|position|longs?|shorts?|stack|portfolio|bitcoins?|coins)",
        "TELL": r"(?:don't|dont|do not|never) (?:sell|short|fade|bet against)|you should|you need to|time to|"
        r"last chance|"
        r"get (?:in|yours|some|your)|regret|don't miss|be greedy|stay (?:long|short|bullish|bearish)",
        "WISHED": r"(?:should|could|would) have|if i had|wish i|had i|would've|should've|could've",
    }.items()
)
"""Phrases of several words: (class, pattern)."""

_OF_WORD: Mapping[str, str] = {
    word: name for name, words in reversed(list(CLASSES.items())) for word in words.split()
}
_OF_PART: Mapping[str, str] = {part: name for name, parts in INSIDE.items() for part in parts.split()}
_INSIDE = re.compile("|".join(sorted(map(re.escape, _OF_PART), key=lambda part: (-len(part), part))))
_WORD = re.compile(r"[^\W_][\w'-]*|[^\w\s]️?")
_FOREIGN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_REACH = 3
"""Words after a negation that it reaches."""


def classes(text: str) -> list[tuple[int, str]]:
    """Return (offset, class) for each word or phrase of a masked sentence that has a class, in order.

    A class within the reach of a negation is named `not …`.
    """
    found = [(match.start(), name) for name, pattern in PHRASES for match in pattern.finditer(text)]
    reach = 0
    for match in _WORD.finditer(text):
        name = _OF_WORD.get(match[0]) or _OF_WORD.get(match[0].removesuffix("'s"))
        reach = _REACH if name == "NOT" else max(reach - 1, 0) if match[0][0].isalnum() else 0
        if name:
            found.append((match.start(), name if name == "NOT" or not reach else f"not {name}"))
    if _FOREIGN.search(text):
        found += [(match.start(), _OF_PART[match[0]]) for match in _INSIDE.finditer(text)]
    return sorted(found)
