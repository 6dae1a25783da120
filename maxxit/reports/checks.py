"""Is every part well? Each check answers in words and, when it fails, names the fix."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from agents.seed import SeedData
from maxxit.access.attempts import policy as login_policy
from maxxit.core import clock
from maxxit.core.config import load, profile
from maxxit.core.errors import MaxxitError
from maxxit.embedded.processes import port_taken
from maxxit.knowledge.policy import policy as knowledge_policy
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
from maxxit.pipeline.models import FRESH, CanaryMark
from maxxit.pipeline.schedule import schedule
from maxxit.pipeline.stages import QUEUES
from positions import flatten
from positions.exits import pauses
from signals_app.policy import policy as signals_policy
from trading import gate, limits_in_force, wiring
from trading.approvals import EXPIRED
from trading.chain.chains import terms as chain_terms
from trading.passes import policy as pass_policy
from trading.policy import policy as risk_policy

CLOCK_LIMIT = timedelta(seconds=2)
"""Quotes and deadlines compare clocks of different machines; more than this and they mislead."""
DISK_LIMIT = 1024**3
"""Bytes: Postgres stops without room, and stops badly."""
GAPS_SINCE = timedelta(days=1)
"""How far back holes in the bars are looked for: indicators of a decision reach about as far."""


@dataclass(frozen=True)
class Check:
    """One answer."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    """What to do; empty when all is well."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _tried(name: str, fix: str, ask: Callable[[], str]) -> Check:
    """`ask` describes what it found, or raises."""
    try:
        return Check(name, True, ask())
    except Exception as error:  # whatever a driver raises is the answer that we were after
        return Check(name, False, f"{type(error).__name__}: {error}".strip().splitlines()[0][:300], fix)


def postgres() -> Check:
    """The database answers."""

    def ask() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), current_database()")
            version, name = cursor.fetchone()
        return f"Postgres {version}, database {name}"

    return _tried("postgres", "start Postgres, or correct DATABASE_URL; `make up` brings one of its own", ask)


ROLE = """
SELECT current_user, rolsuper OR has_schema_privilege('public', 'CREATE') OR has_table_privilege('events', 'TRUNCATE')
FROM pg_roles WHERE rolname = current_user
"""


def database_role() -> Check:
    """In production the application must not be able to change tables, or what is written once."""

    def ask() -> str:
        with connection.cursor() as cursor:
            cursor.execute(ROLE)
            name, owns = cursor.fetchone()
        if owns and settings.PRODUCTION:
            raise LookupError(f"the application connects as {name}, which may change and empty tables")
        return f"{name}, which {'owns the tables' if owns else 'owns nothing'}"

    fix = "docs/runbook.md, Database roles: DATABASE_URL names a role that owns nothing, DATABASE_OWNER_URL the owner"
    return _tried("database role", fix, ask)


def _redis() -> "redis.Redis":
    return redis.Redis.from_url(settings.ENV.broker, socket_timeout=2, socket_connect_timeout=2)


def broker() -> Check:
    """Redis answers."""

    def ask() -> str:
        with _redis() as client:
            told = client.info("server")
        return f"Redis {told['redis_version']}"

    return _tried("redis", "start Redis, or correct REDIS_URL; `make up` brings one of its own", ask)


def queue_lengths() -> dict[str, int]:
    """Messages that wait on each queue. Raises what redis-py raises when Redis is away."""
    with _redis() as client, client.pipeline() as asked:
        for queue in QUEUES:
            asked.llen(queue)
        return dict(zip(QUEUES, asked.execute(), strict=True))


_migrated: list[bool] = []


def migrations() -> Check:
    """The tables are those of this code. A yes holds for the life of the process: the code in it does not change."""
    if _migrated:
        return Check("migrations", True, "all applied")

    def ask() -> str:
        executor = MigrationExecutor(connection)
        missing = [str(one) for one, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
        if missing:
            raise LookupError(f"not applied: {', '.join(missing)}")
        _migrated.append(True)
        return "all applied"

    return _tried("migrations", "`manage.py migrate`", ask)


def canaries() -> list[Check]:
    """Each queue has a worker that works; and beat sends what it should, for it sends the canaries."""
    try:
        marks = {mark.queue: mark for mark in CanaryMark.objects.all()}
    except Exception as error:  # the database is away: that is a check of its own
        return [Check("workers", False, f"not known: {error}".splitlines()[0], "see postgres and migrations")]
    now = clock.now()
    made = []
    for queue in QUEUES:
        mark = marks.get(queue)
        age = now - mark.signed_at if mark else None
        detail = (
            f"{mark.worker} signed {_ago(age)} ago" if mark and age is not None else "nobody has signed yet"
        )
        fix = f"start a worker for it: `celery -A maxxit.celery worker -Q {queue}` (`make up` runs all)"
        fresh = age is not None and age < FRESH
        made.append(Check(f"worker:{queue}", fresh, detail, "" if fresh else fix))
    alive = any(check.ok for check in made)
    newest = max((mark.signed_at for mark in marks.values()), default=None)
    detail = f"its last canary was signed {_ago(now - newest)} ago" if newest else "no canary was signed yet"
    fix = "" if alive else "start beat: `celery -A maxxit.celery beat`, and the workers (`make up` runs all)"
    return [Check("beat", alive, detail, fix), *made]


def _ago(age: timedelta) -> str:
    return (
        f"{age.total_seconds():.0f} s"
        if age < timedelta(minutes=5)
        else str(timedelta(seconds=int(age.total_seconds())))
    )


def feeds() -> Check:
    """There is a fresh price of every instrument that some feed knows."""

    def ask() -> str:
        names = [feed.name for feed in quotes.open_feeds()]
        if not names:
            raise LookupError("no feed is configured, so nothing trades")
        now = clock.now()
        rows = list(Quote.objects.all())
        stale = [row.symbol for row in rows if quotes.unusable(row.price, row.at, now)]
        if stale or not rows:
            raise LookupError(f"no usable quote of {', '.join(stale) or 'any symbol'}")
        return f"{', '.join(names)}: {len(rows)} symbols, all within {quotes.max_age().seconds} s"

    return _tried(
        "feeds", "name a feed in config/feeds.yaml (`order:`); see that worker:market and beat are well", ask
    )


def stream() -> Check:
    """Whether a stream leads, and what its sources say. Without one prices are polled, which is slower and no fault."""
    said = stream_status.status()
    if said is None:
        polled = "none leads: beat asks the feeds every few seconds, so exits wait longer"
        return Check("stream", True, polled, "for exits at once: `manage.py stream` (`make up` runs it)")
    silent = {one["name"]: one["error"] for one in said["sources"] if one["error"]}
    told = f"{said['owner']} leads: {said['ticks']} ticks, {said['quotes']} quotes, {said['dropped']} dropped"
    if not silent:
        return Check("stream", True, f"{told}; {len(said['sources'])} sources are well")
    why = "; ".join(f"{name}: {error}" for name, error in silent.items())
    names = ", ".join(silent)
    fix = f"see that this machine reaches {names}, its key and ids in config/feeds.yaml; it tries again by itself"
    return Check("stream", False, f"{told}; {why}"[:300], fix)


def candle_gaps() -> Check:
    """Holes in the five-minute bars of the last day. It fails where indicators refuse the series because of them."""
    now = clock.now()
    begin = now - GAPS_SINCE
    try:
        found = candles.gaps(list(all_instruments()), begin, now)
    except Exception as error:  # the database is away, which has its own line
        return Check("candles", False, f"not known: {error}".splitlines()[0], "see postgres and migrations")
    if not found:
        return Check("candles", True, "no holes in the last day")
    by_symbol: dict[str, list[candles.Gap]] = {}
    for gap in found:
        by_symbol.setdefault(gap.symbol, []).append(gap)
    allowed = MOST_MISSING * (GAPS_SINCE // BAR)
    bad = [
        symbol
        for symbol, holes in by_symbol.items()
        if sum(hole.bars for hole in holes) > allowed or (holes[-1].end > now - BAR and holes[-1].bars > 1)
    ]
    told = "; ".join(
        f"{symbol} lacks {sum(hole.bars for hole in holes)} bars, the last at {holes[-1].end - BAR:%m-%d %H:%M}"
        for symbol, holes in by_symbol.items()
    )
    since = min(hole.start for hole in found if not bad or hole.symbol in bad)
    fill = (
        f"`manage.py backfill --symbols {','.join(bad or by_symbol)} --from {since:%Y-%m-%d} "
        f"--to {now + timedelta(days=1):%Y-%m-%d}` (the demo: `manage.py demo`)"
    )
    return Check("candles", not bad, told[:300], fill)


def _limits() -> Check:
    try:
        waiting = sorted(limits_in_force.waiting_limits().items())
    except limits_in_force.UNREADABLE as error:
        return Check(
            "limits",
            False,
            f"the row of risk_limits_in_force cannot be read, so entries are stopped: {error!r}"[:300],
            "restore the row, or delete it: the configured limits then hold at once",
        )
    listed = "; ".join(f"{key} {one.value} from {one.at:%Y-%m-%d %H:%M} UTC" for key, one in waiting)
    return Check("limits", True, f"looser limits that wait: {listed}"[:300] if waiting else "as configured")


def gates() -> Iterator[Check]:
    """What may leave. A closed gate is no fault, so these never fail; they say what stands."""
    latched = gate.kill_level()
    yield Check(
        "kill switch", not latched, f"latched: {latched}" if latched else "not pulled", _release(latched)
    )
    yield _limits()
    stopped = sorted({one.account for one in gate.latched() if one.account})
    yield Check("stopped accounts", True, f"{len(stopped)}: {', '.join(stopped[:5])}" if stopped else "none")
    left = flatten.unclosed()
    if left:
        reasons = ", ".join(f"{count} × {why}" for why, count in Counter(one.reason for one in left).items())
        fix = "`manage.py why` on a position, or open the gate of its venue; the exits are tried again by themselves"
        yield Check("flatten", False, f"{len(left)} positions are not closed: {reasons}"[:300], fix)
    open_now = gate.open_venues()
    paused = pauses.current_pause()
    yield Check(
        "exits",
        paused is None,
        f"{paused}: {paused.reason}" if paused else "watched",
        "`manage.py exits on --reason …`: until then no stop loss is acted on" if paused else "",
    )
    for name, venue in venues().items():
        stands = "open" if name in open_now else "closed"
        if gate.read(name).expired:
            stands = f"approval expired: {EXPIRED}"
        yield Check(f"gate:{name}", True, f"{stands} ({wiring.money_at_stake(venue)})")


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
    "schedule": schedule,
    "agents": lambda: load("agents", SeedData),
    "llm": llm_policy,
    "passes": pass_policy,
    "chains": chain_terms,
    "login": login_policy,
}
"""File of config/ -> the function that reads and checks it."""


def config() -> Iterator[Check]:
    """Every file of config/ is there, complete and of the right units."""
    for name, read in CONFIG.items():
        try:
            read()
        except MaxxitError as error:
            yield Check(f"config/{name}.yaml", False, str(error)[:300], "correct the key that is named")
        else:
            yield Check(f"config/{name}.yaml", True, f"profile {profile() or 'none'}")


def models() -> Iterator[Check]:
    """For each question that we ask of models, some provider of its chain has what it needs."""
    try:
        policy = llm_policy()
        in_use = {"classify"} | ({"generate"} if signals_policy().generate.proposer == "model" else set())
        for purpose, stanza in policy.purposes.items():
            missing = {name: policy.provider(name).missing for name in stanza.chain}
            there = [name for name, lacks in missing.items() if not lacks]
            lacking = ", ".join(f"{name} lacks {lacks}" for name, lacks in missing.items() if lacks)
            detail = "; ".join(
                part for part in (f"asks {', '.join(there)}" if there else "", lacking) if part
            )
            ok = bool(there) or purpose not in in_use
            fix = f"set one of {', '.join(sorted(set(missing.values())))} in the environment or .env"
            detail = detail if purpose in in_use else f"not in use; {detail}"
            yield Check(f"model:{purpose}", ok, detail, "" if ok else fix)
    except MaxxitError as error:
        yield Check("model", False, str(error)[:300], "correct config/llm.yaml")


def disk() -> Check:
    """Room where the data is."""

    def ask() -> str:
        place = next(path for path in (settings.DATA_DIR, *settings.DATA_DIR.parents) if path.exists())
        free = shutil.disk_usage(place).free
        if free < DISK_LIMIT:
            raise LookupError(f"{free / 1024**2:.0f} MiB free at {place}")
        return f"{free / 1024**3:.1f} GiB free at {place}"

    return _tried(
        "disk",
        "make room: `manage.py shell -c 'from maxxit.pipeline.tasks import tidy; tidy()'`, old logs",
        ask,
    )


def ports() -> Iterator[Check]:
    """Whether web and Flower listen where they should. A free port is no fault: they may run elsewhere."""
    for name, port in (("web", settings.ENV.web_port), ("flower", settings.ENV.flower_port)):
        taken = port_taken(port, settings.ENV.bind)
        yield Check(
            f"port:{name}",
            True,
            f"{settings.ENV.bind}:{port} " + ("answers" if taken else "is free (not running here)"),
        )


def clocks() -> Check:
    """This machine and the database agree on the time."""

    def ask() -> str:
        with connection.cursor() as cursor:
            began = datetime.now(UTC)
            cursor.execute("SELECT clock_timestamp()")
            (theirs,) = cursor.fetchone()
        apart = abs(theirs - began - (datetime.now(UTC) - began) / 2)
        if apart > CLOCK_LIMIT:
            raise LookupError(f"this machine and the database are {apart.total_seconds():.1f} s apart")
        return f"UTC, {apart.total_seconds() * 1000:.0f} ms from the database's"

    return _tried("clock", "synchronise both by NTP: `timedatectl set-ntp true`", ask)


def releases() -> Check:
    """The code and configuration here are those that may execute."""

    def ask() -> str:
        declared = release.declared()
        if declared not in ("", release.mine()):
            raise LookupError(
                f"release {declared} executes, this is {release.mine()}: its workers refuse orders"
            )
        return f"{release.mine()} executes" if declared else "none was declared: no worker is fenced"

    return _tried("release", "finish the deployment: `manage.py setup`, then restart the workers", ask)


def everything() -> Iterator[Check]:
    """All of it, in the order in which faults cause each other."""
    yield from config()
    yield postgres()
    yield broker()
    yield migrations()
    yield database_role()
    yield releases()
    yield from canaries()
    for check in (feeds, stream, candle_gaps, disk, clocks):
        yield check()
    try:
        yield from gates()
    except Exception as error:  # the database is away, which has its own line
        yield Check("gate", False, f"not readable, so closed: {error}".splitlines()[0], "see postgres")
    yield from models()
    yield from ports()
