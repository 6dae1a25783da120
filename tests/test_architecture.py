"""Promises of the architecture, checked in the code."""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest
from django.apps import apps
from django.conf import settings
from django.db import models

from maxxit.core.config import ROOT
from maxxit.pipeline.stages import STAGES
from tests.tree import LAYERS, PACKAGES

MOST_LINES = 5_000
"""Of the modules of one package; what lies in a package below it counts there."""
TOP = {"console", "replay"}
FOREIGN = {"auth", "contenttypes", "admin", "sessions", "django_celery_beat"}


@cache
def sources() -> dict[str, str]:
    """Every file of the product: path from the root -> text."""
    found = sorted(
        path for app in PACKAGES for path in (ROOT / app).rglob("*.py") if "__pycache__" not in path.parts
    )
    return {str(path.relative_to(ROOT)): path.read_text() for path in found}


def lines(pattern: str, *, but: tuple[str, ...] = (), among: tuple[str, ...] = ("",)) -> list[str]:
    """`path:line` of each line of the product that matches, comments and the named files left out."""
    search = re.compile(pattern)
    return [
        f"{path}:{number}"
        for path, text in sources().items()
        if path.startswith(among) and not path.startswith(but) and "/migrations/" not in path
        for number, line in enumerate(text.splitlines(), start=1)
        if search.search(line) and not line.lstrip().startswith("#")
    ]


def layer(label: str) -> int:
    """How far down an app stands."""
    return next(number for number, labels in enumerate(LAYERS) if label in labels)


def own_models() -> Iterator[type[models.Model]]:
    for model in apps.get_models(include_auto_created=True):
        if model.__module__.split(".")[0] in PACKAGES:
            yield model


def relations() -> Iterator[tuple[type[models.Model], Any, type[models.Model]]]:
    for model in own_models():
        for field in model._meta.get_fields():
            if isinstance(field, models.ForeignKey | models.ManyToManyField):
                yield model, field, field.related_model


def test_no_package_is_too_large_to_read() -> None:
    sizes: Counter[str] = Counter()
    for path, text in sources().items():
        if "/migrations/" not in path:
            sizes[path.rpartition("/")[0]] += text.count("\n")
    assert {package: size for package, size in sizes.items() if size > MOST_LINES} == {}
    assert sizes["trading"] > 1_000


def test_the_other_lists_of_packages_are_the_same() -> None:
    listed = re.search(r"^PACKAGES := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert listed
    assert tuple(listed[1].split()) == PACKAGES
    door = (ROOT / "pyproject.toml").read_text().partition("One door out")[2]
    assert f"source_modules = {json.dumps(PACKAGES)}" in door


def test_foreign_keys_point_down_the_layers() -> None:
    seen, wrong = 0, []
    for model, field, target in relations():
        here, there = model._meta.app_label, target._meta.app_label
        seen += 1
        if here in TOP or there in FOREIGN:
            continue
        if layer(there) < layer(here):
            wrong.append(f"{model.__name__}.{field.name} -> {target.__name__}")

    assert wrong == []
    assert seen > 10


def test_no_state_is_set_but_by_record() -> None:
    assignments = []
    for path, text in sources().items():
        if path == "maxxit/events/record.py" or "/migrations/" in path:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.stmt | ast.expr):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign | ast.AugAssign):
                targets = [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and target.attr == "state":
                    assignments.append(f"{path}:{node.lineno} {ast.unparse(node)}")
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"update", "bulk_update"}:
                assert "state" not in {word.arg for word in node.keywords}, f"{path}:{node.lineno}"

    # `apply` takes over into the object in hand what its locked row says: nothing is written by it
    assert [one for one in assignments if not one.endswith("order.state = locked.state")] == []


SETTING_SQL = re.compile(r"\bSET\s+(?:\w+\.)?state\s*=|\bSET\b[^;]*?[,\s]state\s*=\s*'", re.IGNORECASE)


def test_no_statement_sets_a_state_but_the_sweep() -> None:
    found = {
        path for path, text in sources().items() if "/migrations/" not in path and SETTING_SQL.search(text)
    }

    # the measurement opens its own positions again, in a database of its own
    assert found <= {"positions/exits/sweep.py", "maxxit/ops/sweep_bench.py"}
    assert "positions/exits/sweep.py" in found


def test_httpx_is_imported_in_one_place() -> None:
    assert {one.partition(":")[0] for one in lines(r"^\s*(import|from) httpx\b")} == {"maxxit/core/http.py"}


DECIDES = (
    "agents/",
    "signals_app/",
    "trading/",
    "positions/",
    "maxxit/market/",
    "maxxit/events/",
    "maxxit/replay/",
)
SCREENS = (
    "signals_app/admin",
    "trading/admin",
    "positions/admin",
    "agents/admin",
    "maxxit/events/admin",
    "maxxit/market/admin",
)
OUTSIDE = (
    "maxxit/market/tasks.py",
    "maxxit/market/stream/",
    "trading/chain/",
    "trading/venues/safe/contract/",
)


def test_what_decides_asks_the_one_clock() -> None:
    pattern = r"\b(datetime\.(now|utcnow|today)|date\.today|timezone\.now|time\.time)\("

    assert lines(pattern, among=DECIDES, but=(*SCREENS, *OUTSIDE)) == []
    assert {one.partition(":")[0] for one in lines(pattern, among=("maxxit/core/",))} == {
        "maxxit/core/clock.py"
    }


def test_sql_that_decides_takes_its_moment_as_a_parameter() -> None:
    pattern = r"(?i)(?<![\w.])(now\(\)|current_timestamp|clock_timestamp\(\)|current_date)(?!\w)"

    assert lines(pattern, among=("signals_app/", "trading/", "positions/")) == []


AMOUNT = re.compile(r"price|amount|quantity|cash|pnl|equity|fee|notional|balance|loss$|filled")


def test_no_column_of_money_is_a_float_or_narrower_than_money() -> None:
    fields = [(f"{m.__name__}.{f.name}", f) for m in own_models() for f in m._meta.fields]
    floats = [name for name, f in fields if isinstance(f, models.FloatField)]
    narrow = [
        name
        for name, f in fields
        if isinstance(f, models.DecimalField)
        and AMOUNT.search(f.name)
        and not f.name.endswith("pct")
        and (f.max_digits, f.decimal_places) != (38, 18)
        and f.decimal_places  # whole base units, as a chain counts them
    ]

    assert [name for name in floats if name.split(".")[0] in MONEY] == []
    assert narrow == []


MONEY = {
    *(
        "Order",
        "Fill",
        "LedgerEntry",
        "LedgerBalance",
        "Position",
        "ProfitMark",
        "PnlSnapshot",
        "Signal",
        "Quote",
    ),
    *("Candle", "PaperOrder", "PaperFill", "PaperBalance", "Deployment", "Agent"),
}


def test_no_rule_of_money_computes_with_floats() -> None:
    kernels = (
        *(
            "trading/entries/sizing.py",
            "trading/risk/checks.py",
            "trading/ledger.py",
            "trading/risk/limits.py",
            "trading/settle.py",
        ),
        *("trading/execute.py", "trading/venues/paper.py"),
        *(
            "positions/performance/pnl.py",
            "positions/performance/trades.py",
            "positions/performance/lots.py",
            "positions/exits/levels.py",
            "positions/book.py",
            "positions/exits/sweep.py",
        ),
    )

    assert lines(r"\bfloat\(|::float|:\s*float\b", among=kernels) == []


def test_every_row_with_a_state_has_a_table_and_an_index_or_a_key() -> None:
    stateful = [m for m in own_models() if any(f.name == "state" for f in m._meta.fields)]

    assert {m.__name__ for m in stateful} >= {"Agent", "Deployment", "CtPost", "Signal", "Order", "Position"}
    assert [m.__name__ for m in stateful if not getattr(m, "MOVES", None)] == []


def recorded_names() -> set[str]:
    """Every event name that stands in the code as text, and those that states make."""
    texts = "\n".join(text for path, text in sources().items() if path != "maxxit/pipeline/stages.py")
    named = set(re.findall(r"\"([a-z_]+\.[a-z_]+)\"|'([a-z_]+\.[a-z_]+)'", texts))
    made = {"stage." + stage.name for stage in STAGES}
    for model in own_models():
        for state in getattr(model, "MOVES", {}):
            made.add(getattr(model, "EVENT_NAMES", {}).get(state, f"{model._meta.model_name}.{state}"))
    return {one for pair in named for one in pair} | made


@pytest.mark.parametrize("event", sorted(settings.WAKES))
def test_every_event_that_a_stage_waits_for_is_recorded_somewhere(event: str) -> None:
    assert event in recorded_names()


def test_no_room_is_called_utils() -> None:
    rooms = {Path(path).stem for path in sources()} | {
        part for path in sources() for part in Path(path).parts
    }

    assert rooms & {"utils", "helpers", "common", "services", "managers", "misc"} == set()


def test_no_behaviour_hides_in_django_signals() -> None:
    assert lines(r"(pre|post)_(save|delete|init)\b|m2m_changed") == []


def test_nothing_that_a_model_can_call_touches_the_gate() -> None:
    assert lines(r"\b(gate|KillSwitch|Approval)\b", among=("maxxit/llm/", "maxxit/knowledge/")) == []


def test_every_pass_of_a_stage_goes_through_run_stage() -> None:
    for stage in STAGES:
        module, _, name = stage.task.rpartition(".")
        tree = ast.parse(sources()[module.replace(".", "/") + ".py"])
        [function] = [
            node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == f"run_{name}"
        ]
        assert "run_stage(" in ast.unparse(function), stage.task


WEB3 = {"maxxit/evm/provider.py", "trading/venues/safe/library.py", "trading/venues/safe/onboarding.py"}
"""Modules that import web3 or safe-eth-py at their top; others import them inside functions, where they need them."""


def imported_at_the_top(text: str) -> set[str]:
    """Every module that a file imports when it is itself imported; `from a import b` as a and a.b."""
    found: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_web3_is_loaded_only_where_it_is_used() -> None:
    heavy = {"web3", "safe_eth", *(path.removesuffix(".py").replace("/", ".") for path in WEB3)}
    loading = {
        path
        for path, text in sources().items()
        if any(
            name in heavy or name.partition(".")[0] in ("web3", "safe_eth")
            for name in imported_at_the_top(text)
        )
    }

    assert loading == WEB3
    assert (
        lines(
            r"HTTPProvider|AutoProvider|\bWeb3\(\)|EthereumClient\(", but=("trading/venues/safe/library.py",)
        )
        == []
    )


def test_no_venue_is_asked_for_its_class() -> None:
    assert lines(r"isinstance\([^)]*Venue\b") == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    order = TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )

    order.prepare()  # raises CycleError, which names the circle


def test_no_plural_in_the_admin_is_misspelt() -> None:
    """Django appends an s to the name of a model."""
    wrong = [
        str(model._meta.verbose_name_plural)
        for model in own_models()
        if re.search(r"([^aeiou]ys|chs|shs|xs|sss)$", str(model._meta.verbose_name_plural), re.I)
        and not str(model._meta.verbose_name_plural).endswith("keys")
    ]
    assert wrong == []
