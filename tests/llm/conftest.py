"""A fake model server, and a `config/` of its own whose chain leads there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from maxxit.core import config, redact
from maxxit.llm import prompts
from tests.llm.server import ModelServer, running


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A model server on the loopback."""
    with running() as model:
        yield model


@pytest.fixture
def second() -> Iterator[ModelServer]:
    """Another one."""
    with running() as model:
        yield model


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    config._read.cache_clear()
    prompts._read.cache_clear()
    redact.forget()
    yield
    config._read.cache_clear()
    prompts._read.cache_clear()
    redact.forget()


@pytest.fixture
def policy_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer, second: ModelServer
) -> Path:
    """A copy of config/ in which `first` (OpenAI's shape) and `other` (Anthropic's) are the fake servers."""
    folder = tmp_path / "config"
    shutil.copytree(config.ROOT / "config", folder)
    values = yaml.safe_load((folder / "llm.yaml").read_text())
    shared = {"temperature": 0.3, "timeout_seconds": 1, "concurrency": 2}
    values["providers"]["first"] = {
        **shared,
        **{"adapter": "openai", "model": "gpt-fake", "base_url": server.url, "key_env": "FIRST_API_KEY"},
        **{"usd_per_million_prompt": 10, "usd_per_million_completion": 20},
    }
    values["providers"]["other"] = {
        **shared,
        **{
            "adapter": "anthropic",
            "model": "claude-fake",
            "base_url": second.url,
            "key_env": "OTHER_API_KEY",
        },
    }
    for purpose in values["purposes"].values():
        purpose["chain"] = ["first", "other"]
    values["breaker"] = {"failures": 2, "open_seconds": 30, "probe_seconds": 60}
    values["slot_wait_seconds"] = 5
    values["recordings"]["path"] = str(tmp_path / "recordings")
    (folder / "llm.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(folder))
    monkeypatch.setenv("MAXXIT_PROFILE", "")
    monkeypatch.setenv("FIRST_API_KEY", "sk-first-0123456789abcdef")
    monkeypatch.setenv("OTHER_API_KEY", "sk-ant-other-0123456789abcdef")
    return folder
