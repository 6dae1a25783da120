"""The verbs of the older runbooks (AWET's Makefile, Maxxit's scripts) and what they are here: one list.

`verbs.mk` and the table of docs/runbook.md are written from it (`manage.py verbs`), and a test runs each target.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Given:
    """A variable of make, as in `make approve VENUE=alpaca`, and the option that gets it."""

    variable: str
    option: str = ""
    """Empty: it is given without an option."""
    default: str = ""
    """Empty: the option is left out where the variable is not set."""

    @property
    def in_make(self) -> str:
        """Return it for a recipe."""
        if self.default:
            return f'{self.option} "$(or $({self.variable}),{self.default})"'.strip()
        return f'$(if $({self.variable}),{self.option} "$({self.variable})")'.replace(', "', ',"')


@dataclass(frozen=True, slots=True)
class Verb:
    """A target of make, and the command that it runs."""

    name: str
    command: str
    what: str
    given: tuple[Given, ...] = ()

    @property
    def recipe(self) -> str:
        """Return its line in `verbs.mk`."""
        given = "".join(f" {one.in_make}" for one in self.given)
        return f"{self.name}: ; @exec $(MANAGE) {self.command}{given} $(ARGS)"

    @property
    def usage(self) -> str:
        """Return it as a person types it."""
        return " ".join([f"make {self.name}", *(f"[{one.variable}=…]" for one in self.given)])


NUMBER, VENUE = Given("N", "-n"), Given("VENUE", default="paper")
VERBS = (
    Verb("paper-on", "paper on", "send paper orders"),
    Verb("paper-off", "paper off", "send no paper order"),
    Verb("paper-status", "paper status", "gates, approvals, kill switch"),
    Verb(
        "approve",
        "approve",
        "approve that orders are sent to a venue; ask for it where it is real money",
        (VENUE, Given("HOURS", "--hours"), Given("REASON", "--reason", "make approve")),
    ),
    Verb(
        "revoke",
        "revoke",
        "revoke every approval of a venue",
        (VENUE, Given("REASON", "--reason", "make revoke")),
    ),
    Verb("verify-alpaca", "verify-alpaca", "accounts at Alpaca and what their keys may do"),
    Verb("trades", "trades", "the newest orders with state and reason", (Given("STATUS", "--status"), NUMBER)),
    Verb("positions", "positions", "what each account holds at its venue"),
    Verb("positions-watch", "positions --watch", "the same every minute"),
    Verb("portfolio", "portfolio", "holdings, equity and PnL of each deployment"),
    Verb("reconcile", "reconcile --once", "read every open order and holding, book what changed"),
    Verb("reconcile-watch", "reconcile --watch", "the same every minute, and the end of day when it is due"),
    Verb("eod", "reconcile --eod", "end each market's day that is over"),
    Verb("exit-run", "exits run", "one sweep of the exits"),
    Verb("exit-watch", "exits watch", "a sweep each minute"),
    Verb(
        "exit-on", "exits on", "resume stops and targets", (Given("REASON", "--reason", "make exit-on"),)
    ),
    Verb(
        "exit-off", "exits off", "pause stops and targets", (Given("REASON", "--reason", "make exit-off"),)
    ),
    Verb("llm-last", "llm last", "the newest calls of models", (NUMBER,)),
    Verb("llm-watch", "llm watch", "the newest calls, refreshed"),
    Verb("llm-follow", "llm follow", "each new call with prompt and answer"),
    Verb("llm-summary", "llm summary", "calls, errors, p95 and cost"),
    Verb("llm-agent", "llm agent", "calls for one agent", (Given("AGENT"),)),
    Verb(
        "trade-chain",
        "chain",
        "the trace of a trade; ORDER and TRADE: our id or the venue's",
        (Given("CORR", "--corr"), Given("ORDER", "--order"), Given("TRADE", "--order")),
    ),
    Verb(
        "trade-chain-json",
        "chain --json",
        "the same for programs",
        (Given("CORR", "--corr"), Given("ORDER", "--order"), Given("TRADE", "--order")),
    ),
    Verb("pnl-today", "pnl today", "results since midnight UTC"),
    Verb("pnl-week", "pnl week", "the saved days of the last week"),
    Verb("pnl-watch", "pnl watch", "today's results, refreshed"),
    Verb("pnl-save", "pnl save", "save today's summary"),
    Verb("pnl-eod", "pnl eod", "end the UTC day", (Given("DAY", "--day"),)),
    Verb("portals", "portals", "every address, and whether it answers"),
    Verb("doctor", "doctor", "every check, with the fix of each that fails"),
    Verb("doctor-json", "doctor --json", "the same for programs"),
    Verb("doctor-quiet", "doctor --quiet", "failed checks alone"),
    Verb("monitoring-status", "monitoring-status", "targets of Prometheus and firing alerts"),
    Verb("stack-list", "workers status", "each process with its PID"),
    Verb("status", "status", "each job: last run, next run, delay"),
    Verb("ops-snapshot", "ops-snapshot", "jobs, checks, orders and errors into a file"),
    Verb("ops-watch", "logs worker-guard worker-execute worker-exits --follow",
         "follow the logs of reconciliation and orders"),
    Verb("ops-logs", "logs worker-guard", "the newest lines of reconciliation"),
    Verb("ops-status", "health", "one line, then every check"),
    Verb("db-migrate", "setup --no-demo", "bring the database to this release"),
    Verb("verify-db", "migrate --check", "whether a migration is missing"),
)  # fmt: skip
"""In the order of the table."""
OTHERS = (
    ("`workers/start-workers.sh`, `scripts/daemon-control.sh start`", "`make up`; one process: `workers start NAME`"),
    ("`workers/stop-workers.sh`, `scripts/daemon-control.sh stop`", "`make down`; one process: `workers stop NAME`"),
    ("`workers/status-workers.sh`, `scripts/daemon-control.sh status`", "`workers status [NAME]`"),
    ("`tail -f logs/*.log`, `grep -i error logs/*.log`", "`logs --follow`, `logs --errors`"),
    ("`awet_start.sh`, `awet_stop.sh`", "`make up`, `make down`"),
    ("`awet_health_check.py`", "`doctor` · `health`"),
    ("`check_schema.py`", "`migrate --check`"),
    ("`reconcile_scheduler.py --once`, `--watch`, `--interval N`, `--eod`",
     "the same options of `reconcile`; the jobs `accounts` and `day_end`"),
    ("`docker compose up -d awet-reconciler`, `awet-eod`", "the jobs `accounts` and `day_end`"),
    ("`ops-install`", "`deploy/systemd/` ([platform](operations-platform.md))"),
    ("\"Why PnL was $0\"", "`pnl explain`, `GET /api/pnl/explain`"),
)  # fmt: skip
"""What is no target: as it was, and what it is here."""


def makefile() -> str:
    """Return `verbs.mk`."""
    head = (
        "# Written by `manage.py verbs --make`: the verbs of the older runbooks, for `make VERB`. The list is in\n"
        '# maxxit/ops/verbs.py. More options go through ARGS, as in: make trades ARGS="--deployment 7"\n'
    )
    names = " ".join(verb.name for verb in VERBS)
    return "\n".join([head, f".PHONY: {names}\n", *(verb.recipe for verb in VERBS), ""])


def markdown() -> str:
    """Return the table of docs/runbook.md."""
    rows = [f"| `{verb.usage}` | `{verb.command}` | {verb.what} |" for verb in VERBS]
    others = [f"| {old} | {here} | |" for old, here in OTHERS]
    return "\n".join(["| verb | `manage.py …` | what it does |", "|---|---|---|", *rows, *others])
