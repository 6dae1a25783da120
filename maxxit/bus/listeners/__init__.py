"""Listeners: functions that handle messages of our event log, of a Redis stream or of a Kafka topic.

A new one is a module with a function and a line here; `config/bus.yaml` names it, its source and what it wants.
"""

from django.utils.module_loading import import_string

from maxxit.bus.listeners.base import Listener
from maxxit.core.errors import Misconfigured

LISTENERS = {"log": "maxxit.bus.listeners.log.write_line"}
"""Name used in YAML -> dotted path of the function."""


def listener(adapter: str) -> Listener:
    """Return the function. Raises `Misconfigured` for an unknown name."""
    if adapter not in LISTENERS:
        raise Misconfigured(f"no listener named {adapter!r}; known: {', '.join(sorted(LISTENERS))}")
    found: Listener = import_string(LISTENERS[adapter])
    return found
