"""`manage.py models`."""

import gzip
import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from maxxit.learning import worlds

pytestmark = pytest.mark.django_db


def run(*words: str) -> Any:
    out = StringIO()
    call_command("models", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five-minute bars of two tokens for forty days, made of a world's hours."""
    folder = tmp_path_factory.mktemp("candles")
    for symbol, hours in zip(("BTC", "ETH"), worlds.world(5, 40), strict=False):
        random = np.random.default_rng(1)
        steps = random.standard_normal((len(hours), 12)) * np.sqrt(hours.variance / 12)[:, None]
        close = 100 * np.exp(np.cumsum(steps.ravel()))
        rows = [
            f"{(hours.first * 3600 + 300 * n) * 1000},{one:.6f},{one:.6f},{one:.6f},{one:.6f},1"
            for n, one in enumerate(close)
        ]
        with gzip.open(folder / f"candles-{symbol}-USD-5m.csv.gz", "wt") as out:
            out.write("\n".join(["open_time_ms,open,high,low,close,volume", *rows]) + "\n")
    return folder


def test_a_model_from_training_to_retirement(candles: Path) -> None:
    trained = run("train", "--candles", str(candles), "--horizon", "6")
    pk = str(trained["id"])
    assert (trained["state"], trained["new"]) == ("candidate", True)
    assert not run("train", "--candles", str(candles), "--horizon", "6")["new"]
    assert [row["id"] for row in run("list", "--state", "candidate")] == [trained["id"]]
    shown = run("show", pk)
    assert shown["symbols"] == ["BTC", "ETH"]
    assert {"coefficients", "z"} == shown["parameters"].keys()
    explained = run("explain", pk)
    assert explained["next"] == "shadow"
    assert {check["name"] for check in explained["checks"]} >= {"purpose", "skill_over_ewma", "coverage_80"}
    if trained["held_back_by"]:
        with pytest.raises(CommandError, match="the limit is"):
            run("promote", pk)
    assert run("retire", pk, "--reason", "drill")["state"] == "retired"


def test_the_skill_table(candles: Path) -> None:
    kinds = ("--kind", "har", "--kind", "ridge")
    har, ridge = run("evaluate", "--candles", str(candles), "--horizon", "6", *kinds)
    assert (har["kind"], har["baseline"], har["purpose"]) == ("har", "ewma", "volatility")
    assert (ridge["kind"], ridge["purpose"]) == ("ridge", "direction")


def test_what_cannot_be_evaluated_stops_no_other(candles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    har, boosted, tft, *directions = run("evaluate", "--candles", str(candles), "--horizon", "1")
    assert "refused" not in har
    assert "pip install -r requirements-train.txt" in boosted["refused"]
    assert "pip install -r requirements-tft.txt" in tft["refused"]
    assert [row["kind"] for row in directions] == ["ridge", "dqn", "ppo"]
    for row in directions:
        assert "a direction model needs a horizon of at least 2 h, not 1 h" in row["refused"]
    with pytest.raises(SystemExit):
        run("evaluate", "--candles", str(candles), "--horizon", "1", "--kind", "ridge")
    with pytest.raises(CommandError, match="at least 2 h"):
        run("train", "--candles", str(candles), "--horizon", "1", "--kind", "ridge")


def test_wrong_input_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="expected names like candles-BTC"):
        run("train", "--candles", str(tmp_path))
    with pytest.raises(CommandError, match=r"no candles are stored: `manage.py backfill`"):
        run("train")
    with pytest.raises(CommandError, match="models list"):
        run("show", "99")


def test_the_methods_of_volatility_bands_are_compared(candles: Path) -> None:
    out = StringIO()
    words = ("--symbol", "btc", "--symbol", "SOL", "--candles", str(candles))
    call_command("calibrate-vol", *words, "--json", stdout=out)
    data = json.loads(out.getvalue())
    assert [fit["method"] for fit in data["symbols"]["BTC"]] == ["std", "ewma", "atr", "garch", "har"]
    assert data["left_out"] == {"SOL": "SOL: no hour of bars"}
    assert data["best"] in ("std", "ewma", "atr", "garch", "har")
    assert data["volatility_band"]["method"] in ("std", "ewma", "atr")
    assert data["in_use"] == {"method": "std", "multiplier": "2.0"}
    out = StringIO()
    call_command("calibrate-vol", *words, stdout=out)
    assert "Of what config/risk.yaml takes, use volatility_band: {method: " in " ".join(
        out.getvalue().split()
    )


def test_without_bars_no_band_is_recommended(candles: Path) -> None:
    with pytest.raises(CommandError, match="no symbol has enough hours of bars: load more with `manage"):
        call_command("calibrate-vol", "--symbol", "SOL", "--candles", str(candles))
