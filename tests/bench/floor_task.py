"""The least that a Celery task with a committed row can do: the floor that `tests.bench.latency` stands on."""

from django.db import connection
from kombu import Queue

from maxxit.celery import app

QUEUE = "bench"
ROW = """
INSERT INTO events (at, name, subject, correlation_id, data)
VALUES (now(), 'bench.row', %s, gen_random_uuid(), '{}')
"""

app.conf.task_queues = (*app.conf.task_queues, Queue(QUEUE))  # type: ignore[no-untyped-call]


@app.task(name="bench.row", queue=QUEUE)
def row(subject: str) -> None:
    """Commit one row that can be found by `subject`."""
    with connection.cursor() as cursor:
        cursor.execute(ROW, [subject])
