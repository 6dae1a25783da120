"""`config/notify.yaml`: limits of sending, retrying and pausing deliveries."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from maxxit.core.config import Policy, Seconds, load

SEND_SECONDS = 10.0
"""Time limit of one send, DNS and connection included; every channel keeps to it."""


class ApprisePolicy(Policy):
    """Which services of the library apprise are offered, and the ports that they may be reached at."""

    schemas: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$", max_length=30)], ...]
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...]


class NotifyPolicy(Policy):
    """`config/notify.yaml`."""

    offered: tuple[str, ...]
    apprise: ApprisePolicy
    tries: Annotated[int, Field(ge=1, le=50)]
    first_wait_seconds: Seconds
    most_wait_seconds: Seconds
    claim_seconds: Seconds
    at_a_time: Annotated[int, Field(ge=1, le=1000)]
    at_once: Annotated[int, Field(ge=1, le=64)]
    per_minute: Annotated[int, Field(ge=1, le=10_000)]
    per_second: dict[str, Annotated[int, Field(ge=1, le=10_000)]]
    pass_seconds: Seconds
    endpoint_seconds: Seconds
    breaker_failures: Annotated[int, Field(ge=1, le=100)]
    breaker_first_seconds: Seconds
    breaker_most_seconds: Seconds
    give_up_hours: Annotated[int, Field(ge=1, le=720)]

    @model_validator(mode="after")
    def _a_claim_outlasts_its_pass(self) -> Self:
        if self.claim_seconds <= self.pass_seconds + SEND_SECONDS:
            raise ValueError(
                f"claim_seconds must exceed pass_seconds by more than {SEND_SECONDS:.0f} s, the longest send:"
                " otherwise another worker sends what this one still holds"
            )
        return self


def policy() -> NotifyPolicy:
    """Return the policy. Raises `Misconfigured` naming the wrong key."""
    return load("notify", NotifyPolicy)
