"""The Makefile is the front door: what it promises is there."""

import re
import subprocess

import pytest

from maxxit.env import BASE_DIR

TARGETS = [
    "audit",
    "bench",
    "chaos",
    "chaos-long",
    "check",
    "ci",
    "clean",
    "conformance",
    "down",
    "fmt",
    "help",
    "install",
    "monitoring",
    "test",
    "up",
    "verbs",
]


def make(*arguments: str) -> str:
    return subprocess.run(
        ["make", *arguments], cwd=BASE_DIR, capture_output=True, text=True, check=True
    ).stdout


def test_help_documents_every_target() -> None:
    told = re.findall(r"^  make (\S+)\s+\S", make("help"), re.MULTILINE)

    assert told == TARGETS


@pytest.mark.parametrize("target", ["install", "test", "check", "conformance", "up"])
def test_the_targets_are_made_of_known_commands(target: str) -> None:
    assert make("--dry-run", target)


def test_the_pins_fit_the_ranges_and_each_other() -> None:
    runtime = (BASE_DIR / "requirements.txt").read_text()
    lines = [line for line in runtime.splitlines() if line and not line.startswith("#")]
    pins = [re.split(r" ;| \\", line)[0] for line in lines if not line.startswith(" ")]

    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", pin) for pin in pins)
    assert "://" not in runtime  # the names of packages, not the hosts they come from


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-conformance.txt",
        "requirements-kafka.txt",
        "requirements-train.txt",
        "requirements-tft.txt",
        "requirements-rl.txt",
        "requirements-apprise.txt",
        "requirements-e5.txt",
    ],
)
def test_every_pin_has_its_hashes_and_they_are_required(name: str) -> None:
    """Each pin goes on in the next line with at least one hash; nothing is installed without."""
    lines = [line for line in (BASE_DIR / name).read_text().splitlines() if "==" in line]
    few = {
        "requirements-kafka.txt": 5,
        "requirements-train.txt": 3,
        "requirements-tft.txt": 5,
        "requirements-rl.txt": 8,
        "requirements-apprise.txt": 3,
        "requirements-e5.txt": 0,
    }
    assert len(lines) > few.get(name, 20)
    assert all(line.endswith(" \\") for line in lines)
    assert make("--dry-run", "--always-make", "conformance").count("--require-hashes") >= 3
