"""What arrived is found by index probes, whatever was stored long ago."""

from datetime import timedelta

import pytest
from django.db import connection

from maxxit.core import clock
from signals_app import inbound
from tests import builders as make
from tests.plans import touched

pytestmark = pytest.mark.django_db
ARRIVED = """
INSERT INTO inbound_posts (source, ident, post_id, username, item, received_at, stored)
SELECT 'partner', n, n, 'author' || n %% 50, '{}', %(at)s, n %% 1000 > 0 FROM generate_series(1, 20000) AS n
"""


def test_what_was_stored_long_ago_is_not_read_for_what_arrived() -> None:
    now = clock.now()
    kept, again = now - timedelta(days=90), now - timedelta(days=1)
    for number in range(50):
        make.account(username=f"Author{number}", source="partner")
    with connection.cursor() as cursor:
        cursor.execute(ARRIVED, {"at": now - timedelta(days=30)})
        cursor.execute("ANALYZE inbound_posts, ct_accounts")
    sources = {"sources": ["partner"], "kept": kept, "recent": again}
    items = {"source": "partner", "username": "author0", "kept": kept, "again": again, "most": 1_000}

    assert touched(inbound.ACCOUNTS, sources, table="inbound_posts") == 1  # of the account that has some
    assert touched(inbound.WAITING, items, table="inbound_posts") == 20
    assert touched(inbound.MARK, items, table="inbound_posts") == 20
