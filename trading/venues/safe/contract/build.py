"""Compile the Vyper contracts into the JSON artifacts beside them, or check that the artifacts are up to date.

    python -m trading.venues.safe.contract.build            writes *.json
    python -m trading.venues.safe.contract.build --check    recompiles and compares; exits 1 when one is out of date

The artifacts are committed, so that nothing but this command (and its check) needs the compiler.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from maxxit.core.config import ROOT

HERE = Path(__file__).resolve().parent
PERPS = ROOT / "trading" / "venues" / "gmx" / "contract"
DEVELOPMENT = ROOT / "maxxit" / "ops" / "devchain" / "contracts"
"""Contracts of the development chain and of tests."""
GMX = DEVELOPMENT / "gmx"
"""The double of GMX v2: contracts begin with a capital letter, the modules that they import do not."""
COMPILER = "0.4.3"


def sources() -> list[Path]:
    """Return the source of every contract, the modules first."""
    ours = [HERE / "TradingModule.vy", PERPS / "PerpModule.vy"]
    return [*ours, *sorted(DEVELOPMENT.glob("*.vy")), *sorted(GMX.glob("[A-Z]*.vy"))]


def compile_source(source: str, name: str, folder: Path = HERE) -> dict[str, Any]:
    """Compile one contract, which may import from `folder`; return ABI, creation bytecode, compiler and source hash."""
    import vyper
    from vyper.compiler.input_bundle import FilesystemInputBundle

    if vyper.__version__.split("+")[0] != COMPILER:
        raise RuntimeError(
            f"Vyper {COMPILER} is needed, found {vyper.__version__}: pip install vyper=={COMPILER}"
        )
    output = vyper.compile_code(
        source,
        contract_path=f"{name}.vy",
        input_bundle=FilesystemInputBundle([folder]),
        output_formats=["abi", "bytecode"],
    )
    return {
        "contract": name,
        "compiler": f"vyper {COMPILER}",
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "abi": output["abi"],
        "bytecode": output["bytecode"],
    }


def rendered(path: Path) -> str:
    """Return the artifact's text for the contract at `path`."""
    artifact = compile_source(path.read_text(), path.stem, path.parent)
    abi = ",\n".join("    " + json.dumps(entry) for entry in artifact.pop("abi"))
    head = json.dumps(artifact, indent=2).removesuffix("\n}")
    return f'{head},\n  "abi": [\n{abi}\n  ]\n}}\n'


def load(name: str) -> dict[str, Any]:
    """Load a committed artifact by contract name, for instance "TradingModule" or "Token"."""
    for folder in (HERE, PERPS, DEVELOPMENT, GMX):
        path = folder / f"{name}.json"
        if path.exists():
            artifact: dict[str, Any] = json.loads(path.read_text())
            return artifact
    raise FileNotFoundError(f"no artifact {name}.json: run python -m trading.venues.safe.contract.build")


def outdated() -> list[str]:
    """Return the names of the artifacts that differ from what their source compiles to."""
    return [
        path.stem
        for path in sources()
        if not path.with_suffix(".json").exists() or path.with_suffix(".json").read_text() != rendered(path)
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the contract artifacts.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args(argv).check:
        stale = outdated()
        for name in stale:
            print(
                f"{name}.json does not match {name}.vy: run"
                " `python -m trading.venues.safe.contract.build` and commit it"
            )
        print("contract artifacts: " + ("out of date" if stale else f"{len(sources())} match their sources"))
        return 1 if stale else 0
    for path in sources():
        path.with_suffix(".json").write_text(rendered(path))
        print(f"wrote {path.with_suffix('.json').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
