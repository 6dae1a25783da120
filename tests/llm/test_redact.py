"""Secrets go, everything else stays: forty encodings of a canary, and what only looks like a secret."""

import json
import logging
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from maxxit.core import logs, redact
from maxxit.core.redact import MASK
from tests.llm.canaries import DIGITS, KEY, KNOWN, SURVIVE, WORDS, core

EMAIL = re.compile(r"[\w.]+@\w+\.\w+")


@pytest.fixture(autouse=True)
def _forget() -> Any:
    redact.forget()
    yield
    redact.forget()


@pytest.mark.parametrize("name", KNOWN)
def test_a_canary_never_survives(name: str) -> None:
    secret, encoded = KNOWN[name]
    if secret:
        redact.know(secret)
    seen = redact.text(f"before {encoded} after")
    assert core(name) not in seen.lower()
    assert seen.startswith("before ")
    assert MASK in seen


def test_there_are_forty_encodings() -> None:
    assert len(KNOWN) >= 40


@pytest.mark.parametrize("name", SURVIVE)
def test_what_only_looks_like_a_secret_survives(name: str) -> None:
    redact.know(KEY)
    assert redact.text(SURVIVE[name]) == SURVIVE[name]
    assert redact.value({"data": [SURVIVE[name]]}) == {"data": [SURVIVE[name]]}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "db_password",
            "api_key",
            "apiKey",
            "X-API-Key",
            "secret",
            "client_secret",
            "SECRET_KEY",
        ),
        *(
            "access_token",
            "authorization",
            "Cookie",
            "set-cookie",
            "signature",
            "mnemonic",
            "pem",
            "private_key",
        ),
        *("executorPrivateKey", "passphrase", "telegram_bot_token", "key", "token"),
    ],
)
def test_fields_that_hold_secrets_are_masked(name: str) -> None:
    assert redact.value({name: "tiny secret"}) == {name: MASK}
    assert redact.value([[name, "tiny secret"]]) == [[name, MASK]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("token", "BTC"),
            ("token", "$ETH"),
            ("tokens", {"BTC": ["btc"]}),
            ("prompt_tokens", 17),
            ("token_in", "0xab"),
        ),
        *(("public_key", "02ab"), ("idempotency_key", "order:17"), ("keyboard", "qwerty"), ("monkey", "ape")),
        *(("secret", None), ("has_password", False), ("key", {"a": 1}), ("pk", 12), ("max_tokens", 500)),
    ],
)
def test_fields_that_only_sound_so_survive(name: str, value: Any) -> None:
    assert redact.value({name: value}) == {name: value}


@pytest.mark.parametrize("secret", [SecretStr("abc"), SecretBytes(b"abc")])
def test_typed_secrets_are_masked_wherever_they_stand(secret: Any) -> None:
    assert redact.value({"note": [secret]}) == {"note": [MASK]}


def test_what_a_typed_secret_holds_becomes_known() -> None:
    redact.know(SecretStr(KEY))
    assert DIGITS not in redact.text(f"leak {DIGITS}")


def test_the_environment_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "quite-unpredictable-1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:pass-in-url-2@h/db")
    monkeypatch.setenv("SOME_NAME", "harmless-value-3")
    redact.know_environment()
    assert (
        redact.text("quite-unpredictable-1 pass-in-url-2 harmless-value-3")
        == f"{MASK} {MASK} harmless-value-3"
    )


def test_short_values_are_not_searched_for() -> None:
    redact.know("1234")
    assert redact.text("order 1234") == "order 1234"


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "columns"])
def test_log_lines_and_the_errors_in_them_are_redacted(as_json: bool) -> None:
    redact.know(KEY)
    before = structlog.get_config()
    try:
        formatter = logs.configure(as_json=as_json, level="INFO")["formatters"]["line"]
        line = structlog.stdlib.ProcessorFormatter(
            processors=formatter["processors"], foreign_pre_chain=formatter["foreign_pre_chain"]
        )
        try:
            try:
                raise ValueError(f"bad key {DIGITS}")
            except ValueError as error:
                raise RuntimeError(f"signing with {KEY}") from error
        except RuntimeError:
            info = sys.exc_info()
        said = line.format(
            logging.LogRecord("library", logging.ERROR, "f.py", 1, "failed with %s", (KEY,), info)
        )
        event = {
            "event": "signing",
            "api_key": "abc",
            "post_id": "936389222470004736",
            "deep": [f"x{DIGITS}"],
        }
        told = event | {"exc_info": info}
        ours = logging.LogRecord("ours", logging.ERROR, "f.py", 1, told, (), None)
        ours._logger, ours._name = logging.getLogger("ours"), "error"
        said += line.format(ours)
    finally:
        structlog.configure(**before)
    assert DIGITS not in said
    assert "abc" not in said
    assert said.count("ValueError") >= 2
    assert "936389222470004736" in said


class Stubborn(Exception):
    """Says something else than its arguments."""

    def __init__(self, said: str) -> None:
        self.said = said

    def __str__(self) -> str:
        return self.said


def test_errors_are_shown_without_secrets_and_so_are_their_causes() -> None:
    redact.know(KEY)
    error = RuntimeError(f"signing with {KEY}", 17)
    error.__cause__ = Stubborn(f"bad key {DIGITS}")
    error.__context__ = error.__cause__
    shown = redact.failure(error)

    assert shown is error
    assert shown.args == (f"signing with {MASK}", 17)
    assert isinstance(shown.__cause__, RuntimeError)
    assert str(shown.__cause__) == f"Stubborn: bad key {MASK}"
    harmless = Stubborn("order 17 of 936389222470004736")
    assert redact.failure(harmless) is harmless


def test_what_may_be_json_is_looked_at_as_what_it_says() -> None:
    redact.know(WORDS)
    upper = WORDS.upper()
    assert "FRIENDS" in redact.text(json.dumps({"said": upper})), "the escape of a capital letter is another"
    assert json.loads(redact.document(json.dumps({"said": upper, "n": 1}))) == {"said": MASK, "n": 1}
    for harmless in ('{"a":1,  "a": "x"}', "no json {", '["\\u00ef"]'):
        assert redact.document(harmless) == harmless


def test_events_keep_names_of_fields_and_of_people() -> None:
    redact.know(KEY)
    said = {"token": "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045", "by": "anna@example.com", "n": Decimal(1)}
    assert redact.strings(said | {"why": (f"x {DIGITS}", None)}) == said | {"why": [f"x {MASK}", None]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=20,
    )
)
def test_redaction_never_fails_and_once_is_enough(value: Any) -> None:
    once = redact.value(value)
    json.dumps(once)
    assert redact.value(once) == once


@given(
    st.text(alphabet="0123456789abcdef", min_size=40, max_size=40), st.text(max_size=40), st.text(max_size=40)
)
def test_a_known_value_is_found_in_any_company(secret: str, before: str, after: str) -> None:
    redact.forget()
    redact.know(secret)
    assert secret not in redact.text(f"{before}{secret}{after}")


@pytest.mark.realdata
def test_of_real_posts_only_e_mail_addresses_go() -> None:
    file = Path(__file__).parents[2].parent / "shared" / "data" / "posts-2017-12.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not there: recorded posts lie beside the repository")
    changed = [
        (post["text"], seen)
        for post in map(json.loads, file.read_text().splitlines())
        if (seen := redact.text(post["text"])) != post["text"]
    ]
    assert all(EMAIL.search(text) for text, _ in changed), changed
