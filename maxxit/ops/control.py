"""Start and stop single processes of `make up` from another terminal, by files in the data folder.

The supervisor writes `processes.json` when something changes, and carries out the files of `requests/`, whose names are
`PROCESS.start` and `PROCESS.stop`. Both are private to the user who runs it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from maxxit.embedded.processes import write_secret

STATES, REQUESTS = "processes.json", "requests"
ACTIONS = ("start", "stop")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of `make up`."""

    name: str
    state: str
    """running, stopping, stopped (on request), or restarting (it exited by itself)."""
    pid: int | None
    since: str
    """When it was started last, UTC."""
    restarts: int
    may_stop: bool
    """Whether `workers stop` stops it: not a database, not the forkserver."""


class Control:
    """Both sides of the files."""

    def __init__(self, data_dir: Path) -> None:
        self._states, self._requests = data_dir / STATES, data_dir / REQUESTS
        self._written = ""

    def publish(self, processes: list[Process]) -> None:
        """Write the states, unless they are those of the last call."""
        text = json.dumps([asdict(one) for one in processes])
        if text != self._written:
            write_secret(self._states, text)
            self._written = text

    def read(self) -> list[Process]:
        """Return the states that were written last."""
        if not self._states.exists():
            return []
        return [Process(**row) for row in json.loads(self._states.read_text())]

    def ask(self, name: str, action: str) -> None:
        """Ask the supervisor to start or stop a process."""
        self._requests.mkdir(mode=0o700, exist_ok=True)
        (self._requests / f"{name}.{action}").touch(mode=0o600)

    def requests(self) -> list[tuple[str, str]]:
        """Return and remove what was asked: (process, action), oldest first."""
        if not self._requests.is_dir():
            return []
        found = sorted(self._requests.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in found:
            path.unlink(missing_ok=True)
        return [(path.stem, path.suffix[1:]) for path in found if path.suffix[1:] in ACTIONS]
