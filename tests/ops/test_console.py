"""What `make up` shows of its processes, and what stays in their log files."""

import pytest

from maxxit.ops import console

STAMP = "2026-11-29T20:20:15.673882Z"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("worker-exits", f"{STAMP} [warning  ] venue_not_read                 [trading.venues] account=paper:carol"),
        ("worker-llm", f"{STAMP} [error    ] model_failed [maxxit.llm]"),
        ("worker-monitor", f"{STAMP} [info     ] positions_changed              [positions.tasks] closed=1 opened=0"),
        ("web", '{"event": "refused", "level": "error"}'),
        ("web", "Traceback (most recent call last):"),
        ("web", '  File "x.py", line 3, in <module>'),
        ("web", "{not json"),
        ("postgres", "2026-11-29 20:18:46 UTC [4805] PANIC:  could not write to file"),
        ("redis", "4782:M 29 Nov 2026 # Out Of Memory allocating 16 bytes: out of memory"),
    ],
)  # fmt: skip
def test_warnings_errors_trades_and_tracebacks_are_shown(name: str, text: str) -> None:
    assert console.line(name, text) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("worker-exits", f"{STAMP} [info     ] exits@maxxit ready.            [celery.apps.worker]"),
        ("worker-exits", f"{STAMP} [info     ] stage_done [maxxit.pipeline.runs] stage=monitor"),
        ("web", '{"event": "request_finished", "level": "info"}'),
        ("web", ""),
        ("web", "[2026-11-29 21:31:34 +0000] [12711] [INFO] Listening at: http://127.0.0.1:8111 (12711)"),
        ("worker-llm", "worker: Cold shutdown (MainProcess)"),
        ("postgres", "2026-11-29 20:18:46 UTC [4812] FATAL:  the database system is starting up"),
        ("redis", "4782:M 29 Nov 2026 20:18:42.742 # WARNING Memory overcommit must be enabled!"),
    ],
)
def test_the_rest_is_not(name: str, text: str) -> None:
    assert console.line(name, text) is None


def test_ids_of_tasks_are_left_out() -> None:
    shown = console.line(
        "worker-monitor", f"{STAMP} [info     ] positions_changed closed=1 task_id=5 parent_task_id=4-2"
    )
    assert shown == f"{STAMP} [info     ] positions_changed closed=1"


def test_long_lines_are_cut() -> None:
    shown = console.line("web", f"{STAMP} [error    ] failed {'x' * 2000}")
    assert shown is not None
    assert len(shown) == console.LONGEST + 2


def test_a_box_fits_its_longest_line() -> None:
    assert console.box(["ab", "a"]) == ["╭────╮", "│ ab │", "│ a  │", "╰────╯"]
