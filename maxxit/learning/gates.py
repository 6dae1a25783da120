"""The promotion gates: typed metrics in, a list of checks with value and limit out. Pure.

A pinball gate alone promotes noise: a model that learned volatility beats a naive baseline on random walks. So a
volatility model never decides a side, and a direction model must show skill in location.
The reasons behind each limit are in docs/models.md.
"""

from dataclasses import dataclass

from maxxit.learning.metrics import DirectionMetrics, Metrics, ReadingMetrics, VolatilityMetrics

COST = 0.0030
"""Fraction of the traded amount for opening and closing a trade (30 bp)."""
COVERAGE_80, COVERAGE_90 = (0.75, 0.85), (0.85, 0.95)
LEAST_DEFLATED_SHARPE = 0.95
LEAST_POSITIVE_FOLDS = 3
LEAST_DAYS, LEAST_TRADES = 180, 100
SHADOW_DAYS, SHADOW_TRADES = 30, 30
REFRESH_MARGIN_PCT = -1.0
"""A newer fit of the model that serves need not beat it; its loss may be no more than this percentage higher."""
LEAST_CALLS = 50
"""Labelled calls without which a reader's figures say too little."""
LEAST_PRECISION, LEAST_RECALL, LEAST_SIDE_ACCURACY, MOST_CALIBRATION_ERROR = 0.70, 0.50, 0.97, 0.08
"""Of a reader, on authors it was not fitted to."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a gate."""

    name: str
    value: str
    """The measured value."""
    limit: str
    passed: bool

    def as_json(self) -> dict[str, str | bool]:
        return {"name": self.name, "value": self.value, "limit": self.limit, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a gate."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed; a gate without a check passes nothing."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The name of the first check that failed; empty where all passed."""
        return next((check.name for check in self.checks if not check.passed), "")


def judge(metrics: Metrics, purpose: str, *, refresh: bool = False, serving: int | None = None) -> Verdict:
    """Return the verdict on a candidate for `purpose`: metrics of another purpose never pass.

    Args:
        refresh: the candidate is a newer fit of the same kind of model as the one that serves.
        serving: id of the model of this purpose that serves; a volatility model must have been compared with that one.
    """
    same = Check("purpose", metrics.purpose, purpose, metrics.purpose == purpose)
    if not same.passed:
        return Verdict((same,))
    if isinstance(metrics, VolatilityMetrics):
        return Verdict((same, *_volatility(metrics, refresh, serving)))
    if isinstance(metrics, ReadingMetrics):
        return Verdict((same, *_reading(metrics)))
    return Verdict((same, *_direction(metrics)))


def _above(name: str, value: float, limit: float, unit: str = "") -> Check:
    return Check(name, f"{value:.6g}{unit}", f"> {limit:g}{unit}", value > limit)


def _least(name: str, value: float, limit: float) -> Check:
    return Check(name, f"{value:.6g}", f">= {limit:g}", value >= limit)


def _volatility(found: VolatilityMetrics, refresh: bool, serving: int | None) -> list[Check]:
    checks = [_above(f"skill_over_{found.baseline}", found.skill_low_pct, 0.0, " %")]
    compared = found.incumbent if found.incumbent and found.incumbent.model == serving else None
    if compared is not None:
        limit = REFRESH_MARGIN_PCT if refresh else 0.0
        checks.append(_above("skill_over_incumbent", compared.low_pct, limit, " %"))
    elif serving is not None:
        other = f"compared with model {found.incumbent.model}" if found.incumbent else "not compared"
        checks.append(
            Check(
                "skill_over_incumbent",
                other,
                f"compared with model {serving}, which serves: train again on newer data",
                False,
            )
        )
    for name, shares, (low, high) in (
        ("coverage_80", found.coverage_80, COVERAGE_80),
        ("coverage_90", found.coverage_90, COVERAGE_90),
    ):
        inside = all(low <= share <= high for share in shares)
        checks.append(
            Check(
                name, " ".join(f"{share:.3f}" for share in shares), f"{low} to {high} in every fold", inside
            )
        )
    if compared is not None:
        limit = compared.qlike * (1.01 if refresh else 1)
        checks.append(Check("qlike", f"{found.qlike:.6g}", f"<= {limit:.6g}", found.qlike <= limit))
    return checks


def _direction(found: DirectionMetrics) -> list[Check]:
    positive = sum(one > 0 for one in found.fold_returns)
    enough = found.days >= LEAST_DAYS and found.trades >= LEAST_TRADES
    return [
        Check(
            "insufficient_history",
            f"{found.days:.0f} days, {found.trades} trades",
            f">= {LEAST_DAYS} days, >= {LEAST_TRADES} trades",
            enough,
        ),
        _above("location_skill", found.location_low, 0.0),
        _least("deflated_sharpe", found.deflated_sharpe, LEAST_DEFLATED_SHARPE),
        Check("positive_folds", f"{positive} of {len(found.fold_returns)}", f">= {LEAST_POSITIVE_FOLDS}",
              positive >= LEAST_POSITIVE_FOLDS),
        Check("static_side", f"{found.total_return:.4f}", f"> {found.static_return:.4f}",
              found.total_return > found.static_return),
    ]  # fmt: skip


def _reading(found: ReadingMetrics) -> list[Check]:
    return [
        Check("insufficient_labels", f"{found.calls} calls", f">= {LEAST_CALLS} calls", found.calls >= LEAST_CALLS),
        _least("recall", found.recall, LEAST_RECALL),
        _least("precision", found.precision, LEAST_PRECISION),
        _least("side_accuracy", found.side_accuracy, LEAST_SIDE_ACCURACY),
        Check("calibration_error", f"{found.calibration_error:.6g}", f"<= {MOST_CALIBRATION_ERROR:g}",
              found.calibration_error <= MOST_CALIBRATION_ERROR),
    ]  # fmt: skip


def judge_shadow(days: float, trades: int, net_return: float) -> Verdict:
    """Return whether a direction model was long enough in shadow: what it would have traded, and what that paid."""
    return Verdict(
        (
            _least("shadow_days", days, SHADOW_DAYS),
            _least("shadow_trades", trades, SHADOW_TRADES),
            _above("shadow_return", net_return, 0.0),
        )
    )
