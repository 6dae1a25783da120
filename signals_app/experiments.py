"""Evaluations and comparisons of readers as experiments that exporters send (`maxxit.llm.export`)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from maxxit.llm.exporters.experiment import Experiment, Item
from signals_app import comparison
from signals_app.models import Comparison
from signals_app.reading.evaluation import SIDES, Judged, judge, metrics

SIDE_OF = {sentiment: side for side, sentiment in SIDES.items()}
FIGURES = ("precision", "recall", "side_accuracy", "calibration_error", "calibration_error_of_posts")


def of_evaluation(
    judged: Sequence[Judged], *, dataset: str, reader: str, prompt: str, at: datetime, cost_usd: str
) -> Experiment:
    """Return a reader's evaluation on labelled posts: an item is right where tokens and sides are the label's.

    Args:
        dataset: name of the labelled posts.
        reader: what read them.
        prompt: its version; empty: the active one, or none.
        cost_usd: of the whole evaluation, a decimal string.
    """
    measured = metrics(judged)
    figures = {name: float(getattr(measured, name)) for name in FIGURES}
    if (f1 := judge(judged).classes["candidate"].f1) is not None:
        figures["f1"] = f1
    return Experiment(
        dataset=dataset,
        run=_run(reader, prompt, at),
        description="labelled posts: token -> long or short, empty for no call",
        at=at,
        items=[
            Item(
                ident=one.label.post_id,
                text=one.text,
                expected=_sides(one.label.sides),
                output={"sides": _sides(one.called), "confidence": f"{one.reading.confidence:f}"},
                right=dict(one.label.sides) == one.called,
                explanation=one.reading.reasoning,
            )
            for one in judged
        ],
        score="correct",
        figures=figures,
        metadata={"reader": reader, "prompt": prompt, "posts": len(judged), "cost_usd": cost_usd},
    )


def of_comparison(row: Comparison, at: datetime) -> Experiment:
    """Return a comparison: what is expected is what the reader in use said, so that the score is agreement only."""
    found, pairs = comparison.compare(row), comparison.pairs(row)
    figures: dict[str, float] = {"failed": float(found.failed)}
    if found.agreement.kappa is not None:
        figures["kappa"] = float(found.agreement.kappa)
    for name, one in found.outcomes.items():
        if one.mean_pct is not None:
            figures[f"{name}_mean_pct"] = one.mean_pct
            figures[f"{name}_right"] = one.right / one.known
    reader, prompt = row.provider, row.prompt or "active"
    return Experiment(
        dataset=f"comparison {row.name}",
        run=_run(reader, prompt, at),
        description="posts that two readers have read; expected is what the reader in use said",
        at=at,
        items=[
            Item(
                ident=reading.post.post_id,
                text=reading.post.text,
                expected=active,
                output={"sides": second, "confidence": f"{reading.confidence or 0:f}"},
                right=active == second,
            )
            for reading, active, second in pairs
        ],
        score="agrees",
        figures=figures,
        metadata={"reader": reader, "prompt": prompt, "posts": len(pairs)},
    )


def _run(reader: str, prompt: str, at: datetime) -> str:
    return " ".join(filter(None, (reader, prompt, f"{at:%Y-%m-%dT%H:%M:%SZ}")))


def _sides(sides: Mapping[str, Any]) -> dict[str, str]:
    """Return token -> long or short; a token without a side keeps the word that was read."""
    return {token: SIDE_OF.get(side, str(side)) for token, side in sorted(sides.items())}
