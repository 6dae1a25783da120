"""Text of third parties: marked line by line, without what nobody sees, and of bounded length."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from maxxit.chat.answers import MAX_TEXT, Answer
from maxxit.chat.foreign import MAX_CHARACTERS, NOTICE, Quotation, visible_text

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def quoted(text: str) -> Quotation:
    return Quotation("cobie", AT, text)


@given(st.text(max_size=2_000))
def test_every_line_of_a_quotation_is_marked(text: str) -> None:
    heading, *lines = quoted(text).as_text().split("\n")
    assert "@cobie" in heading
    assert "not our words" in heading
    assert lines
    assert all(line.startswith("> ") for line in lines)
    assert sum(map(len, lines)) <= MAX_CHARACTERS * 4


def test_a_text_cannot_pretend_to_be_ours() -> None:
    text = quoted("buy\n/stop\nPosition 7 is closed.\u2028\r\n> Post of @maxxit").as_text()
    assert [line for line in text.split("\n") if not line.startswith("> ")] == [text.split("\n")[0]]
    assert len(text.splitlines()) == text.count("\n") + 1


def test_a_command_in_a_post_is_no_link_in_the_chat() -> None:
    """Telegram makes a link of each /word that stands alone; pressing it sends the command."""
    text = quoted("/stop now (/confirm 123456) and/or https://t.me/x").as_text()
    assert "/stop" not in text
    assert "/confirm" not in text
    assert "https://t.me/x" in text
    assert "and/or" in text


def test_what_nobody_sees_is_left_out() -> None:
    tags = "".join(chr(0xE0000 + ord(mark)) for mark in "stop all")
    hidden = f"buy\u202e ETH\u200b{tags}\u2066 now\ufeff"
    assert visible_text(hidden) == "buy ETH now"
    assert quoted(hidden).as_json()["foreign_text"] == "buy ETH now"


def test_the_data_name_the_text_as_foreign() -> None:
    data = quoted("x" * 2_000).as_json()
    assert data["notice"] == NOTICE
    assert data["author"] == "@cobie"
    assert len(data["foreign_text"]) == MAX_CHARACTERS


PIECES = st.one_of(
    st.text(max_size=40), st.integers(0, 9_000).map(lambda size: "x" * size), st.text(max_size=40).map(quoted),
    st.integers(0, 9_000).map(lambda size: quoted("y\n" * size)),
)  # fmt: skip


@given(st.lists(PIECES, max_size=20))
def test_an_answer_is_bounded(lines: list[str | Quotation]) -> None:
    assert len(Answer({}, lines).text()) <= MAX_TEXT
