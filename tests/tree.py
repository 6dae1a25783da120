"""The product's packages and layers, as pyproject.toml names them for import-linter."""

import tomllib

from maxxit.core.config import ROOT

_LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PACKAGES: tuple[str, ...] = tuple(_LINTER["root_packages"])
_LAYERS = next(one["layers"] for one in _LINTER["contracts"] if one["type"] == "layers")
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(name.strip(" ()").rpartition(".")[2] for name in layer.split("|")) for layer in _LAYERS
)
"""From the top down, each the last part of its packages' names (an app's label)."""
