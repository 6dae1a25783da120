"""The correlation id: derived once, passed on with every task and event."""

from maxxit.core import correlation


def test_the_same_parts_give_the_same_id_today_and_in_a_replay() -> None:
    assert str(correlation.derive_id("post", "1")) == "eab39d08-9d96-5c76-87f6-0066268228fc"


def test_other_parts_give_another_id() -> None:
    assert correlation.derive_id("post", "1") != correlation.derive_id("post", "2")


def test_inside_under_the_id_is_current_and_afterwards_it_is_not() -> None:
    one, other = correlation.derive_id("a"), correlation.derive_id("b")
    with correlation.under(one):
        with correlation.under(other):
            assert correlation.current() == other
        assert correlation.current() == one

    assert correlation.current() is None
