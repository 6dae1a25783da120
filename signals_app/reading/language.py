"""The language of a post, by its script and its common words. Pure, and meant for grouping posts, not for decisions.

Tickers, tags, names and addresses are left out: they are the same in every language.
"""

# ruff: noqa: RUF001
import re
from collections import Counter

UNKNOWN = "und"
"""ISO 639-2: undetermined."""
_LEFT_OUT = re.compile(r"https?://\S+|[@#$]\w+|\b[A-Z]{2,}\b")
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS = (
    ("ja", "぀", "ヿ"),
    ("ko", "가", "힣"),
    ("zh", "一", "鿿"),
    ("ru", "Ѐ", "ӿ"),
    ("ar", "؀", "ۿ"),
    ("he", "֐", "׿"),
    ("hi", "ऀ", "ॿ"),
    ("th", "฀", "๿"),
    ("el", "Ͱ", "Ͽ"),
)
"""(Language, first, last character): the most common language of a script stands for all of it."""
_COMMON = {
    "en": "the a an and or is are was be to of in on for it this that with i you we my your not will just now here at "
    "good up down have has from if but so what when back more can do all going buy buying sell selling long short",
    "es": "el la los las un una y o es son de en que por para con no se lo su mi si pero como muy ahora ya esta este "
    "del al más hoy compra comprar compro vender vendo sube baja",
    "pt": "o a os as um uma e ou é são de em que por para com não se do da no na meu mas como muito agora já esta este "
    "mais hoje compra comprar comprei vender vendi sobe cai",
    "fr": "le la les un une et ou est sont de des du en que qui pour avec pas ne je il on ce cette mais comme très "
    "plus maintenant aujourd achète acheter vendre vends hausse baisse",
    "de": "der die das ein eine und oder ist sind von zu in im den dem mit für auf nicht ich wir es sich aber wie sehr "
    "jetzt noch auch kaufe kaufen gekauft verkaufe verkaufen steigt fällt",
    "it": "il lo la i gli le un una e o è sono di da in che per con non si mi ma come molto ora già questa questo del "
    "della più oggi compro comprare vendo vendere sale scende",
    "tr": "bir ve bu da de için ile çok daha ne var yok mi mı ben sen biz şu o gibi kadar olarak şimdi artık alım "
    "satım aldım sattım alıyorum satıyorum yükseliş düşüş gelecek",
    "id": "yang dan di ke dari ini itu untuk dengan tidak ada akan sudah saya kita bisa juga atau lagi sekarang beli "
    "jual naik turun",
    "nl": "de het een en of is zijn van te in op voor met niet ik je we dat dit maar als nu nog ook koop kopen gekocht "
    "verkoop verkopen stijgt daalt",
    "pl": "i w na z do to jest są nie się że jak ale dla od po czy już teraz bardzo kupuję kupić kupiłem sprzedaję "
    "sprzedać rośnie spada",
}
_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_LETTERS = {"tr": "ığşİĞŞ", "es": "ñ¿¡", "pt": "ãõ", "de": "ß", "pl": "łąęśżźć"}
"""Letters that of these languages only that one has."""
LETTER_WEIGHT = 2
"""Common words that one such letter counts for."""


def detect(text: str) -> str:
    """Return the ISO 639-1 code of a text's language; `und` without evidence, or where two languages are as likely."""
    plain = _LEFT_OUT.sub(" ", text)
    if script := _by_script(plain):
        return script
    words = Counter(word.lower() for word in _WORD.findall(plain))
    scores = {
        language: sum(times for word, times in words.items() if word in common)
        + LETTER_WEIGHT * sum(plain.count(letter) for letter in _LETTERS.get(language, ""))
        for language, common in _WORDS.items()
    }
    best, second = sorted(scores.values(), reverse=True)[:2]
    return max(scores, key=lambda language: scores[language]) if best > second else UNKNOWN


def _by_script(text: str) -> str:
    """Return the language of the script that most letters have; empty for Latin letters. Kana make Japanese."""
    letters = [letter for letter in text if letter.isalpha()]
    counts = Counter(
        language for letter in letters for language, first, last in _SCRIPTS if first <= letter <= last
    )
    if not counts or 3 * sum(counts.values()) < len(letters):
        return ""
    return "ja" if counts["ja"] else counts.most_common(1)[0][0]
