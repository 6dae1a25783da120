"""Secrets come from files, Vault and AWS Secrets Manager; what cannot be read stops the start."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpx import HTTPXMock

from maxxit.core import clock, redact, secret_files
from maxxit.core.errors import Misconfigured
from maxxit.core.secret_values import resolve

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
VAULT = "http://vault.test:8200"
SECRETS_MANAGER = "https://secretsmanager.eu-west-1.amazonaws.com/"
AWS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def store_access(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that lead to both stores."""
    for name, value in {
        "VAULT_ADDR": VAULT, "VAULT_TOKEN": "hvs.a-token-of-vault", "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": AWS_KEY,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def in_vault(httpx_mock: HTTPXMock, path: str, **fields: str) -> None:
    """As Vault 1.18 answers a read of KV version 2; hvac 2.4.0 reads the same answer."""
    httpx_mock.add_response(
        url=f"{VAULT}/v1/{path}",
        json={
            "request_id": "6c5d6d7a-1d0e-0f2d-0000-000000000000", "lease_id": "", "renewable": False,
            "lease_duration": 0, "wrap_info": None, "warnings": None, "auth": None,
            "data": {
                "data": fields,
                "metadata": {"created_time": "2026-03-01T08:00:00.1Z", "custom_metadata": None, "deletion_time": "",
                             "destroyed": False, "version": 3},
            },
        },
    )  # fmt: skip


def test_files_set_our_variables_and_leave_the_rest(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-secret-of-a-file\n")
    file = str(tmp_path / "key")
    environ = {
        "SECRET_KEY_FILE": file,
        "DATABASE_URL_FILE": file,
        "SSL_CERT_FILE": "/etc/ssl/cert.pem",
        "CREDENTIALS_PRIVATE_KEY_FILE": "/only/the/worker/reads/it",
        "EXECUTOR_PASSWORD_FILE": "/only/the/worker/reads/it",
        "OPENAI_API_KEY_FILE": file,
        "OPENAI_API_KEY": "inherited from the process that read the file before",
        "REGISTRY_AUTH_FILE": "/of/another/program",
        "BACKSTAGE_TOKEN": "vault:of/another#program",
    }
    assert resolve(environ) == ["DATABASE_URL", "OPENAI_API_KEY", "SECRET_KEY"]
    assert environ["SECRET_KEY"] == environ["DATABASE_URL"] == "a-secret-of-a-file"
    assert environ["OPENAI_API_KEY"] == "a-secret-of-a-file"
    assert "REGISTRY_AUTH" not in environ
    assert "a-secret-of-a-file" not in redact.text("it was a-secret-of-a-file")


def test_variables_that_the_configuration_names_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles/mine").mkdir(parents=True)
    (tmp_path / "profiles/mine/signals.yaml").write_text(
        "blog: {adapter: inbound, secret_env: BLOG_SECRET}\n"
    )
    (tmp_path / "file").write_text("a-secret-of-the-blog")
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(tmp_path))
    environ = {"BLOG_SECRET_FILE": str(tmp_path / "file"), "OTHER_SECRET_FILE": "/nowhere"}
    assert resolve(environ) == ["BLOG_SECRET"]


def test_a_file_comes_first_also_where_it_is_read_by_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("of the file")
    monkeypatch.setenv("BACKUP_PASSPHRASE_FILE", str(tmp_path / "file"))
    monkeypatch.setenv("BACKUP_PASSPHRASE", "of the variable")
    assert secret_files.secret("BACKUP_PASSPHRASE") == "of the file"


def test_a_missing_file_stops_the_start_and_names_the_variable() -> None:
    with pytest.raises(Misconfigured, match="SECRET_KEY_FILE: /nowhere cannot be read"):
        resolve({"SECRET_KEY_FILE": "/nowhere"})


@pytest.mark.usefixtures("store_access")
def test_vault_is_asked_once_for_each_place(httpx_mock: HTTPXMock) -> None:
    in_vault(httpx_mock, "secret/data/maxxit/web", SECRET_KEY="first-secret", db="second-secret")
    environ = {
        "SECRET_KEY": "vault:secret/maxxit/web#SECRET_KEY",
        "DATABASE_URL": "vault:secret/maxxit/web#db",
        "PUBLIC_URL": "https://vault.example",
    }
    assert resolve(environ) == ["DATABASE_URL", "SECRET_KEY"]
    assert (environ["SECRET_KEY"], environ["DATABASE_URL"]) == ("first-secret", "second-secret")
    [request] = httpx_mock.get_requests()
    assert request.headers["X-Vault-Token"] == "hvs.a-token-of-vault"


@pytest.mark.usefixtures("store_access")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status_code": 403, "json": {"errors": ["permission denied"]}}, "answered 403"),
        ({"status_code": 503, "json": {"errors": ["Vault is sealed"]}}, "answered 503"),
        ({"status_code": 404, "json": {"errors": []}}, "answered 404"),
        ({"json": {"data": {"data": {"other": "x"}}}}, "has no field 'SECRET_KEY'; it has: other"),
        ({"json": {"data": {"data": None}}}, "it has: none"),
        ({"text": "<html>"}, "gave no answer of its kind"),
        ({"json": ["x"]}, "gave no answer of its kind"),
    ],
)
def test_a_store_that_cannot_be_read_stops_the_start(
    answer: dict[str, Any], said: str, httpx_mock: HTTPXMock
) -> None:
    httpx_mock.add_response(**answer)
    environ = {"SECRET_KEY": "vault:secret/maxxit#SECRET_KEY"}
    with pytest.raises(Misconfigured, match=said) as error:
        resolve(environ)
    assert str(error.value).startswith("SECRET_KEY: ")
    assert environ == {"SECRET_KEY": "vault:secret/maxxit#SECRET_KEY"}


def test_a_store_without_its_own_settings_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Misconfigured, match="VAULT_ADDR"):
        resolve({"SECRET_KEY": "vault:secret/maxxit#x"})
    with pytest.raises(Misconfigured, match="AWS_REGION"):
        resolve({"SECRET_KEY": "aws:maxxit#x"})


@pytest.mark.usefixtures("store_access")
def test_aws_gives_members_of_an_object_or_the_whole_text(httpx_mock: HTTPXMock) -> None:
    answer = {
        "ARN": "arn:aws:secretsmanager:eu-west-1:1:secret:maxxit-AbCdEf",
        "Name": "maxxit",
        "VersionId": "1",
    }
    httpx_mock.add_response(
        url=SECRETS_MANAGER,
        match_content=b'{"SecretId": "maxxit/production"}',
        match_headers={"X-Amz-Target": "secretsmanager.GetSecretValue", "X-Amz-Date": "20260302T120000Z"},
        json=answer | {"SecretString": json.dumps({"key": "a-member-of-it"})},
    )
    httpx_mock.add_response(
        url=SECRETS_MANAGER,
        match_content=b'{"SecretId": "redis"}',
        json=answer | {"SecretString": "rediss://:word@host"},
    )
    environ = {"SECRET_KEY": "aws:maxxit/production#key", "REDIS_URL": "aws:redis"}
    with clock.frozen(AT):
        assert resolve(environ) == ["REDIS_URL", "SECRET_KEY"]
    assert environ == {"SECRET_KEY": "a-member-of-it", "REDIS_URL": "rediss://:word@host"}


def test_a_container_gets_its_credentials_from_its_role(
    httpx_mock: HTTPXMock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-token-of-the-pod")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    httpx_mock.add_response(
        url="http://169.254.170.23/v1/credentials",
        match_headers={"Authorization": "a-token-of-the-pod"},
        json={
            "AccessKeyId": "ASIA1",
            "SecretAccessKey": AWS_KEY,
            "Token": "session",
            "Expiration": "2026-03-02T18:00:00Z",
        },
    )
    httpx_mock.add_response(
        url=SECRETS_MANAGER,
        match_headers={"X-Amz-Security-Token": "session"},
        json={"SecretString": json.dumps({"key": "of-the-role"})},
    )
    environ = {"SECRET_KEY": "aws:maxxit#key"}
    resolve(environ)
    assert environ["SECRET_KEY"] == "of-the-role"
