"""`config/bus.yaml`: which relays and listeners run, and their options."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from maxxit.core.config import Policy, Seconds, load

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]


class RelayStanza(Policy):
    """One relay."""

    adapter: str
    options: dict[str, Any] = {}


class ListenerStanza(Policy):
    """One listener: where its messages come from, and which of them it wants."""

    adapter: str
    source: Literal["events", "redis", "kafka"]
    wants: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    """Of the source: `stream` of redis; `servers`, `topic` and `settings` of kafka."""


class BusPolicy(Policy):
    """`config/bus.yaml`."""

    relays: tuple[Name, ...]
    listeners: tuple[Name, ...]
    batch: Annotated[int, Field(ge=1, le=5_000)]
    idle_ms: Annotated[int, Field(ge=10, le=60_000)]
    retry_seconds: Seconds
    stanzas: dict[Name, RelayStanza]
    listener_stanzas: dict[Name, ListenerStanza]
    attempts: Annotated[int, Field(ge=1, le=20)]
    attempt_seconds: Seconds

    @model_validator(mode="after")
    def _named_ones_have_stanzas(self) -> Self:
        for field, names, known in (
            ("relays", self.relays, self.stanzas),
            ("listeners", self.listeners, self.listener_stanzas),
        ):
            if missing := [name for name in names if name not in known]:
                raise ValueError(f"{field}: no stanza named {', '.join(missing)}; known: {', '.join(known)}")
        return self

    @property
    def runs(self) -> bool:
        """Whether anything is to run."""
        return bool(self.relays or self.listeners)


def policy() -> BusPolicy:
    """Return the policy. Raises `Misconfigured` naming the wrong key."""
    return load("bus", BusPolicy)
