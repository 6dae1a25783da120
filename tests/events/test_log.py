"""The event log is read in order of id, and an event that commits late is not missed."""

import pytest

from maxxit.core.errors import Rejected
from maxxit.events import log
from maxxit.events.log import FinalId
from tests.events.writers import Writers, another_connection, insert

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_id_is_final_once_no_transaction_can_add_one_below_it() -> None:
    final = FinalId()
    with another_connection() as slow, another_connection() as quick:
        first = insert(slow)
        second = insert(quick)
        quick.commit()
        seen = [final.read() for _ in range(3)]
        slow.commit()
        after = final.read()

    assert second == first + 1
    assert max(seen) < first  # the newer one is visible, and yet not read
    assert after == second
    assert [event.id for event in log.read(first - 1, after, 10)] == [first, second]


def test_an_id_that_was_rolled_back_holds_nothing_up() -> None:
    final = FinalId()
    with another_connection() as slow, another_connection() as quick:
        lost = insert(slow)
        kept = insert(quick)
        quick.commit()
        slow.rollback()
        assert final.read() == kept
        assert [event.id for event in log.read(lost - 1, kept, 10)] == [kept]


def test_a_long_transaction_holds_up_only_what_came_after_it_began() -> None:
    final = FinalId()
    with another_connection() as slow, another_connection() as quick:
        before = insert(quick)
        quick.commit()
        final.read()
        insert(slow)
        assert final.read() <= before
        slow.rollback()
        overlapping = insert(quick)
        final.read()  # the writers of this moment …
        quick.commit()
        insert(slow)  # … have ended when another one writes
        assert final.read() >= before
        slow.rollback()
        assert final.read() >= overlapping


def test_no_event_of_many_concurrent_writers_is_missed_or_read_twice() -> None:
    writers, final = Writers(threads=6, transactions=40, seed=3), FinalId()
    start = log.settled()
    position, naive, read, naively = start, start, [], []
    writers.start()
    done = False
    while not done:
        done = not writers.busy
        events = log.read(position, final.read(), 1_000)
        read += [event.id for event in events]
        position = read[-1] if read else position
        visible = log.read(naive, 2**62, 1_000)
        naively += [event.id for event in visible]
        naive = naively[-1] if naively else naive
    writers.join()
    read += [event.id for event in log.read(position, log.settled(), 10_000)]

    assert read == sorted(writers.committed)
    assert set(writers.committed) - set(naively), (
        "the writers never committed out of order: a test of nothing"
    )


def test_waiting_for_a_final_log_ends() -> None:
    with another_connection() as slow, another_connection() as quick:
        insert(slow)
        insert(quick)
        quick.commit()
        with pytest.raises(Rejected, match="runs for over"):
            log.settled(patience=0.1)


def test_patterns_of_names() -> None:
    assert log.wanted("order.planned", ())
    assert log.wanted("order.planned", ("position.*", "order.*"))
    assert not log.wanted("order.planned", ("position.*", "order"))
