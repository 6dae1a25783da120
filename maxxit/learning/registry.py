"""The registry: train and store candidates, move them through their states, explain them.

Every change is one transaction, so a process that dies leaves the model that serves serving.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, models, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import advance, record
from maxxit.learning import gates, shadow
from maxxit.learning.gates import Verdict
from maxxit.learning.metrics import parse
from maxxit.learning.models import READING, TrainedModel
from maxxit.learning.states import ModelState
from maxxit.pipeline import release

if TYPE_CHECKING:
    from maxxit.learning.hours import Hours


def named(pk: int) -> TrainedModel:
    """Return the model. Raises Rejected where there is none."""
    found = TrainedModel.objects.filter(pk=pk).first()
    if found is None:
        raise Rejected(f"no model {pk}: `manage.py models list` shows them", code="no_model")
    return found


def serving(purpose: str, horizon: int) -> TrainedModel | None:
    """Return the model that serves."""
    return TrainedModel.objects.filter(
        purpose=purpose, horizon_hours=horizon, state=ModelState.SERVING
    ).first()


def counted_candidates(start: datetime, end: datetime) -> int:
    """Return how many direction candidates the stored models scored on data that overlap [start, end)."""
    rows = TrainedModel.objects.filter(purpose="direction", data_from__lt=end, data_to__gt=start)
    return int(rows.aggregate(models.Sum("tried"))["tried__sum"] or 0)


@dataclass(frozen=True)
class Trained:
    """The result of one training."""

    model: TrainedModel
    new: bool
    """False where the same fit was stored already: training can be repeated after a crash."""


def train(kind: str, horizon: int, series: "Sequence[Hours]", seed: int) -> Trained:
    """Fit a forecaster to all data, evaluate it by walk-forward, and store it as a candidate with its verdict.

    Raises Rejected where the data do not suffice.
    """
    from maxxit.learning import evaluate, sources  # numpy
    from maxxit.learning.forecasters import FORECASTERS

    forecaster = FORECASTERS.open(kind)
    start, end = sources.span(series)
    key = {
        "kind": kind,
        "horizon_hours": horizon,
        "data_sha256": sources.digest(series),
        "release": release.mine(),
        "seed": seed,
    }
    if (known := TrainedModel.objects.filter(**key).first()) is not None:
        return Trained(known, new=False)
    direction = forecaster.purpose == "direction"
    data = evaluate.gather(series, horizon, step=horizon if direction else 1)
    incumbent = serving(forecaster.purpose, horizon)
    measured: Any
    if direction:
        before = counted_candidates(start, end)
        measured = evaluate.direction(kind, data, seed=seed, counted_before=before)
    else:
        serves = evaluate.Incumbent(incumbent.pk, incumbent.kind, incumbent.parameters) if incumbent else None
        measured = evaluate.volatility(kind, data, seed=seed, incumbent=serves)
    row = TrainedModel(
        **key,
        purpose=forecaster.purpose,
        symbols=[hours.symbol for hours in series],
        data_from=start,
        data_to=end,
        tried=measured.candidates if direction else 1,
        parameters=forecaster.fit(data.rows),
        metrics=measured.model_dump(mode="json"),
        created_at=clock.now(),
    )
    row.checks = _json(verdict(row, incumbent))
    try:
        with transaction.atomic():
            row.save()
            record(
                "trained_model.candidate", row, kind=kind, horizon_hours=horizon, data_sha256=row.data_sha256
            )
    except IntegrityError:  # another process stored the same fit
        return Trained(TrainedModel.objects.get(**key), new=False)
    return Trained(row, new=True)


@dataclass(frozen=True)
class TrainedElsewhere:
    """A model that was fitted and measured outside this module, such as a reader of posts."""

    kind: str
    purpose: str
    symbols: list[str]
    data_from: datetime
    data_to: datetime
    data_sha256: str
    """Two models of one kind with the same hash are the same fit: it covers whatever of the fit the data leave open."""
    tried: int
    parameters: dict[str, Any]
    metrics: dict[str, Any]


def store(fitted: TrainedElsewhere) -> Trained:
    """Store a model as a candidate with its verdict; the same fit is stored once.

    Raises InvalidInput where its metrics are not those of its purpose.
    """
    key = {
        "kind": fitted.kind,
        "horizon_hours": 0,
        "data_sha256": fitted.data_sha256,
        "release": release.mine(),
        "seed": 0,
    }
    row = TrainedModel(
        **key,
        purpose=fitted.purpose,
        symbols=fitted.symbols,
        data_from=fitted.data_from,
        data_to=fitted.data_to,
        tried=fitted.tried,
        parameters=fitted.parameters,
        metrics=parse(fitted.purpose, fitted.metrics).model_dump(mode="json"),
        created_at=clock.now(),
    )
    row.checks = _json(verdict(row, serving(fitted.purpose, 0)))
    try:
        with transaction.atomic():
            row.save()
            record(
                "trained_model.candidate", row, kind=row.kind, horizon_hours=0, data_sha256=row.data_sha256
            )
    except IntegrityError:
        return Trained(TrainedModel.objects.get(**key), new=False)
    return Trained(row, new=True)


def verdict(row: TrainedModel, incumbent: TrainedModel | None = None) -> Verdict:
    """Judge a model's stored metrics. Raises InvalidInput where a field is missing.

    Args:
        incumbent: the model that serves now.
    """
    refresh = incumbent is not None and incumbent.kind == row.kind
    found = parse(row.purpose, row.metrics)
    return gates.judge(found, row.purpose, refresh=refresh, serving=incumbent.pk if incumbent else None)


def shadow_verdict(row: TrainedModel) -> Verdict:
    """Judge what a direction model forecast while in shadow."""
    found = shadow.results(row)
    return gates.judge_shadow(found.days, found.trades, found.net_return)


def next_step(row: TrainedModel) -> tuple[ModelState | None, Verdict | None]:
    """Return the state that a model may move to next with the verdict that it needs; None where there is none."""
    state = ModelState(row.state)
    incumbent = serving(row.purpose, row.horizon_hours)
    if state == ModelState.CANDIDATE:
        return ModelState.SHADOW, verdict(row, incumbent)
    if state == ModelState.SHADOW:
        return ModelState.APPROVED, shadow_verdict(row) if row.purpose == "direction" else verdict(
            row, incumbent
        )
    if state == ModelState.APPROVED:
        return ModelState.SERVING, None
    if state == ModelState.RETIRED and row.served_at is not None:
        return ModelState.APPROVED, None
    return None, None


def promote(row: TrainedModel, *, by: str, why: str = "", person: bool = True) -> list[str]:
    """Move a model as far towards serving as its gates allow; return the states that it entered.

    Without a person a model stops in shadow, except a newer fit of the volatility model that serves: a person approved
    that kind. A retired model that served before serves again. The model that served until now is retired in the same
    transaction.

    Raises Rejected with the check that failed, its value and its limit, where the model cannot move at all.
    """
    entered: list[str] = []
    with transaction.atomic():
        while True:
            target, found = next_step(row)
            if target is None:
                break
            if found is not None and not found.passed:
                if entered:
                    break
                failed = next(check for check in found.checks if not check.passed)
                raise Rejected(
                    f"model {row.pk} ({row}) is not promoted: {failed.name} is {failed.value}, the limit is "
                    f"{failed.limit}",
                    code=failed.name,
                )
            if target == ModelState.APPROVED and not person and not _is_refresh(row):
                break
            _enter(row, target, found, by, why)
            entered.append(target)
    if not entered:
        raise Rejected(
            f"model {row.pk} ({row}) is {row.state} and cannot move: one in shadow waits for "
            "`manage.py models promote`, a retired one must have served before",
            code="no_step",
        )
    return entered


def _is_refresh(row: TrainedModel) -> bool:
    """Return whether a volatility model is a newer fit of the same kind as the one that serves."""
    incumbent = serving(row.purpose, row.horizon_hours)
    return row.purpose == "volatility" and incumbent is not None and incumbent.kind == row.kind


def _enter(row: TrainedModel, target: ModelState, found: Verdict | None, by: str, why: str) -> None:
    fields: dict[str, Any] = {} if found is None else {"checks": _json(found)}
    now = clock.now()
    if target == ModelState.SHADOW:
        fields["shadow_at"] = now
    if target == ModelState.APPROVED:
        fields["approved_by"] = by
    if target == ModelState.SERVING:
        fields["served_at"] = now
        incumbent = serving(row.purpose, row.horizon_hours)
        if incumbent is not None:
            advance(incumbent, ModelState.RETIRED, why=f"replaced by model {row.pk}", data={"by": by})
    advance(row, target, why=why or "passed its gate", data={"by": by}, **fields)


def retire(row: TrainedModel, *, by: str, why: str) -> None:
    """Take a model out of use. Raises Rejected where it is retired already."""
    if row.state == ModelState.RETIRED:
        raise Rejected(f"model {row.pk} ({row}) is retired already", code="no_step")
    advance(row, ModelState.RETIRED, why=why, data={"by": by})


def candidates() -> list[TrainedModel]:
    """Return what the morning deployer looks at: the newest candidate of each kind and horizon, and later states.

    Readers of posts are not among them: a person moves them.
    """
    forecasting = TrainedModel.objects.exclude(purpose=READING)
    newest = (
        forecasting.filter(state=ModelState.CANDIDATE)
        .order_by("kind", "horizon_hours", "-pk")
        .distinct("kind", "horizon_hours")
    )
    later = forecasting.filter(state__in=[ModelState.SHADOW, ModelState.APPROVED]).order_by("pk")
    return [*newest, *later]


def superseded_by(row: TrainedModel) -> list[TrainedModel]:
    """Return the older models of the same kind and horizon that do not serve and are not retired."""
    waiting = [ModelState.CANDIDATE, ModelState.SHADOW, ModelState.APPROVED]
    same = TrainedModel.objects.filter(
        purpose=row.purpose, kind=row.kind, horizon_hours=row.horizon_hours, state__in=waiting
    )
    return list(same.filter(pk__lt=row.pk).order_by("pk"))


def _json(found: Verdict) -> list[dict[str, str | bool]]:
    return [check.as_json() for check in found.checks]
