"""States of a trained model: candidate -> shadow -> approved -> serving -> retired.

A retired model that served before may serve again: retired -> approved.
"""

from enum import StrEnum


class ModelState(StrEnum):
    CANDIDATE = "candidate"
    SHADOW = "shadow"
    APPROVED = "approved"
    SERVING = "serving"
    RETIRED = "retired"


TRAINED_MODEL = {
    ModelState.CANDIDATE: frozenset({ModelState.SHADOW, ModelState.RETIRED}),
    ModelState.SHADOW: frozenset({ModelState.APPROVED, ModelState.RETIRED}),
    ModelState.APPROVED: frozenset({ModelState.SERVING, ModelState.RETIRED}),
    ModelState.SERVING: frozenset({ModelState.RETIRED}),
    ModelState.RETIRED: frozenset({ModelState.APPROVED}),
}
