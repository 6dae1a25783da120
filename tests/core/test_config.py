"""Policy from YAML: a wrong key, unit or a missing limit stops the program with a message that helps."""

import shutil
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agents.seed import SeedData
from maxxit.core import config
from maxxit.core.config import ROOT, BasisPoints, Fraction, Percent, Policy
from maxxit.core.errors import Misconfigured
from maxxit.core.registry import Registry
from maxxit.core.terms import ExitPreset
from maxxit.market.quotes import _Feeds
from maxxit.market.venues import _Venues
from maxxit.pipeline.schedule import _Schedule
from signals_app.policy import SignalsPolicy
from trading.chain.chains import _Chains
from trading.risk.policy import RiskPolicy

read: Any = config._read.__wrapped__  # as often as we like, without its memory


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "config"
    shutil.copytree(ROOT / "config", copy)
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(copy))
    monkeypatch.setenv("MAXXIT_PROFILE", "")
    return copy


def change(path: Path, *keys: str, to: Any = None, drop: bool = False) -> None:
    """Set or drop one key of a YAML file."""
    values = yaml.load(path.read_text(), yaml.CSafeLoader)
    place = values
    for key in keys[:-1]:
        place = place[key]
    if drop:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    path.write_text(yaml.dump(values, Dumper=yaml.CSafeDumper))


def paths(values: Any, *, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every leaf of nested mappings."""
    if not isinstance(values, dict):
        return [above]
    return [path for key, value in values.items() for path in paths(value, above=(*above, key))]


RISK = yaml.safe_load((ROOT / "config" / "risk.yaml").read_text()) | {
    "exits": yaml.safe_load((ROOT / "config" / "exits.yaml").read_text())
}


def change_limit(folder: Path, *path: str, to: Any = None, drop: bool = False) -> None:
    """Set or drop one key of the risk policy in the file that holds it."""
    file, keys = ("exits.yaml", path[1:]) if path[0] == "exits" else ("risk.yaml", path)
    change(folder / file, *keys, to=to, drop=drop)


LIMITS = [path for path in paths(RISK) if path[0] != "exits" or path[-1] == "max_holding_minutes"]
PERCENTS = [path for path in paths(RISK) if path[-1].endswith("_pct")]


@pytest.mark.parametrize("path", LIMITS, ids=".".join)
def test_a_limit_that_is_missing_refuses_to_start_and_names_itself(
    folder: Path, path: tuple[str, ...]
) -> None:
    change_limit(folder, *path, drop=True)

    with pytest.raises(Misconfigured, match=path[-1]) as refused:
        read("risk", RiskPolicy)
    assert f"{'exits' if path[0] == 'exits' else 'risk'}.yaml" in str(refused.value)


@pytest.mark.parametrize(
    "path", [("sizing", "moderate"), ("exits", "signal"), ("exits", "aggressive")], ids=".".join
)
def test_a_preset_that_is_missing_refuses_to_start(folder: Path, path: tuple[str, ...]) -> None:
    change_limit(folder, *path, drop=True)

    with pytest.raises(Misconfigured, match=path[-1]):
        read("risk", RiskPolicy)


@pytest.mark.parametrize("path", PERCENTS, ids=".".join)
@pytest.mark.parametrize("wrong", [0.03, 0, -1, 101, "nan", float("inf")])
def test_a_fraction_where_a_percent_is_meant_is_refused(
    folder: Path, path: tuple[str, ...], wrong: Any
) -> None:
    change_limit(folder, *path, to=wrong)

    with pytest.raises(Misconfigured, match=path[-1]):
        read("risk", RiskPolicy)


@pytest.mark.parametrize("path", [path for path in LIMITS if not path[-1].endswith("_pct")], ids=".".join)
@pytest.mark.parametrize("wrong", [-1, None, "off", float("nan"), [], {}])
def test_a_limit_is_a_positive_number_and_never_off(folder: Path, path: tuple[str, ...], wrong: Any) -> None:
    if path in (("allow_add_to_position",), ("risk_score", "enabled")) and wrong in ("off", -1):
        return  # a switch, for which `off` is a word
    change_limit(folder, *path, to=wrong)

    with pytest.raises(Misconfigured, match=path[-1]):
        read("risk", RiskPolicy)


def test_the_exits_may_still_stand_in_risk_yaml(folder: Path) -> None:
    change(folder / "risk.yaml", "exits", to={"signal": {"hard_stop_pct": 7}})
    exits = read("risk", RiskPolicy).exits

    assert (exits[ExitPreset.SIGNAL].hard_stop_pct, exits[ExitPreset.SIGNAL].max_holding_minutes) == (
        7,
        10080,
    )
    assert exits[ExitPreset.MODERATE].max_holding_minutes == 60

    whole = yaml.safe_load((folder / "exits.yaml").read_text())
    (folder / "exits.yaml").unlink()
    change(folder / "risk.yaml", "exits", to=whole)
    assert read("risk", RiskPolicy).exits[ExitPreset.MODERATE].max_holding_minutes == 60
    change(folder / "risk.yaml", "exits", drop=True)
    with pytest.raises(Misconfigured, match=r"exits\.yaml is missing"):
        read("risk", RiskPolicy)


def test_a_profile_overrides_one_exit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", "replay")
    profile = folder / "profiles" / "replay" / "exits.yaml"
    profile.write_text("signal: {hard_stop_pct: 7}\n")
    assert read("risk", RiskPolicy).exits[ExitPreset.SIGNAL].hard_stop_pct == 7
    profile.write_text("signal: {hard_stop: 7}\n")
    with pytest.raises(
        Misconfigured, match=r"profiles/replay/exits\.yaml: signal\.hard_stop: no such key; did you"
    ):
        read("risk", RiskPolicy)


@pytest.mark.parametrize("half", ["trailing_activation_pct", "trailing_pct"])
def test_half_a_trailing_stop_is_refused(folder: Path, half: str) -> None:
    change_limit(folder, "exits", "signal", half, drop=True)

    with pytest.raises(Misconfigured, match="give both or neither"):
        read("risk", RiskPolicy)


FILES: dict[str, Any] = {
    "risk": RiskPolicy,
    "signals": SignalsPolicy,
    "feeds": _Feeds,
    "venues": _Venues,
    "schedule": _Schedule,
    "agents": SeedData,
}


@pytest.mark.parametrize("profile", ["", "demo", "replay"])
@pytest.mark.parametrize("name", FILES)
def test_the_files_of_every_profile_are_valid(
    folder: Path, name: str, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", profile)

    assert read(name, FILES[name])


@pytest.mark.parametrize("name", ["risk", "signals", "feeds", "agents"])
def test_an_unknown_key_is_refused_by_name(folder: Path, name: str) -> None:
    change(folder / f"{name}.yaml", "max_oders_per_minute", to=5)

    with pytest.raises(Misconfigured, match="max_oders_per_minute"):
        read(name, FILES[name])


def test_a_missing_file_is_named_with_the_fix(folder: Path) -> None:
    (folder / "risk.yaml").unlink()

    with pytest.raises(Misconfigured, match=r"risk\.yaml is missing: restore it"):
        read("risk", RiskPolicy)


def test_a_file_that_is_not_yaml_is_named(folder: Path) -> None:
    (folder / "risk.yaml").write_text("account: [1, 2")

    with pytest.raises(Misconfigured, match=r"risk\.yaml is not YAML"):
        read("risk", RiskPolicy)


def test_a_profile_is_laid_over_the_plain_file_key_by_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "profiles" / "demo" / "risk.yaml").write_text("account: {max_open_orders: 7}\n")
    monkeypatch.setenv("MAXXIT_PROFILE", "demo")
    found = read("risk", RiskPolicy)

    assert (found.account.max_open_orders, found.account.max_orders_per_minute) == (7, 5)


@pytest.mark.parametrize(
    ("over", "key", "file"),
    [
        (
            "account: {max_open_order: 7}",
            "account.max_open_order: no such key; did you mean max_open_orders",
            "demo",
        ),
        ("max_trade: 7", "max_trade: no such key; did you mean max_trade_usd", "demo"),
        ("symbols: {ETH: {cooldown_seconds: 7}}", "did you mean cooldown_seconds_per_symbol", "demo"),
        ("max_trade_usd: 7", "price_band_pct", "plain"),
    ],
)
def test_a_wrong_key_is_named_with_the_file_that_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, over: str, key: str, file: str
) -> None:
    profile = folder / "profiles" / "demo" / "risk.yaml"
    profile.write_text(over)
    if file == "plain":
        change(folder / "risk.yaml", "price_band_pct", to=0)
    monkeypatch.setenv("MAXXIT_PROFILE", "demo")

    with pytest.raises(Misconfigured, match=key) as refused:
        read("risk", RiskPolicy)
    assert str(refused.value).startswith(f"{profile if file == 'demo' else folder / 'risk.yaml'}: ")


def test_a_misspelt_limit_of_a_safes_plan_is_refused(folder: Path) -> None:
    path = folder / "chains.yaml"
    path.write_text(path.read_text().replace("  loss_budget:", "  los_budget:"))

    with pytest.raises(Misconfigured, match=r"policy\.los_budget: no such key; did you mean loss_budget"):
        read("chains", _Chains)


@pytest.mark.parametrize("second", ["max_trade_usd: 9000000", "account: {max_open_orders: 1}"])
def test_a_key_that_stands_twice_is_refused(folder: Path, second: str) -> None:
    path = folder / "risk.yaml"
    path.write_text(f"{path.read_text()}\n{second}\n")

    with pytest.raises(Misconfigured, match=rf"the key {second.partition(':')[0]} appears twice"):
        read("risk", RiskPolicy)


def test_a_profile_may_use_the_old_name_of_a_file_that_was_renamed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (former,) = (old for old, name in config.RENAMED.items() if name == "agents")
    new = folder / "profiles" / "demo" / "agents.yaml"
    wanted = yaml.safe_load(new.read_text())["agents"][0]["name"]
    new.rename(new.with_name(f"{former}.yaml"))
    monkeypatch.setenv("MAXXIT_PROFILE", "demo")

    config.check_profile("demo")

    assert read("agents", SeedData).agents[0].name == wanted


def test_a_profile_file_that_lies_over_nothing_is_refused(folder: Path) -> None:
    (folder / "profiles" / "demo" / "riks.yaml").write_text("max_trade_usd: 7\n")

    with pytest.raises(Misconfigured, match=r"riks\.yaml overrides no file .*did you mean risk\.yaml"):
        config.check_profile("demo")


def test_an_unknown_profile_is_refused_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no profile 'prod'.*demo, .*replay"):
        config.use_profile("prod")


def test_a_profile_cannot_change_under_policies_in_use() -> None:
    config.load("risk", RiskPolicy)

    with pytest.raises(Misconfigured, match="set MAXXIT_PROFILE=demo before starting"):
        config.use_profile("demo")


def test_the_seeds_limits_are_the_defaults() -> None:
    found = read("risk", RiskPolicy)

    assert (found.account.max_orders_per_minute, found.account.max_orders_per_symbol_per_day) == (5, 3)
    assert (found.account.max_open_orders, found.account.cooldown_seconds_per_symbol) == (20, 900)
    assert (found.account.max_total_exposure_usd, found.account.max_symbol_exposure_usd) == (50_000, 10_000)
    assert (found.platform.max_orders_per_minute, found.platform.max_open_orders) == (
        6000,
        2000,
    )  # for 1,000 customers
    assert found.fees.trade.text() == "flat amount_usdc=0.2"
    assert not found.allow_add_to_position


@pytest.mark.parametrize(
    ("preset", "take", "stop", "minutes"),
    [("conservative", "2.0", "1.0", 240), ("moderate", "1.0", "0.5", 60), ("aggressive", "0.5", "0.25", 30)],
)
def test_the_exit_presets_are_the_runbooks_in_percent(
    preset: Any, take: str, stop: str, minutes: int
) -> None:
    rules = read("risk", RiskPolicy).exits[preset]

    assert (rules.take_profit_pct, rules.stop_loss_pct) == (Decimal(take), Decimal(stop))
    assert rules.max_holding_minutes == minutes


class Units(Policy):
    """One of each unit."""

    percent: Percent = Decimal(1)
    fraction: Fraction = Decimal(0)
    points: BasisPoints = 0


@given(st.decimals(min_value=-1000, max_value=1000, places=4))
def test_a_percent_is_0_1_to_100_and_a_fraction_0_to_1(value: Decimal) -> None:
    for kind, low, high in ((Percent, Decimal("0.1"), 100), (Fraction, 0, 1)):
        if low <= value <= high:
            assert TypeAdapter(kind).validate_python(value) == value
        else:
            with pytest.raises(ValidationError):
                TypeAdapter(kind).validate_python(value)


@given(st.floats(0.1, 100).map(lambda x: float(f"{x:.12g}")))
def test_a_number_of_the_yaml_file_arrives_as_it_was_written(value: float) -> None:
    found = Units.model_validate(config._floats_to_text({"percent": value}))

    assert found.percent == Decimal(repr(value))


def test_a_policy_never_changes_after_loading() -> None:
    with pytest.raises(ValidationError):
        Units().percent = Decimal(2)  # type: ignore[misc]


class Plug:
    """An adapter."""

    def __init__(self, *, size: int) -> None:
        self.size = size


PLUGS: Registry[Plug] = Registry("plug", {"plain": "tests.core.test_config.Plug"})


def test_an_adapter_is_opened_with_its_options() -> None:
    assert PLUGS.open("plain", size=3).size == 3


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("round", {}, "no plug named 'round'; known: plain"),
        ("plain", {"size": 1, "colour": 2}, "plug 'plain'.*colour"),
        ("plain", {}, "plug 'plain'.*size"),
    ],
)
def test_an_unknown_adapter_or_option_is_refused_by_name(
    name: str, options: dict[str, int], told: str
) -> None:
    with pytest.raises(Misconfigured, match=told):
        PLUGS.open(name, **options)


def test_what_a_stanza_names_in_the_environment_comes_without_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", " abc\n")  # as a secret's file ends

    assert (config.variable("SOME_KEY"), config.variable("NOT_SET"), config.variable("")) == ("abc", "", "")


def test_a_token_that_no_exchange_of_ours_trades_counts_as_illiquid() -> None:
    markets = yaml.safe_load((ROOT / "config" / "markets.yaml").read_text())["instruments"]
    traded = yaml.safe_load((ROOT / "config" / "feeds.yaml").read_text())["feeds"]["coinbase"]["ids"]

    assert {name for name, one in markets.items() if one.get("illiquid")} == set(markets) - set(traded)


def test_an_overlay_lies_over_base_file_and_profile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", "demo")
    monkeypatch.setenv(config.OVERLAY, "")
    monkeypatch.setattr(config, "_read", cache(read))
    assert read("feeds", _Feeds).order == ("demo",)

    config.lay_over("preview")
    assert read("feeds", _Feeds).order == ()
    with pytest.raises(Misconfigured, match=r"overlays/other is missing"):
        config.lay_over("other")
