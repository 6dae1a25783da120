"""The language of posts: by script, by common words, and undetermined without evidence."""

# ruff: noqa: RUF001
import pytest

from signals_app.reading.language import UNKNOWN, detect


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Buying more $BTC here, this is the bottom", "en"),
        ("I think the market will go down from here", "en"),
        ("Compro más $BTC ahora, esta es la zona de compra", "es"),
        ("Comprei mais BTC, agora não vendo até o fim do ano", "pt"),
        ("Je pense que le marché va encore baisser, je vends", "fr"),
        ("Ich habe noch mehr gekauft, jetzt steigt der Kurs", "de"),
        ("Ho deciso che non vendo più, il prezzo sale ora", "it"),
        ("BTC için alım fırsatı, yükseliş çok yakın", "tr"),
        ("Harga akan naik lagi, saya beli sekarang", "id"),
        ("Ik koop nu nog meer, het is niet te laat", "nl"),
        ("Teraz kupuję więcej, to się nie zatrzyma", "pl"),
        ("比特币现在可以买入", "zh"),
        ("ビットコインを買いました", "ja"),
        ("비트코인 지금 매수합니다", "ko"),
        ("Покупаю ещё биткоин", "ru"),
        ("اشتريت المزيد من البيتكوين", "ar"),
    ],
)
def test_a_sentence_has_its_language(text: str, language: str) -> None:
    assert detect(text) == language


@pytest.mark.parametrize(
    "text", ["", "$BTC $ETH #BTC", "https://t.co/abc @someone", "BTCUSDT 65000", "🚀🚀🚀", "gm"]
)
def test_what_says_nothing_of_a_language_is_undetermined(text: str) -> None:
    assert detect(text) == UNKNOWN


def test_a_foreign_word_in_a_sentence_does_not_change_it() -> None:
    assert detect("This is what we call 牛市 here, and it is just the start of the run") == "en"


def test_tags_names_and_addresses_are_left_out() -> None:
    assert detect("Покупаю @the_and_of_in #this #is #the https://the.and.of/in") == "ru"
