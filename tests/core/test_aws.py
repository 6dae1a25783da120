"""Requests to AWS: signed as its own client signs them, under credentials that are renewed in time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pytest_httpx import HTTPXMock

from maxxit.core import clock
from maxxit.core.aws import Credentials, JsonService, credentials, sign
from maxxit.core.errors import Misconfigured, Retryable

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECRETS_MANAGER = "https://secretsmanager.eu-west-1.amazonaws.com/"
AWS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HEADERS = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}
AGENT = "http://169.254.170.23/v1/credentials"
KMS = "https://kms.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize(
    ("token", "signature"),
    [
        ("", "5ffc0fa46fe7782399bae76853116ef430709e5d6a5f48629a30ab41d70651cb"),
        ("session/token==", "a598a47288beeb07254d0bb8c9894717bd595ceb423d07841ced3ba7f45e89b4"),
    ],
)
def test_requests_are_signed_as_botocore_signs_them(token: str, signature: str) -> None:
    """Recorded from botocore 1.44.8 (SigV4Auth) with the same key, request and moment."""
    who = Credentials("AKIDEXAMPLE", AWS_KEY, token)
    body = json.dumps({"SecretId": "maxxit/production"}).encode()
    signed = sign("POST", SECRETS_MANAGER, HEADERS, body, who, "eu-west-1", "secretsmanager", AT)
    assert signed["Authorization"].endswith(f"Signature={signature}")
    assert AWS_KEY not in repr(who)


def role(httpx_mock: HTTPXMock, access_key: str, expires: str) -> None:
    """What the agent of a container answers next."""
    httpx_mock.add_response(
        url=AGENT,
        json={"AccessKeyId": access_key, "SecretAccessKey": AWS_KEY, "Token": "t", "Expiration": expires},
    )


def test_credentials_of_a_role_are_kept_and_renewed_five_minutes_before_they_expire(
    httpx_mock: HTTPXMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", AGENT)
    role(httpx_mock, "FIRST", "2026-03-02T13:00:00Z")
    role(httpx_mock, "SECOND", "2026-03-02T19:00:00Z")
    httpx_mock.add_response(url=KMS, json={"KeyId": "k"}, is_reusable=True)
    service = JsonService("kms", region="eu-west-1", seconds=1)
    for minutes in (0, 54, 56):
        with clock.frozen(AT + timedelta(minutes=minutes)):
            assert service.call("TrentService.Sign", {"KeyId": "k"}) == {"KeyId": "k"}
    signed = [one.headers["Authorization"] for one in httpx_mock.get_requests(url=KMS)]
    assert [text.split("Credential=")[1].split("/")[0] for text in signed] == ["FIRST", "FIRST", "SECOND"]


def test_a_secret_access_key_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(f"{AWS_KEY}\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "key"))
    assert credentials() == Credentials("AKIDEXAMPLE", AWS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "gone"))
    with pytest.raises(Misconfigured, match="AWS_SECRET_ACCESS_KEY_FILE"):
        credentials()


def test_an_answer_that_is_no_json_object_is_retryable(
    httpx_mock: HTTPXMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_KEY)
    for text in ("<html>", "[]"):
        httpx_mock.add_response(url=KMS, text=text)
        with pytest.raises(Retryable, match="gave no JSON object"):
            JsonService("kms", region="eu-west-1", seconds=1).call("TrentService.Sign", {})


def test_addresses_are_those_of_the_region_and_private_ones_need_https() -> None:
    assert JsonService("kms", region="cn-north-1", seconds=1).url == "https://kms.cn-north-1.amazonaws.com.cn"
    private = JsonService("kms", region="eu-west-1", endpoint="https://kms.internal/", seconds=1)
    assert private.url == "https://kms.internal"
    with pytest.raises(Misconfigured, match="must begin with https"):
        JsonService("kms", region="eu-west-1", endpoint="http://kms.internal", seconds=1)
