"""Load and validate the YAML policy files of `config/`.

An unknown key, a missing limit or a number in the wrong unit stops the program with a message that names the
file, the key and the fix. `MAXXIT_CONFIG_DIR` points to another folder than `config/`; `MAXXIT_PROFILE` names a
folder of `config/profiles/` whose files override the base files key by key (`demo`, `replay`), or `production`.
Secrets and addresses come from the environment (`maxxit.env`).
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
SECTION_FILES = {"risk": {"exits": "exits"}}
"""Policy file -> section -> the file of its own that holds the section: `exits` of the risk policy is exits.yaml.

A section that still stands in the first file is laid over the second, for one more release.
"""
OVERLAY = "MAXXIT_OVERLAY"
"""Internal variable: the folder of `config/overlays/` that lies over the active profile (`lay_over`)."""
PRODUCTION = "production"
"""The profile without a folder: the base files, and none of the defaults meant for a developer's machine."""

Percent = Annotated[Decimal, Field(ge=Decimal("0.1"), le=100)]
"""A percentage: 1.0 means one percent. Less than 0.1 is refused: it is nearly always a fraction by mistake."""
Fraction = Annotated[Decimal, Field(ge=0, le=1)]
"""A fraction: 0.01 means one percent."""
BasisPoints = Annotated[int, Field(ge=0, le=10_000)]
"""Whole basis points (1/100 of a percent)."""
Usd = Annotated[Decimal, Field(gt=0)]
Seconds = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
"""A whole number from 1."""


class Policy(BaseModel):
    """Base of every YAML schema: unknown keys are errors, and values are immutable after loading.

    Its validator is built when a file is first loaded: most commands load few of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


P = TypeVar("P", bound=BaseModel)


def config_dir() -> Path:
    """Return the folder of the YAML files."""
    return Path(os.environ.get("MAXXIT_CONFIG_DIR", ROOT / "config"))


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """SafeLoader that refuses duplicate keys; YAML would silently keep the last one. libyaml parses 8 times faster."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping. Raises `ConstructorError` with the line of a duplicate key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} appears twice", key.start_mark
                    )
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def read_yaml(path: Path) -> Any:
    """Parse a file. Raises `Misconfigured` when it is missing or not YAML."""
    try:
        return yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except FileNotFoundError:
        raise Misconfigured(f"{path} is missing: restore it from the repository") from None
    except yaml.YAMLError as error:
        raise Misconfigured(f"{path} is not YAML: {error}") from error


def _floats_to_text(value: Any) -> Any:
    """Turn floats into their shortest text, which is what the author wrote, so that Decimal parses them exactly."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {key: _floats_to_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats_to_text(item) for item in value]
    return value


def _overlay(base: Any, top: Any) -> Any:
    """Merge `top` into `base`: mappings key by key; any other value replaces."""
    if not (isinstance(base, dict) and isinstance(top, dict)):
        return top
    return base | {key: _overlay(base.get(key), value) for key, value in top.items()}


def profile() -> str:
    """Return the name of the active profile, or an empty string."""
    return os.environ.get("MAXXIT_PROFILE", "")


def variable(name: str) -> str:
    """Return the environment variable that a config key such as `key_env` names; empty when unnamed or unset."""
    return os.environ.get(name, "").strip() if name else ""


def check_profile(name: str) -> None:
    """Raise `Misconfigured` with the known profiles unless `name` is one of them or empty.

    A misspelt `production` would otherwise run with the settings of a developer's machine.
    """
    folder = config_dir() / "profiles"
    if name not in ("", PRODUCTION) and not (folder / name).is_dir():
        known = ", ".join(sorted({PRODUCTION, *(path.name for path in folder.glob("*") if path.is_dir())}))
        raise Misconfigured(f"MAXXIT_PROFILE: no profile {name!r} in {folder}; known: {known}")
    base_files = {path.name for path in config_dir().glob("*.yaml")} | {f"{old}.yaml" for old in RENAMED}
    for path in sorted(folder.glob(f"{name}/*")) if name else ():
        if path.suffix in (".yaml", ".yml") and path.name not in base_files:
            raise Misconfigured(
                f"{path} overrides no file of {config_dir()}{_suggestion(path.name, base_files)}"
            )


def use_profile(name: str) -> None:
    """Activate a profile for this process, before any policy is read.

    Raises `Misconfigured` when there is no such profile, or policies of another profile are loaded already.
    """
    check_profile(name)
    if name != profile() and _read.cache_info().currsize:
        raise Misconfigured(
            f"policies of profile {profile()!r} are loaded already: set MAXXIT_PROFILE={name} before starting"
        )
    os.environ["MAXXIT_PROFILE"] = name


def lay_over(name: str) -> None:
    """Lay the files of `config/overlays/<name>` over the active profile, in this process and its children.

    Raises `Misconfigured` when there is no such folder, or policies are loaded already.
    """
    if not (config_dir() / "overlays" / name).is_dir():
        raise Misconfigured(f"{config_dir() / 'overlays' / name} is missing: restore it from the repository")
    if name != os.environ.get(OVERLAY, "") and _read.cache_info().currsize:
        raise Misconfigured(f"policies are loaded already: {name!r} cannot be laid over them")
    os.environ[OVERLAY] = name


def load(name: str, schema: type[P]) -> P:
    """Return `config/<name>.yaml` as a `schema`, read once. Raises `Misconfigured` naming each wrong key."""
    return cast(P, _read(name, schema))


@cache
def _read(name: str, schema: type[BaseModel]) -> BaseModel:
    layers = _layers(name)
    values: Any = {}
    for _, _, layer in layers:
        values = _overlay(values, layer)
    try:
        return schema.model_validate(_floats_to_text(values))
    except ValidationError as error:
        raise Misconfigured(
            "; ".join(_locate(problem, layers, schema) for problem in error.errors())
        ) from None


Layer = tuple[Path, str, Any]
"""A file, the section that it holds (empty: the whole policy), and its values below that section's key."""


def _layers(name: str) -> list[Layer]:
    """Return the files of a policy, each overriding those before it: sections, base file, then the profile's."""
    sections = {file: key for key, file in SECTION_FILES.get(name, {}).items()} | {name: ""}
    base = [(config_dir() / f"{file}.yaml", key) for file, key in sections.items()]
    whole = read_yaml(base[-1][0])
    base = [one for one in base if one[0].exists() or not _has(whole, [one[1]])]
    profiles = [
        (path, key)
        for folder in _folders()
        for file, key in sections.items()
        if (path := _override(folder, file))
    ]
    return [
        (path, key, {key: read_yaml(path)} if key else read_yaml(path)) for path, key in (*base, *profiles)
    ]


def _locate(problem: ErrorDetails, layers: Sequence[Layer], schema: type[BaseModel]) -> str:
    """Describe one validation error with the last file that sets the value, or that should."""
    where = problem["loc"]
    setting = [layer for layer in layers if _has(layer[2], where)]
    holding = [layer for layer in layers if where and layer[1] == where[0]]
    whole = [layer for layer in layers if not layer[1]]
    path, section, _ = setting[-1] if setting else (holding or whole)[0]
    described = _describe(problem, schema)
    return f"{path}: {described.removeprefix(f'{section}.') if section else described}"


def _folders() -> list[Path]:
    """Return the folders that override the base files: the active profile's, then the overlay's."""
    chosen = {"profiles": profile(), "overlays": os.environ.get(OVERLAY, "")}
    return [config_dir() / kind / name for kind, name in chosen.items() if name]


def _override(folder: Path, name: str) -> Path | None:
    """Return the file of `folder` that overrides `config/<name>.yaml`, if it has one."""
    names = (name, *(old for old, new in RENAMED.items() if new == name))
    candidates = (folder / f"{file_name}.yaml" for file_name in names)
    return next((path for path in candidates if path.exists()), None)


def _has(values: Any, path: Sequence[int | str]) -> bool:
    """Return whether a file sets the value at `path`, so that an error names the right file."""
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return bool(path)


def _suggestion(name: str, known: Iterable[str]) -> str:
    closest = get_close_matches(name, known, n=1)
    return f"; did you mean {closest[0]}?" if closest else ""


def _describe(problem: ErrorDetails, schema: type[BaseModel]) -> str:
    """Describe one validation error; for an unknown key suggest the closest known one."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _field_names(schema.model_json_schema())
        return f"{key}: no such key" + _suggestion(str(problem["loc"][-1]), known)
    return f"{key}: {problem['msg']} (got {problem.get('input')!r})"


def _field_names(schema: Any) -> set[str]:
    """Return every field name in a JSON schema."""
    if isinstance(schema, list):
        return {name for part in schema for name in _field_names(part)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {})) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*(_field_names(part) for part in schema.values()))
