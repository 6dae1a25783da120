"""The typed answer of a model in the generate stage: its review of a trade that the formula proposed."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from maxxit.llm.fields import AS_FRACTION, AS_MULTIPLE, AS_PERCENT, AS_TEXT


class Proposal(BaseModel):
    """A reviewed trade. The schema's bounds are wide; `signals_app.score.bound` applies the actual ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    take: bool
    """False: the model rejects the trade."""
    confidence: Annotated[Decimal, Field(ge=0, le=1), AS_FRACTION]
    """Fraction. It can lower the formula's confidence, never raise it."""
    stop_loss_pct: Annotated[Decimal, Field(gt=0, le=100), AS_PERCENT]
    take_profit_pct: Annotated[Decimal, Field(gt=0, le=1000), AS_PERCENT]
    leverage: Annotated[Decimal, Field(ge=1, le=50), AS_MULTIPLE]
    reasoning: Annotated[str, AS_TEXT] = Field(max_length=1000)
