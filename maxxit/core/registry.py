"""Plug-in registry: maps the adapter names used in YAML to classes, imported when opened."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from maxxit.core.errors import Misconfigured

T = TypeVar("T")


class Registry(Generic[T]):
    """The adapters of one kind. `known`: name used in YAML -> dotted path of the class."""

    def __init__(self, kind: str, known: Mapping[str, str]) -> None:
        self.kind, self.known = kind, dict(known)

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def load(self, adapter: str) -> type[T]:
        """Import the adapter and return its class. Raises `Misconfigured` for an unknown name."""
        if adapter not in self.known:
            raise Misconfigured(f"no {self.kind} named {adapter!r}; known: {', '.join(sorted(self.known))}")
        module, _, name = self.known[adapter].rpartition(".")
        found: type[T] = getattr(import_module(module), name)
        return found

    def open(self, adapter: str, **options: Any) -> T:
        """Create the adapter with the options of its YAML entry.

        Raises `Misconfigured` for an unknown name or an option that the adapter does not take.
        """
        try:
            adapter_object = self.load(adapter)(**options)
        except TypeError as error:
            raise Misconfigured(f"{self.kind} {adapter!r}: {error}") from error
        return adapter_object
