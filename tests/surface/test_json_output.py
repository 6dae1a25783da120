"""`--json` of every command prints JSON: run once, each command and subcommand, in the order of `RUNS`."""

import argparse
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, get_commands, load_command_class

from agents import following
from maxxit.bus.cursors import cursor_of
from maxxit.core.commands import PACKAGES
from maxxit.notify.models import PriceRule
from maxxit.pipeline import start
from tests import builders
from tests.surface.conftest import World
from trading import ledger

Words = Callable[[World, Path], list[str]]
ELSEWHERE = {
    "bench sweep": "tests/surface/test_bench.py, a process and a database",
    "calibrate-vol": "tests/learning/test_commands.py, candles of weeks",
    "replay": "tests/replay/test_replay.py, a database",
    "preview": "tests/replay/test_previews.py, a database",
    **{f"backtest {action}": "tests/backtest/test_command.py, a tape" for action in
       ("run", "compare", "check", "sweep", "optimise", "walk-forward")},
    **{f"backtest {action}": "tests/backtest/test_stored.py, a stored run" for action in
       ("list", "show", "plot", "delete", "save-agent")},
    "evaluate-classifier": "tests/llm/test_commands.py",
    "knowledge recall": "tests/knowledge/test_recall_command.py",
    **{f"readers {action}": "tests/signals_app/reading/test_readers_command.py, labelled posts" for action in
       ("train", "store", "explain")},
    **{f"comparisons {action}": "tests/signals_app/test_shadow.py, a comparison" for action in
       ("start", "show", "stop")},
    **{f"labels {action}": "tests/signals_app/test_labels.py, a labelled set" for action in
       ("show", "create", "add", "export", "import", "disagreements")},
    **{f"prompts {action}": "tests/llm/test_versions.py, a stored version" for action in
       ("diff", "create", "activate", "rollback")},
    **{f"models {action}": "tests/learning/test_commands.py, candles of weeks" for action in
       ("show", "train", "evaluate", "promote", "retire", "explain")},
    **{name: "tests/ops/test_backups.py, a folder and another database" for name in
       ("backup", "backup list", "backup drill", "restore")},
    **{f"workers {action}": "tests/ops/test_workers.py, running processes" for action in ("status", "start", "stop")},
    **{f"addresses {action}": "tests/chain/sending/test_transfers.py, a chain" for action in
       ("add", "list", "label", "remove")},
    **{f"twin {action}": "tests/positions/twin/test_command.py, a live venue" for action in
       ("list", "show", "compare", "gate-test")},
    **{f"chain deploy-{contract}": "tests/chain/sending/test_deploy.py, a chain" for contract in ("module", "router")},
    **{f"credentials {action}": "tests/trading/credentials/test_store.py, a venue with keys" for action in
       ("set", "test", "remove", "rotate", "new-key")},
    **{f"safe {action}": "tests/chain/sending/test_safes.py, a chain" for action in
       ("create", "plan", "limits", "verify", "revoke", "keystore", "executor")},
    **{name: "tests/surface/test_change_requests.py, a request and a shut gate" for name in
       ("approvals show", "approvals refuse", "approvals withdraw", "gate open")},
    **{f"perps {action}": "tests/trading/venues/gmx/test_onboarding.py, a chain" for action in
       ("plan", "verify", "show", "revoke")},
}  # fmt: skip


def posts(folder: Path) -> list[str]:
    line = {
        "id": "1",
        "username": "a",
        "created_at": "2017-12-01T00:03:00Z",
        "text": "buying $ETH here, long",
    }
    (folder / "posts.jsonl").write_text(json.dumps(line) + "\n")
    return ["--posts", str(folder / "posts.jsonl")]


def candles(folder: Path) -> list[str]:
    rows = [f"{1512086400000 + 300_000 * n},100,100,100,100,1" for n in range(400)]
    with gzip.open(folder / "candles-ETH-USD-5m.csv.gz", "wt") as out:
        out.write("\n".join(["open_time_ms,open,high,low,close,volume", *rows]) + "\n")
    return ["--candles", str(folder)]


def document(folder: Path) -> str:
    (folder / "a.md").write_text("# A\ntext")
    return str(folder / "a.md")


def kraken(folder: Path) -> list[str]:
    rows = [f"{1512086400 + 300 * n},100,100,100,100,1,1" for n in range(8)]
    (folder / "ETHUSD_5.csv").write_text("\n".join(rows) + "\n")
    return [str(folder / "ETHUSD_5.csv"), "--out", str(folder)]


def exported(folder: Path) -> list[str]:
    (folder / "tweets.csv").write_text("id,username,created_at,text\n1,a,2017-12-01T00:03:00Z,buying $ETH\n")
    return [str(folder / "tweets.csv"), "--out", str(folder / "out.jsonl")]


def letter(world: World) -> str:
    return f"post:{builders.post(world.of_alice.post.account, state='quarantined', attempts=3).pk}"


def owing(world: World) -> str:
    ledger.book_subscription(world.of_alice.deployment.pk, "test", Decimal(20))
    return str(world.of_alice.deployment.pk)


def due(world: World) -> str:
    return str(world.of_alice.deployment.billing_events.get().pk)


def cursor() -> str:
    return cursor_of("relay:redis", 0).name


def rule(_: World) -> str:
    return str(PriceRule.objects.latest("pk").rule_id)


def agent(world: World) -> str:
    return str(world.of_alice.agent.pk)


def deployment(world: World) -> str:
    return str(world.of_alice.deployment.pk)


def awaiting(world: World) -> str:
    by = builders.signal(world.of_alice.agent)
    return str(builders.order(world.of_alice.deployment, by=by, reason="awaiting_confirmation").pk)


RUNS: dict[str, Words] = {
    "safe show": lambda w, f: [],
    "activity": lambda w, f: [],
    "records list": lambda w, f: [],
    "records show": lambda w, f: [w.of_alice.post.account.x_username],
    "trade close": lambda w, f: [str(w.of_alice.open_position.pk)],
    "trade show": lambda w, f: [str(w.of_alice.position.pk)],
    "accounts add": lambda w, f: ["new"],
    "accounts check": lambda w, f: ["@new"],
    "accounts list": lambda w, f: [],
    "agents activate": lambda w, f: [agent(w)],
    "agents create": lambda w, f: ["alice", "Majors"],
    "agents edit": lambda w, f: [agent(w), "--sizing", "aggressive"],
    "agents list": lambda w, f: [],
    "agents pause": lambda w, f: [agent(w)],
    "agents show": lambda w, f: [agent(w)],
    "apikey create": lambda w, f: ["alice"],
    "apikey list": lambda w, f: [],
    "apikey revoke": lambda w, f: [w.key(w.alice)["x-api-key"][:10]],
    "approvals list": lambda w, f: ["--all"],
    "gate close": lambda w, f: ["paper", "--reason", "x"],
    "approve": lambda w, f: ["paper", "--reason", "x"],
    "authors backtest": lambda w, f: [*posts(f), *candles(f)],
    "authors update": lambda w, f: [],
    "chain": lambda w, f: ["--order", str(w.of_alice.exit.pk)],
    "chain check": lambda w, f: [],
    "credentials list": lambda w, f: [],
    "deployments activate": lambda w, f: [deployment(w)],
    "deployments check": lambda w, f: ["5000"],
    "deployments create": lambda w, f: [agent(w)],
    "deployments ask": lambda w, f: [deployment(w), "on"],
    "deployments limit": lambda w, f: [deployment(w), "--daily", "50", "--open", "none"],
    "deployments waiting": lambda w, f: [],
    "deployments confirm": lambda w, f: [awaiting(w)],
    "deployments decline": lambda w, f: [awaiting(w)],
    "deployments list": lambda w, f: [],
    "deployments pause": lambda w, f: [deployment(w)],
    "deployments show": lambda w, f: [deployment(w)],
    "deployments stop": lambda w, f: [deployment(w), "--reason", "x"],
    "deployments release": lambda w, f: [deployment(w), "--reason", "x"],
    "deployments revoke": lambda w, f: [str(w.of_bob.deployment.pk), "--yes"],
    "billing list": lambda w, f: [],
    "billing pay": lambda w, f: [owing(w), "5", "--reference", "r", "--yes"],
    "billing waive": lambda w, f: [due(w), "--reason", "x"],
    "billing run": lambda w, f: [],
    "billing show": lambda w, f: [str(w.of_alice.deployment.pk)],
    "dlq list": lambda w, f: [],
    "dlq redrive": lambda w, f: [letter(w)],
    "dlq show": lambda w, f: [letter(w)],
    "bus run": lambda w, f: [],
    "bus status": lambda w, f: [],
    "bus rewind": lambda w, f: [cursor(), "--after", "0"],
    "events export": lambda w, f: ["--file", str(f / "events.jsonl")],
    "events verify": lambda w, f: [str(f / "events.jsonl")],
    "events tail": lambda w, f: [],
    "doctor": lambda w, f: [],
    "exits off": lambda w, f: ["--reason", "x"],
    "exits on": lambda w, f: ["--reason", "x"],
    "exits run": lambda w, f: [],
    "exits status": lambda w, f: [],
    "exits watch": lambda w, f: [],
    "follow": lambda w, f: [agent(w), "another"],
    "candles import": lambda w, f: [*kraken(f)[:1], "--into", str(f / "DATA")],
    "candles gaps": lambda w, f: [str(f / "DATA")],
    "candles list": lambda w, f: [str(f / "DATA")],
    "candles verify": lambda w, f: [str(f / "DATA")],
    "import-candles": lambda w, f: kraken(f),
    "import-posts": lambda w, f: exported(f),
    "posts import": lambda w, f: [*exported(f)[:1], "--into", str(f / "DATA")],
    "posts list": lambda w, f: [str(f / "DATA")],
    "posts verify": lambda w, f: [str(f / "DATA")],
    "invite": lambda w, f: ["--days", "1"],
    "kill": lambda w, f: ["flatten", "--reason", "x"],
    "knowledge add": lambda w, f: [document(f)],
    "knowledge forget": lambda w, f: [document(f)],
    "knowledge retry": lambda w, f: [],
    "invoice": lambda w, f: [str(w.of_alice.deployment.pk)],
    "knowledge search": lambda w, f: ["text"],
    "knowledge stats": lambda w, f: [],
    "knowledge sweep": lambda w, f: [],
    "llm": lambda w, f: ["last", "-n", "1"],
    "lots": lambda w, f: ["--csv", str(f / "lots.csv")],
    "models gate-test": lambda w, f: ["--noise", "1", "--planted", "1"],
    "models list": lambda w, f: [],
    "comparisons list": lambda w, f: [],
    "comparisons run": lambda w, f: [],
    "labels list": lambda w, f: [],
    "prompts list": lambda w, f: [],
    "prompts show": lambda w, f: ["classify"],
    "prompts history": lambda w, f: [],
    "models night": lambda w, f: [],
    "models runs": lambda w, f: [],
    "models deploy": lambda w, f: ["--dry-run"],
    "models forecast": lambda w, f: [],
    "paper off": lambda w, f: [],
    "paper on": lambda w, f: [],
    "paper status": lambda w, f: [],
    "performance": lambda w, f: [],
    "pipeline run": lambda w, f: [],
    "pipeline runs": lambda w, f: [],
    "pipeline stage": lambda w, f: ["monitor"],
    "pnl": lambda w, f: [],
    "pnl eod": lambda w, f: [],
    "pnl explain": lambda w, f: [],
    "pnl rebuild": lambda w, f: ["--yes"],
    "pnl save": lambda w, f: [],
    "pnl today": lambda w, f: [],
    "pnl watch": lambda w, f: [],
    "pnl week": lambda w, f: [],
    "ops-snapshot": lambda w, f: ["--out", str(f / "now.md")],
    "portfolio": lambda w, f: [],
    "positions": lambda w, f: ["--stored"],
    "reconcile": lambda w, f: [],
    "resume": lambda w, f: ["--reason", "x"],
    "revoke": lambda w, f: ["paper"],
    "rules add": lambda w, f: ["--user", "alice", "--symbols", "BTC", "--any"],
    "rules endpoint": lambda w, f: ["--user", "alice", "--channel", "webhook", "--off"],
    "rules inbox": lambda w, f: ["--user", "alice"],
    "rules list": lambda w, f: [],
    "health": lambda w, f: [],
    "credentials new-push-key": lambda w, f: [],
    "login-info": lambda w, f: [],
    "portals": lambda w, f: [],
    "monitoring-status": lambda w, f: [],
    "verbs": lambda w, f: [],
    "version": lambda w, f: [],
    "logs": lambda w, f: [],
    "audit seal": lambda w, f: [],
    "audit list": lambda w, f: [],
    "audit verify": lambda w, f: [],
    "limits list": lambda w, f: [],
    "limits set": lambda w, f: ["max_trade_usd", "2000", "--reason", "test"],
    "limits unset": lambda w, f: ["max_trade_usd", "--reason", "test"],
    "transactions": lambda w, f: [],
    "notifications log": lambda w, f: ["--user", "alice"],
    "notifications set": lambda w, f: ["--user", "alice", "--quiet", "22:00-07:00"],
    "notifications show": lambda w, f: ["--user", "alice"],
    "notifications test": lambda w, f: ["--user", "alice", "--channel", "inbox"],
    "rules fire": lambda w, f: [rule(w)],
    "rules pause": lambda w, f: [rule(w)],
    "rules resume": lambda w, f: [rule(w)],
    "rules remove": lambda w, f: [rule(w)],
    "rules test": lambda w, f: [rule(w)],
    "rules webhook": lambda w, f: ["--user", "alice", "--off"],
    "statement": lambda w, f: [str(w.of_alice.deployment.pk)],
    "status": lambda w, f: [],
    "trades": lambda w, f: [],
    "unfollow": lambda w, f: [agent(w), "another"],
    "verify-alpaca": lambda w, f: [],
    "verify-venue": lambda w, f: ["safe"],
    "why": lambda w, f: ["--order", str(w.of_alice.blocked.pk)],
}


def with_json() -> set[str]:
    """Each command, or command and subcommand, that takes `--json`."""
    found = set()
    for name, app in get_commands().items():
        if str(app).split(".")[0] not in PACKAGES:
            continue
        parser = load_command_class(app, name).create_parser("manage.py", name)
        groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        parsers = {"": parser} | (groups[0].choices if groups else {})
        found |= {
            f"{name} {sub}".strip() for sub, one in parsers.items() if "--json" in one._option_string_actions
        }
    return found


def test_every_command_that_takes_json_is_run() -> None:
    assert RUNS.keys() | ELSEWHERE.keys() == with_json()
    assert not RUNS.keys() & ELSEWHERE.keys()


def test_json_is_one_line_of_json_and_nothing_else(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sent:
        id, parent = "task-5", None

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "post_sources", lambda: ("x",))
    monkeypatch.setattr(start.current_app, "send_task", lambda *_, **__: Sent())
    monkeypatch.setattr("celery.canvas._chain.apply_async", lambda _: Sent())
    monkeypatch.setattr("positions.management.commands.exits.time.sleep", interrupted)
    wrong = {}
    for name, words in RUNS.items():
        out = StringIO()
        try:
            call_command(*name.split(), *words(world, tmp_path), "--json", stdout=out, stderr=StringIO())
        except SystemExit:  # after they printed what is not well
            assert name in (
                "doctor",
                "health",
                "monitoring-status",
                "ops-snapshot",
                "portals",
                "reconcile",
                "pnl eod",
            )
        text = out.getvalue()
        try:
            found: Any = json.loads(text)
        except ValueError:
            found = None
        if found is None or text.count("\n") != 1:
            wrong[name] = text[:300]
    assert wrong == {}
