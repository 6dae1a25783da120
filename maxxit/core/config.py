"""Policy comes from `config/*.yaml`, secrets and places from the environment; both are typed here.

A wrong key, a missing limit or a number with the wrong unit stops the program with a message that names the
file, the key and the fix. `MAXXIT_CONFIG_DIR` points at another folder than `config/`; `MAXXIT_PROFILE` names a
folder of `config/profiles/` whose files are laid over the plain ones, key by key (`demo`, `replay`), or `production`.
"""

import os
from collections.abc import Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from maxxit.core.errors import Misconfigured

ROOT = Path(__file__).resolve().parent.parent.parent
RENAMED = {"cast": "agents"}
"""Old name -> new name of a policy file: a profile may use the old one for one more release."""
PRODUCTION = "production"
"""The profile that needs no folder: the plain files, and nothing that is for one's own machine only."""

Percent = Annotated[Decimal, Field(ge=Decimal("0.1"), le=100)]
"""A percentage: 1.0 means one percent. Less than 0.1 is refused, because it is nearly always a fraction."""
Fraction = Annotated[Decimal, Field(ge=0, le=1)]
"""A fraction: 0.01 means one percent."""
BasisPoints = Annotated[int, Field(ge=0, le=10_000)]
"""Hundredths of a percent, whole numbers."""
Usd = Annotated[Decimal, Field(gt=0)]
Seconds = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
"""How many of something: at least one."""


class Policy(BaseModel):
    """The base of every YAML schema: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


P = TypeVar("P", bound=BaseModel)


def config_dir() -> Path:
    """The folder of the YAML files."""
    return Path(os.environ.get("MAXXIT_CONFIG_DIR", ROOT / "config"))


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key which stands twice: else the last one would hold, unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping. Raises `ConstructorError`, which names the line of the second key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """The parsed file. Raises `Misconfigured` when it is missing or not YAML."""
    try:
        return yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except FileNotFoundError:
        raise Misconfigured(f"{path} is missing: restore it from the repository") from None
    except yaml.YAMLError as error:
        raise Misconfigured(f"{path} is not YAML: {error}") from error


def _floats_to_text(value: Any) -> Any:
    """YAML reads 0.1 as a float; its shortest text is what the author wrote, and Decimal takes that."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {key: _floats_to_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats_to_text(item) for item in value]
    return value


def _overlay(base: Any, top: Any) -> Any:
    """`top` over `base`: mappings merge key by key, anything else replaces."""
    if not (isinstance(base, dict) and isinstance(top, dict)):
        return top
    return base | {key: _overlay(base.get(key), value) for key, value in top.items()}


def profile() -> str:
    """The name of the profile in force, or an empty string."""
    return os.environ.get("MAXXIT_PROFILE", "")


def variable(name: str) -> str:
    """What the environment holds under a name that a stanza gives (`key_env`, …); empty without a name or a value."""
    return os.environ.get(name, "").strip() if name else ""


def check_profile(name: str) -> None:
    """Raise `Misconfigured` with the known ones unless it is a profile, or none at all (an empty name).

    A misspelt `production` would otherwise run with a laptop's safety.
    """
    folder = config_dir() / "profiles"
    if name not in ("", PRODUCTION) and not (folder / name).is_dir():
        known = ", ".join(sorted({PRODUCTION, *(path.name for path in folder.glob("*") if path.is_dir())}))
        raise Misconfigured(f"MAXXIT_PROFILE: no profile {name!r} in {folder}; known: {known}")
    plain = {path.name for path in config_dir().glob("*.yaml")} | {f"{old}.yaml" for old in RENAMED}
    for path in sorted(folder.glob(f"{name}/*")) if name else ():
        if path.suffix in (".yaml", ".yml") and path.name not in plain:
            raise Misconfigured(f"{path} lies over no file of {config_dir()}{_meant(path.name, plain)}")


def use_profile(name: str) -> None:
    """Put a profile in force for this process, before any policy was read.

    Raises `Misconfigured` when there is no such profile or policies of another are in use already.
    """
    check_profile(name)
    if name != profile() and _read.cache_info().currsize:
        raise Misconfigured(
            f"policies of profile {profile()!r} are in use: set MAXXIT_PROFILE={name} before starting"
        )
    os.environ["MAXXIT_PROFILE"] = name


def load(name: str, schema: type[P]) -> P:
    """`config/<name>.yaml` as a `schema`, read once. Raises `Misconfigured` naming each wrong key."""
    return cast(P, _read(name, schema))


@cache
def _read(name: str, schema: type[BaseModel]) -> BaseModel:
    path = config_dir() / f"{name}.yaml"
    values, top = read_yaml(path), None
    over = _profile_file(name)
    if over is not None:
        top = read_yaml(over)
        values = _overlay(values, top)
    try:
        return schema.model_validate(_floats_to_text(values))
    except ValidationError as error:
        wrong = "; ".join(
            f"{over if _has(top, problem['loc']) else path}: {_said(problem, schema)}"
            for problem in error.errors()
        )
        raise Misconfigured(wrong) from None


def _profile_file(name: str) -> Path | None:
    """The file of the profile in force that lies over `config/<name>.yaml`, if it has one."""
    folder = config_dir() / "profiles" / profile()
    names = (name, *(old for old, new in RENAMED.items() if new == name))
    found = (folder / f"{one}.yaml" for one in names)
    return next((path for path in found if path.exists()), None) if profile() else None


def _has(values: Any, path: Sequence[int | str]) -> bool:
    """Whether a file gives the value at `path`: the file to name where that is wrong."""
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return bool(path)


def _meant(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _said(problem: ErrorDetails, schema: type[BaseModel]) -> str:
    """One wrong key in words; beside a key that nobody knows stands the one that looks most like it."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: no such key" + _meant(str(problem["loc"][-1]), _names(schema.model_json_schema()))
    return f"{key}: {problem['msg']} (got {problem.get('input')!r})"


def _names(schema: Any) -> set[str]:
    """Every field name in a JSON schema."""
    if isinstance(schema, list):
        return {name for one in schema for name in _names(one)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {})) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*(_names(one) for one in schema.values()))
