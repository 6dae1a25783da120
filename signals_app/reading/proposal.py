"""What a model may propose for a trade that the formula already found: the typed answer of the generation step."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from maxxit.llm.fields import AS_FRACTION, AS_MULTIPLE, AS_PERCENT, AS_TEXT


class Proposal(BaseModel):
    """Bounds in the schema are the widest that make sense; `signals_app.score` holds them tighter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    take: bool
    """False: the model would not take this trade."""
    confidence: Annotated[Decimal, Field(ge=0, le=1), AS_FRACTION]
    """Fraction. It can lower the formula's confidence, never raise it."""
    stop_loss_pct: Annotated[Decimal, Field(gt=0, le=100), AS_PERCENT]
    take_profit_pct: Annotated[Decimal, Field(gt=0, le=1000), AS_PERCENT]
    leverage: Annotated[Decimal, Field(ge=1, le=50), AS_MULTIPLE]
    reasoning: Annotated[str, AS_TEXT] = Field(max_length=1000)
