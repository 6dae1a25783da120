"""Health checks behind `manage.py doctor` and `/health/ready`; a failed check names the fix."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from agents.fee_terms import policy as fee_policy
from agents.fee_terms import unreadable_fees
from agents.models import Agent, CtAccount
from agents.policy import policy as customer_policy
from agents.policy import post_sources
from agents.seed import SeedData
from maxxit.access.attempts import policy as login_policy
from maxxit.bus import status as bus_status
from maxxit.bus.policy import policy as bus_policy
from maxxit.core import clock
from maxxit.core.config import load, profile
from maxxit.core.errors import MaxxitError
from maxxit.core.money import ZERO, plain
from maxxit.embedded.processes import port_taken
from maxxit.knowledge.policy import policy as knowledge_policy
from maxxit.learning import watchdog
from maxxit.learning.policy import policy as models_policy
from maxxit.llm.policy import policy as llm_policy
from maxxit.market import candles, quotes
from maxxit.market.bars import MOST_MISSING
from maxxit.market.feeds.bars import BAR
from maxxit.market.instruments import all_instruments
from maxxit.market.models import Quote
from maxxit.market.stream import status as stream_status
from maxxit.market.venues import venues
from maxxit.notify.policy import policy as notify_policy
from maxxit.pipeline import release
from maxxit.pipeline.models import FRESH, CanaryMark, StageRun
from maxxit.pipeline.schedule import schedule
from maxxit.pipeline.stages import QUEUES
from maxxit.reports.backtest_policy import policy as backtest_policy
from maxxit.reports.backup_policy import policy as backup_policy
from maxxit.reports.preview_policy import policy as preview_policy
from maxxit.reports.safes import doctor
from positions import flatten
from positions.exits import pauses
from positions.performance import identity, roll_up
from positions.twin.policy import policy as twin_policy
from signals_app import drift
from signals_app.policy import policy as signals_policy
from signals_app.screening.audit import audit as audit_of_screening
from trading import gate, wiring
from trading.billing import debts, subscriptions
from trading.chain.chains import terms as chain_terms
from trading.chain.executor_keys import executor_keys
from trading.operations.approvals import EXPIRED
from trading.passes import policy as pass_policy
from trading.risk import limits_in_force
from trading.risk.policy import policy as risk_policy
from trading.second_person import Kind, one_person
from trading.second_person import policy as approval_policy
from trading.venues.safe import address_check
from trading.venues.safe.limits import policy as safe_policy

CLOCK_LIMIT = timedelta(seconds=2)
"""Quote ages and deadlines compare the clocks of different machines; a larger difference falsifies them."""
DISK_LIMIT = 1024**3
"""Bytes: Postgres stops when the disk is full."""
DRIFT_AGAIN = timedelta(minutes=10)
"""How long a process keeps what the check of the reader found in a month of posts (0.9 s for a million of them)."""
NAMED = 5
"""Rows that a line names; all are counted."""
GAPS_SINCE = timedelta(days=1)
"""How far back to look for gaps in the candles: a decision's indicators reach about as far."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    """What to do; empty when the check passed."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _run(name: str, fix: str, probe: Callable[[], str]) -> Check:
    """Run a probe that returns a description or raises."""
    try:
        return Check(name, True, probe())
    except Exception as error:  # any exception of a driver is a failed check
        return Check(name, False, f"{type(error).__name__}: {error}".strip().splitlines()[0][:300], fix)


def readable(
    name: str, probe: Callable[[], Iterable[Check]], fix: str = "`manage.py doctor` names the cause"
) -> list[Check]:
    """Return the checks of `probe`; where it raises, those before and one failed check, so that it hides no other."""
    results: list[Check] = []
    try:
        results.extend(probe())
    except Exception as error:  # any error of a driver or of a broken file
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        results.append(Check(name, False, f"cannot be read: {text}", fix))
    return results


def postgres() -> Check:
    """Check that the database answers."""

    def probe() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), current_database()")
            version, name = cursor.fetchone()
        return f"Postgres {version}, database {name}"

    return _run(
        "postgres", "start Postgres, or correct DATABASE_URL; `make up` starts an embedded one", probe
    )


LIMITED = """
SELECT EXISTS (SELECT FROM unnest(rolconfig) AS one WHERE one LIKE 'statement_timeout=%')
FROM pg_roles WHERE rolname = current_user
"""


def pooler() -> list[Check]:
    """Check that sessions of a pooler have time limits, where there is one: only the role can give them."""
    if not settings.ENV.database_direct_url:
        return []

    def probe() -> str:
        with connection.cursor() as cursor:
            cursor.execute(LIMITED)
            [limited] = cursor.fetchone()
        if not limited:
            raise LookupError(
                "the application's role has no statement_timeout, so its statements may run for ever"
            )
        return "the role has time limits"

    return [_run("pooler", "`manage.py roles` as the owner, with DATABASE_DIRECT_URL set", probe)]


ROLE = """
SELECT current_user, rolsuper OR has_schema_privilege('public', 'CREATE') OR has_table_privilege('events', 'TRUNCATE')
FROM pg_roles WHERE rolname = current_user
"""


def database_role() -> Check:
    """Check that in production the application cannot alter tables or change append-only rows."""

    def probe() -> str:
        with connection.cursor() as cursor:
            cursor.execute(ROLE)
            name, owns = cursor.fetchone()
        if owns and settings.PRODUCTION:
            raise LookupError(f"the application connects as {name}, which may alter and truncate tables")
        return f"{name}, which {'owns the tables' if owns else 'owns no table'}"

    fix = "docs/runbook.md, Database roles: DATABASE_URL names a role that owns nothing, DATABASE_OWNER_URL the owner"
    return _run("database role", fix, probe)


def _redis() -> "redis.Redis":
    return redis.Redis.from_url(settings.ENV.broker, socket_timeout=2, socket_connect_timeout=2)


def broker() -> Check:
    """Check that Redis answers."""

    def probe() -> str:
        with _redis() as client:
            info = client.info("server")
        return f"Redis {info['redis_version']}"

    return _run("redis", "start Redis, or correct REDIS_URL; `make up` starts an embedded one", probe)


def queue_lengths() -> dict[str, int]:
    """Return the number of messages waiting in each queue. Raises redis-py's errors when Redis is down."""
    with _redis() as client, client.pipeline() as pipeline:
        for queue in QUEUES:
            pipeline.llen(queue)
        return dict(zip(QUEUES, pipeline.execute(), strict=True))


_migrated: list[bool] = []


def migrations() -> Check:
    """Check that all migrations are applied. A pass is remembered: the code of a running process does not change."""
    if _migrated:
        return Check("migrations", True, "all applied")

    def probe() -> str:
        executor = MigrationExecutor(connection)
        missing = [str(step) for step, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
        if missing:
            raise LookupError(f"not applied: {', '.join(missing)}")
        _migrated.append(True)
        return "all applied"

    return _run("migrations", "`manage.py migrate`", probe)


def canaries() -> list[Check]:
    """Check that each queue has a working worker, and that beat sends its jobs: the canaries are among them."""
    try:
        marks = {mark.queue: mark for mark in CanaryMark.objects.all()}
    except Exception as error:  # the database is down, which the check `postgres` reports
        return [Check("workers", False, f"unknown: {error}".splitlines()[0], "see postgres and migrations")]
    now = clock.now()
    results = []
    for queue in QUEUES:
        mark = marks.get(queue)
        age = now - mark.signed_at if mark else None
        detail = (
            f"{mark.worker} answered {_ago(age)} ago"
            if mark and age is not None
            else "no worker answered yet"
        )
        fix = f"start a worker for it: `celery -A maxxit.celery worker -Q {queue}` (`make up` runs all)"
        fresh = age is not None and age < FRESH
        results.append(Check(f"worker:{queue}", fresh, detail, "" if fresh else fix))
    alive = any(check.ok for check in results)
    newest = max((mark.signed_at for mark in marks.values()), default=None)
    detail = (
        f"its last canary was answered {_ago(now - newest)} ago" if newest else "no canary was answered yet"
    )
    fix = "" if alive else "start beat: `celery -A maxxit.celery beat`, and the workers (`make up` runs all)"
    return [Check("beat", alive, detail, fix), *results]


def _ago(age: timedelta) -> str:
    return (
        f"{age.total_seconds():.0f} s"
        if age < timedelta(minutes=5)
        else str(timedelta(seconds=int(age.total_seconds())))
    )


def feeds() -> Check:
    """Check that every quote is fresh."""

    def probe() -> str:
        names = [feed.name for feed in quotes.open_feeds()]
        if not names:
            raise LookupError("no feed is configured, so no order is placed")
        now = clock.now()
        rows = list(Quote.objects.all())
        stale = [row.symbol for row in rows if quotes.unusable(row.price, row.at, now)]
        if stale or not rows:
            raise LookupError(f"no usable quote of {', '.join(stale) or 'any symbol'}")
        return f"{', '.join(names)}: {len(rows)} symbols, none older than {quotes.max_age().seconds} s"

    fix = "add a feed to `order:` in config/feeds.yaml; check the lines worker:market and beat"
    return _run("feeds", fix, probe)


def stream() -> Check:
    """Check the sources of the price stream. Without a stream prices are polled, which is slower but no fault."""
    state = stream_status.status()
    if state is None:
        polled = "no stream runs: beat polls the feeds every few seconds, so exits react later"
        return Check("stream", True, polled, "for faster exits: `manage.py stream` (`make up` runs it)")
    failing = {source["name"]: source["error"] for source in state["sources"] if source["error"]}
    counts = f"{state['owner']} leads: {state['ticks']} ticks, {state['quotes']} quotes, {state['dropped']} dropped"
    if not failing:
        return Check("stream", True, f"{counts}; all {len(state['sources'])} sources work")
    errors = "; ".join(f"{name}: {error}" for name, error in failing.items())
    names = ", ".join(failing)
    fix = f"check that this machine reaches {names}, and its key and ids in config/feeds.yaml; it reconnects on its own"
    return Check("stream", False, f"{counts}; {errors}"[:300], fix)


def candle_gaps() -> Check:
    """Check the last day's five-minute candles for gaps; fails where indicators refuse the series because of them."""
    now = clock.now()
    begin = now - GAPS_SINCE
    try:
        gaps = candles.gaps(list(all_instruments()), begin, now)
    except Exception as error:  # the database is down, which the check `postgres` reports
        return Check("candles", False, f"unknown: {error}".splitlines()[0], "see postgres and migrations")
    if not gaps:
        return Check("candles", True, "no gaps in the last day")
    by_symbol: dict[str, list[candles.Gap]] = {}
    for gap in gaps:
        by_symbol.setdefault(gap.symbol, []).append(gap)
    allowed = MOST_MISSING * (GAPS_SINCE // BAR)
    bad = [
        symbol
        for symbol, own in by_symbol.items()
        if sum(gap.bars for gap in own) > allowed or (own[-1].end > now - BAR and own[-1].bars > 1)
    ]
    detail = "; ".join(
        f"{symbol} lacks {sum(gap.bars for gap in own)} bars, the last at {own[-1].end - BAR:%m-%d %H:%M}"
        for symbol, own in by_symbol.items()
    )
    since = min(gap.start for gap in gaps if not bad or gap.symbol in bad)
    fill = (
        f"`manage.py backfill --symbols {','.join(bad or by_symbol)} --from {since:%Y-%m-%d} "
        f"--to {now + timedelta(days=1):%Y-%m-%d}` (the demo: `manage.py demo`)"
    )
    return Check("candles", not bad, detail[:300], fill)


def _limits() -> Check:
    try:
        waiting = sorted(limits_in_force.waiting_limits().items())
    except limits_in_force.UNREADABLE as error:
        return Check(
            "limits",
            False,
            f"the table risk_limits_in_force cannot be read, so entries are stopped: {error}"[:300],
            "restore the row, or delete it: the configured limits then apply at once",
        )
    listed = "; ".join(f"{key} {change.value} from {change.at:%Y-%m-%d %H:%M} UTC" for key, change in waiting)
    return Check("limits", True, f"looser limits pending: {listed}"[:300] if waiting else "as configured")


def gates() -> Iterator[Check]:
    """Check kill switch, limits, flatten and exits, and list the venues' gates; a closed gate is no fault."""
    latched = gate.kill_level()
    yield Check(
        "kill switch", not latched, f"latched: {latched}" if latched else "not pulled", _release(latched)
    )
    yield _limits()
    stopped = sorted({switch.account for switch in gate.latched() if switch.account})
    yield Check("stopped accounts", True, f"{len(stopped)}: {', '.join(stopped[:5])}" if stopped else "none")
    unclosed = flatten.unclosed()
    if unclosed:
        counted = Counter(position.reason for position in unclosed)
        reasons = ", ".join(f"{count} × {why}" for why, count in counted.items())
        fix = "open the gate of their venue, or `manage.py why` on their exit orders; exits are retried automatically"
        yield Check("flatten", False, f"{len(unclosed)} positions are not closed: {reasons}"[:300], fix)
    open_now = gate.open_venues()
    paused = pauses.current_pause()
    yield Check(
        "exits",
        paused is None,
        f"{paused}: {paused.reason}" if paused else "active",
        "`manage.py exits on --reason …`: until then no stop loss is triggered" if paused else "",
    )
    for name, venue in venues().items():
        state = "open" if name in open_now else "closed"
        if gate.read(name).expired:
            state = f"approval expired: {EXPIRED}"
        yield Check(f"gate:{name}", True, f"{state} ({wiring.money_at_stake(venue)})")
    for kind in Kind:
        if why := one_person(kind):
            yield Check(f"second person:{kind}", True, f"one person decides (config/approvals.yaml): {why}")


def billing() -> Check:
    """Check that no debt to the platform is too high or too old, that no charge failed and every fee is readable."""

    def probe() -> str:
        failed = subscriptions.failed().count()
        late = debts.uncollected()
        broken = [str(agent) for agent in Agent.objects.order_by("pk") if unreadable_fees(agent)]
        problems = [
            f"{failed} charges failed (`manage.py billing list`)" if failed else "",
            f"{len(late)} deployments owe {plain(sum((debt.owed for debt in late), ZERO))} USDC that is above the "
            f"limit or too old, the most: {late[0].deployment}" if late else "",
            f"fees that cannot be read, so nothing is charged: {', '.join(broken[:5])}" if broken else "",
        ]  # fmt: skip
        if any(problems):
            raise LookupError("; ".join(problem for problem in problems if problem))
        return f"{plain(debts.totals().owed)} USDC owed, within the limits of config/fees.yaml"

    fix = "`manage.py billing list`, then `billing pay`; correct an agent's fees in the admin (docs/fees.md)"
    return _run("billing", fix, probe)


def _release(latched: str) -> str:
    return "find out why, then `manage.py resume --reason …`" if latched else ""


CONFIG: dict[str, Callable[[], object]] = {
    "markets": all_instruments,
    "venues": venues,
    "feeds": quotes.max_age,
    "notify": notify_policy,
    "knowledge": knowledge_policy,
    "signals": signals_policy,
    "risk": risk_policy,
    "exits": risk_policy,
    "fees": fee_policy,
    "customers": customer_policy,
    "schedule": schedule,
    "agents": lambda: load("agents", SeedData),
    "llm": llm_policy,
    "passes": pass_policy,
    "approvals": approval_policy,
    "chains": chain_terms,
    "login": login_policy,
    "safes": safe_policy,
    "previews": preview_policy,
    "bus": bus_policy,
    "models": models_policy,
    "backups": backup_policy,
    "backtests": backtest_policy,
    "twin": twin_policy,
}
"""File in config/ -> the function that loads and validates it."""


def config() -> Iterator[Check]:
    """Check that every file in config/ exists, is complete and uses the right units."""
    for name, read in CONFIG.items():
        try:
            read()
        except MaxxitError as error:
            yield Check(f"config/{name}.yaml", False, str(error)[:300], "correct the named key")
        else:
            yield Check(f"config/{name}.yaml", True, f"profile {profile() or 'none'}")


def models() -> Iterator[Check]:
    """Check that each purpose of model calls has a provider with its key set."""
    try:
        policy = llm_policy()
        in_use = {"classify"} | ({"generate"} if signals_policy().generate.proposer == "model" else set())
        for purpose in policy.prompted:  # second readers name a provider that has its key
            stanza = policy.purposes[purpose]
            missing = {name: policy.provider(name).missing for name in stanza.chain}
            usable = [name for name, variable in missing.items() if not variable]
            lacking = ", ".join(f"{name} lacks {variable}" for name, variable in missing.items() if variable)
            detail = "; ".join(
                part for part in (f"uses {', '.join(usable)}" if usable else "", lacking) if part
            )
            ok = bool(usable) or purpose not in in_use
            fix = f"set one of {', '.join(sorted(set(missing.values())))} in the environment or .env"
            detail = detail if purpose in in_use else f"not in use; {detail}"
            yield Check(f"model:{purpose}", ok, detail, "" if ok else fix)
    except MaxxitError as error:
        yield Check("model", False, str(error)[:300], "correct config/llm.yaml")


def books() -> Check:
    """Check that the PnL of positions and the PnL of the ledger are the same, for each deployment."""

    def probe() -> str:
        read = identity.read_identity()
        if wrong := read.wrong:
            rows = ", ".join(f"deployment {row.deployment} by {plain(row.difference)}" for row in wrong[:5])
            raise LookupError(
                f"positions and ledger differ in {len(wrong)} of {len(read.deployments)}: {rows} USDC"
            )
        unpriced = f"; {len(read.unpriced)} hold a token without a quote" if read.unpriced else ""
        return f"positions and ledger agree in {len(read.deployments)} deployments{unpriced}"

    fix = "stop entries (`manage.py kill no_entries`), then `manage.py pnl explain` shows the deployment's books"
    return _run("books", fix, probe)


def parts() -> Check:
    """Check that the stored sums of closed positions are the sums of their positions, for each deployment."""

    def probe() -> str:
        if wrong := roll_up.differences():
            ids = ", ".join(map(str, wrong[:5]))
            raise LookupError(
                f"the stored sums of {len(wrong)} deployments differ from their positions: {ids}"
            )
        return f"stored sums of closed positions agree, up to {roll_up.watermark():%Y-%m-%d %H:%M} UTC"

    return _run("results", "`manage.py pnl rebuild` adds all closed positions again", probe)


def relays() -> Check:
    """Check that no relay or listener of config/bus.yaml is late."""

    def probe() -> str:
        if not bus_policy().runs:
            return "no relay and no listener is switched on (config/bus.yaml)"
        if late := bus_status.late():
            raise LookupError("; ".join(late))
        return f"{', '.join([*bus_policy().relays, *bus_policy().listeners])} are up to date"

    return _run("relays", "see `manage.py bus status`; `manage.py bus run` must be running", probe)


def trained_models() -> Check:
    """Check that models that serve forecast, and that the trainings of the last night did not fail."""

    def probe() -> str:
        if wrong := watchdog.problems():
            raise LookupError("; ".join(wrong))
        return "forecasts are up to date, and no training failed"

    fix = (
        "see `manage.py models runs` and the log of the worker of queue default; `manage.py models forecast`"
    )
    return _run("trained models", fix, probe)


_drifted: list[tuple[datetime, list[str]]] = []


def reading() -> Check:
    """Check that calls, failures and confidence are within the band of the days before, and that few calls are lost."""

    def probe() -> str:
        now = clock.now()
        if not _drifted or not now - DRIFT_AGAIN < _drifted[0][0] <= now:
            screening = audit_of_screening()
            lost = [screening.alarm] if screening and screening.alarm else []
            _drifted[:] = [(now, [*drift.drifted(), *lost])]
        if left := _drifted[0][1]:
            raise LookupError("; ".join(left))
        return "within the band of the days before, or too few posts to say"

    fix = (
        "read some of the newest posts and `manage.py llm last`; `manage.py prompts history` says whether the prompt "
        "was changed, and `prompts rollback` returns to the former one"
    )
    return _run("reading", fix, probe)


def disk() -> Check:
    """Check the free space of the data folder's disk."""

    def probe() -> str:
        folder = next(path for path in (settings.DATA_DIR, *settings.DATA_DIR.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if free < DISK_LIMIT:
            raise LookupError(
                f"{free / 1024**2:.0f} MiB free at {folder}, at least {DISK_LIMIT / 1024**2:.0f} are needed"
            )
        return f"{free / 1024**3:.1f} GiB free at {folder}"

    fix = "free space: `manage.py shell -c 'from maxxit.pipeline.tasks import tidy; tidy()'`, delete old logs"
    return _run("disk", fix, probe)


def ports() -> Iterator[Check]:
    """Report whether web and Flower listen on their ports. A free port is no fault: they may run elsewhere."""
    for name, port in (("web", settings.ENV.web_port), ("flower", settings.ENV.flower_port)):
        taken = port_taken(port, settings.ENV.bind)
        yield Check(
            f"port:{name}",
            True,
            f"{settings.ENV.bind}:{port} " + ("answers" if taken else "is free (not running here)"),
        )


def clocks() -> Check:
    """Check that this machine's clock agrees with the database's."""

    def probe() -> str:
        with connection.cursor() as cursor:
            began = datetime.now(UTC)
            cursor.execute("SELECT clock_timestamp()")
            (theirs,) = cursor.fetchone()
        apart = abs(theirs - began - (datetime.now(UTC) - began) / 2)
        if apart > CLOCK_LIMIT:
            raise LookupError(f"this machine and the database are {apart.total_seconds():.1f} s apart")
        return f"UTC, {apart.total_seconds() * 1000:.0f} ms from the database's"

    return _run("clock", "synchronise both by NTP: `timedatectl set-ntp true`", probe)


def releases() -> Check:
    """Check that this code and configuration are the release declared to execute orders."""

    def probe() -> str:
        declared = release.declared()
        if declared not in ("", release.mine()):
            raise LookupError(
                f"the declared release is {declared}, this is {release.mine()}: its workers refuse orders"
            )
        return (
            f"{release.mine()} is declared" if declared else "none declared: workers of any release execute"
        )

    return _run("release", "finish the deployment: `manage.py setup`, then restart the workers", probe)


def accounts() -> Check:
    """Check that the accounts which agents follow are read; one that its author protects is a warning, no fault."""

    def probe() -> str:
        sources = post_sources()
        followed = list(
            CtAccount.objects.filter(subscriptions__isnull=False).distinct().order_by("x_username")
        )
        orphans = [account for account in followed if account.source not in sources]
        if orphans:
            named = ", ".join(f"{account} ({account.source})" for account in orphans[:NAMED])
            raise LookupError(
                f"{len(orphans)} followed accounts have a post source that is not configured: {named}"
            )
        failed = unread_accounts()
        unread = [
            f"{account}: {'switched off' if not account.is_active else failed[account.x_username][:100]}"
            for account in followed
            if not account.is_active or account.x_username in failed
        ]
        if not unread:
            return f"{len(followed)} are followed, and read"
        return f"{len(unread)} of {len(followed)} followed accounts are not read: {'; '.join(unread[:NAMED])}"

    fix = "set `ingest.sources` in config/signals.yaml, or the account's source in the admin (Followed accounts)"
    check = _run("accounts", fix, probe)
    if check.ok and "not read" in check.detail:
        return replace(
            check, fix="protected, renamed or suspended accounts are not read: their followers see no signal"
        )
    return check


def unread_accounts(passes: int = 1) -> dict[str, str]:
    """Return account -> why each of the newest whole passes of ingest, so many, could not read it."""
    whole = StageRun.objects.filter(stage="ingest", run__isnull=False, duration_ms__isnull=False, error="")
    details = whole.order_by("-started_at").values_list("detail", flat=True)[:passes]
    failed = [detail.get("failed") or {} for detail in details]
    if len(failed) < passes:
        return {}
    return {name: str(why) for name, why in failed[0].items() if all(name in one for one in failed)}


def chain_addresses() -> Iterator[Check]:
    """Compare the addresses of every configured chain with the chain; one that cannot be read is no fault."""
    traded = _traded_chains()
    for result in address_check.check_all():
        name = f"chain:{result.name}"
        if result.wrong:
            detail = "; ".join(result.wrong)
            fix = "correct the named key under `contracts` in config/chains.yaml; until then trade nothing there"
            yield Check(name, False, detail[:1000], fix)
        elif result.incomplete and result.name in traded:
            yield Check(
                name,
                False,
                f"venue {traded[result.name]}: {result.incomplete}",
                "docs/chain.md, A public chain",
            )
        else:
            read = result.not_checked or f"{result.checked} addresses are as configured"
            unused = "" if result.name in traded else "; no venue trades there"
            yield Check(name, True, f"{read}{unused}")


def _traded_chains() -> dict[str, str]:
    """Return chain -> a venue that trades there."""
    return {str(venue.options["chain"]): name for name, venue in venues().items() if "chain" in venue.options}


def executors() -> Iterator[Check]:
    """Check the executor's keys where this process has them: address and kind, and that the configuration agrees."""
    for key in executor_keys(_traded_chains()):
        fix = f"`manage.py safe executor` with {key.variable} set says it again; docs/chain.md, The key"
        yield Check(
            f"executor:{key.kind}", not key.problem, key.problem or str(key), fix if key.problem else ""
        )


def safes() -> Check:
    """Check that the chain shows the plan of every Safe that trades."""

    def probe() -> str:
        count, sentences = doctor.differing()
        if sentences:
            more = len(sentences) - doctor.NAMED
            rest = f"; and {more} more" if more > 0 else ""
            raise LookupError("; ".join(sentences[: doctor.NAMED]) + rest)
        return f"{count} compared with the chain" if count else "none trades"

    fix = (
        "`manage.py safe verify --deployment N` shows each difference; its owners sign the plan, or plan anew with "
        "`safe plan`. Positions are closed as usual meanwhile"
    )
    return _run("safes", fix, probe)


def everything() -> Iterator[Check]:
    """Run all checks, causes before consequences."""
    yield from config()
    yield postgres()
    yield broker()
    yield migrations()
    yield database_role()
    yield from pooler()
    yield releases()
    yield from canaries()
    for check in (
        feeds,
        stream,
        candle_gaps,
        accounts,
        billing,
        relays,
        trained_models,
        reading,
        disk,
        clocks,
    ):
        yield check()
    yield from readable("gate", gates, "it counts as closed; see postgres")
    for check in (books, parts, safes):
        yield check()
    yield from readable("executor", executors)
    yield from chain_addresses()
    yield from models()
    yield from ports()
