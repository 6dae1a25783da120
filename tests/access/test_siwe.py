"""The grammar and the checks of sign-in messages, with the public test vectors of the siwe libraries.

The vectors are those of https://github.com/spruceid/siwe, folder `test` (MIT or Apache-2.0): parsing_positive.json at
26621c5, parsing_negative.json at 01391c5, verification_positive.json at 650dfba, verification_negative.json at 5599e34.
Left out are "domain not RFC4501 authority" (RFC 3986 allows an underscore) and "version not 1", whose version is 1.
"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.access.siwe import SignInMessage, check_times, parse
from maxxit.core.errors import Rejected
from trading.venues.safe.plans import signer_of

CHECKSUMMED = "0xe5A12547fe4E872D192E3eCecb76F2Ce1aeA4946"
HEAD = "service.org wants you to sign in with your Ethereum account:"
TERMS = "I accept the ServiceOrg Terms of Service: https://service.org/tos"
TAIL = [
    "URI: https://service.org/login",
    "Version: 1",
    "Chain ID: 1",
    "Nonce: 12341234",
    "Issued At: 2022-03-17T12:45:13.610Z",
    "Expiration Time: 2023-03-17T12:45:13.610Z",
    "Not Before: 2022-03-17T12:45:13.610Z",
    "Request ID: some_id",
    "Resources:",
    "- https://service.org/login",
]


def vector(*changes: tuple[str, str | None], head: str = HEAD, address: str = CHECKSUMMED) -> str:
    """The message of the negative vectors, with lines replaced, or taken out for None."""
    lines = [head, address, "", TERMS, "", *TAIL]
    for old, new in changes:
        place = next(number for number, line in enumerate(lines) if line.startswith(old))
        lines[place : place + 1] = [] if new is None else [new]
    return "\n".join(lines)


def moved(line: str, before: str) -> str:
    """The message with one line moved up."""
    lines = vector().split("\n")
    taken = lines.pop(next(n for n, text in enumerate(lines) if text.startswith(line)))
    lines.insert(next(n for n, text in enumerate(lines) if text.startswith(before)), taken)
    return "\n".join(lines)


def accepted(
    domain: str = "service.org", statement: str | None = TERMS, issued: str = "2021-09-30T16:25:24.000Z"
) -> str:
    """A message of the positive vectors."""
    return "\n".join(
        [
            f"{domain} wants you to sign in with your Ethereum account:",
            "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
            "",
            *([statement] if statement else []),
            "",
            "URI: https://service.org/login",
            "Version: 1",
            "Chain ID: 1",
            "Nonce: 32891757",
            f"Issued At: {issued}",
        ]
    )


def test_a_message_with_optional_fields() -> None:
    message = parse(
        accepted()
        + "\nResources:\n- ipfs://Qme7ss3ARVgxv6rXqVPiikMJ8u2NLgmgszg13pYrDKEoiu\n- https://example.com/my-web2-claim.json"
    )
    assert message.domain == "service.org"
    assert message.address == "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
    assert message.statement == TERMS
    assert (message.uri, message.version, message.chain_id) == ("https://service.org/login", "1", 1)
    assert (message.nonce, message.issued_at) == ("32891757", datetime(2021, 9, 30, 16, 25, 24, tzinfo=UTC))
    assert message.resources == (
        "ipfs://Qme7ss3ARVgxv6rXqVPiikMJ8u2NLgmgszg13pYrDKEoiu",
        "https://example.com/my-web2-claim.json",
    )


@pytest.mark.parametrize(
    "domain",
    ["service.org", "127.0.0.1", "test@127.0.0.1", "127.0.0.1:8080", "test@127.0.0.1:8080", "[::1]:8080"],
)
def test_domains_are_authorities_of_rfc_3986(domain: str) -> None:
    assert parse(accepted(domain)).domain == domain


def test_a_message_without_statement_and_without_milliseconds() -> None:
    assert parse(accepted(statement=None)).statement is None
    assert parse(accepted(issued="2021-09-30T16:25:24Z")).issued_at.microsecond == 0
    assert parse(accepted(issued="2021-09-30T18:25:24+02:00")).issued_at == datetime(
        2021, 9, 30, 16, 25, 24, tzinfo=UTC
    )


NEGATIVE = {
    "unchanged": "",
    "missing domain": vector(head=HEAD.removeprefix("service.org")),
    "missing address": vector((CHECKSUMMED, "")),
    "missing uri": vector(("URI", "")),
    "missing version": vector(("Version", "")),
    "missing chainId": vector(("Chain ID", "")),
    "missing nonce": vector(("Nonce", "")),
    "missing issuedAt": vector(("Issued At", "")),
    "missing lines": vector(("URI", None), ("Chain ID", None)),
    "extra line breaks": vector((TERMS, f"\n{TERMS}")),
    "statement has line break": vector(
        (TERMS, "I accept the ServiceOrg Terms of Service: \nhttps://service.org/tos")
    ),
    "out of order uri": moved("Version", "URI"),
    "out of order version": moved("Chain ID", "Version"),
    "out of order chainId": vector(("Chain ID", None), ("Nonce", "Nonce: 12341234Chain ID: 1\n")),
    "out of order nonce": moved("Issued At", "Nonce"),
    "out of order issuedAt": moved("Expiration Time", "Issued At"),
    "out of order expirationTime": moved("Not Before", "Expiration Time"),
    "out of order notBefore": moved("Request ID", "Not Before"),
    "out of order requestId": vector(("Request ID", None)) + "\nRequest ID: some_id",
    "address not EIP-55": vector(address=CHECKSUMMED.lower()),
    "uri is non-RFC 3986": vector(("URI", "URI: _not_a_rfc3986_valid_uri_")),
    "wrong version": vector(("Version", "Version: 2")),
    "not a valid chainId": vector(("Chain ID", "Chain ID: ?")),
    "nonce with less then 8 chars": vector(("Nonce", "Nonce: 1234567")),
    "non-ISO 8601 issuedAt": vector(("Issued At", "Issued At: Wed Oct 05 2011 16:48:00 GMT+0200 (CEST)")),
    "non-ISO 8601 expirationTime": vector(
        ("Expiration", "Expiration Time: Wed Oct 05 2011 16:48:00 GMT+0200 (CEST)")
    ),
    "non-ISO 8601 notBefore": vector(("Not Before", "Not Before: Wed Oct 05 2011 16:48:00 GMT+0200 (CEST)")),
    "resources not separated by line break": vector(
        ("- https", "- https://service.org/login - https://service.org/login/2")
    ),
    "first resource is not-RFC3986": vector(
        ("- https", "- https://service.org/login\n- _not_a_rfc3986_valid_uri_")
    ),
    "second resource not-RFC 3986": vector(
        ("- https", "- _not_a_rfc3986_valid_uri_\n- https://service.org/login")
    ),
    # not among the vectors
    "a day that does not exist": vector(("Issued At", "Issued At: 2022-02-30T12:45:13Z")),
    "a line break at the end": vector() + "\n",
    "Windows line breaks": vector().replace("\n", "\r\n"),
    "an IPv6 address that does not exist": vector(head=HEAD.replace("service.org", "[1:::2]")),
    "a letter that looks like another": vector(head=HEAD.replace("service", "sеrvice")),  # noqa: RUF001
    "too long": vector((TERMS, "x" * 4_000)),
}


def test_the_message_from_which_the_negative_vectors_are_made_is_accepted() -> None:
    assert parse(vector()).request_id == "some_id"


@pytest.mark.parametrize("text", NEGATIVE.values(), ids=NEGATIVE)
def test_what_the_grammar_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        parse(text)


def signed(address: str, nonce: str, issued: str, **more: str) -> str:
    """The message of a verification vector."""
    return "\n".join(
        [
            "login.xyz wants you to sign in with your Ethereum account:",
            address,
            "",
            "Sign-In With Ethereum Example Statement",
            "",
            "URI: https://login.xyz",
            "Version: 1",
            "Chain ID: 1",
            f"Nonce: {nonce}",
            f"Issued At: {issued}",
            *(f"{name.replace('_', ' ')}: {value}" for name, value in more.items()),
        ]
    )


EXAMPLE = signed(
    "0x9D85ca56217D2bb651b00f15e694EB7E713637D4",
    "bTyXgcQxn2htgkjJn",
    "2022-01-27T17:09:38.578Z",
    Expiration_Time="2100-01-07T14:31:43.952Z",
)
EXAMPLE_SIGNATURE = (
    "0xdc35c7f8ba2720df052e0092556456127f00f7707eaa8e3bbff7e56774e7f2e05a09"
    "3cfc9e02964c33d86e8e066e221b7d153d27e5a2e97ccd5ca7d3f2ce06cb1b"
)
WRONG = signed(
    "0x6Da01670d8fc844e736095918bbE11fE8D564163",
    "rmplqh1gf",
    "2022-01-05T14:31:43.954Z",
    Expiration_Time="2100-01-07T14:31:43.952Z",
)


def test_signatures_of_the_vectors() -> None:
    assert signer_of(EXAMPLE, EXAMPLE_SIGNATURE) == parse(EXAMPLE).address
    assert parse(EXAMPLE).text() == EXAMPLE
    for bad in (
        (
            "0x31df81dc02344c9156e6f71da46e2db624b38f8f806290d670d46492b834b2e7575c"
            "bce9f48169356cfb577b910d8e30732fcf23c1ac0021d08b945ed7ee118e1b"
        ),
        "0xf2e8420fc1b722bf4941f5a0464f98172a758ceda5039f622e425fb69fd19b20e444bba7c9a8a8d7e2b5e453553efe7c9460be5d211abe473fc146d51bb04d0cb1b",
        "0x",
        "",
    ):
        assert signer_of(WRONG, bad) != parse(WRONG).address


def test_a_recovery_byte_that_starts_at_0() -> None:
    text = "\n".join(
        [
            "www.tally.xyz wants you to sign in with your Ethereum account:",
            "0xc95EB884FE852e241D409234bfC7045CB9E31BD7",
            "",
            "Sign in with Ethereum to Tally",
            "",
            "URI: https://tally.xyz",
            "Version: 1",
            "Chain ID: 1",
            "Nonce: 15050747",
            "Issued At: 2022-06-30T14:08:51.382Z",
        ]
    )
    signature = (
        "0x8c46b6eb8505939892d8e9b075f89f8277321b17b993151f37810cdda38cce6f4a85"
        "909d2b53e6a14629c74c0ac38bf4becde78ee5b2529812bf6cceaf7b2a2501"
    )
    assert signer_of(text, signature) == parse(text).address


@pytest.mark.parametrize(
    ("text", "at", "valid"),
    [
        (EXAMPLE, datetime(2026, 1, 1, tzinfo=UTC), True),
        (EXAMPLE, datetime(2200, 1, 5, tzinfo=UTC), False),
        (signed(CHECKSUMMED, "lx2nx4so", "2022-01-05T14:27:30.883Z", Not_Before="2100-01-07T14:31:43.952Z"),
         datetime(2026, 1, 1, tzinfo=UTC), False),
        (signed(CHECKSUMMED, "lx2nx4so", "2022-01-05T14:27:30.883Z", Not_Before="2100-01-07T14:31:43.952Z"),
         datetime(2101, 1, 7, 14, 31, 43, tzinfo=UTC), True),
        (signed(CHECKSUMMED, "lx2nx4so", "2020-01-05T14:27:30.883Z", Expiration_Time="2021-01-05T00:00:00Z"),
         datetime(2026, 1, 1, tzinfo=UTC), False),
        (EXAMPLE, datetime(2022, 1, 27, 17, 9, 0, tzinfo=UTC), False),  # issued 38 s in the future
    ],
)  # fmt: skip
def test_times(text: str, at: datetime, valid: bool) -> None:
    if valid:
        check_times(parse(text), at)
        return
    with pytest.raises(Rejected) as refused:
        check_times(parse(text), at)
    assert refused.value.code == "time"


TIMES = st.integers(10**12, 4 * 10**12).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
MESSAGES = st.builds(
    SignInMessage,
    domain=st.sampled_from(["maxxit.example", "localhost:5000", "127.0.0.1", "[::1]:80"]),
    address=st.just(CHECKSUMMED),
    uri=st.sampled_from(["https://maxxit.example", "http://127.0.0.1:5000/login?next=/a%20b#c", "urn:x:y"]),
    chain_id=st.integers(0, 2**64),
    nonce=st.text("abcXYZ019", min_size=8, max_size=20),
    issued_at=TIMES,
    scheme=st.sampled_from([None, "https"]),
    statement=st.none() | st.text("abc XYZ09-._~:/?#[]@!$&'()*+,;=", min_size=1, max_size=40),
    expiration_time=st.none() | TIMES,
    not_before=st.none() | TIMES,
    request_id=st.none() | st.text("abc09-._~@", max_size=10),
    resources=st.none() | st.just(()) | st.just(("https://a.example/b", "ipfs://Qm")),
)


@given(MESSAGES)
def test_a_message_that_is_written_parses_to_the_same(message: SignInMessage) -> None:
    assert parse(message.text()) == message


@given(MESSAGES, st.data())
def test_a_message_with_one_character_changed_never_parses_to_the_same(
    message: SignInMessage, data: st.DataObject
) -> None:
    text = message.text()
    place = data.draw(st.integers(0, len(text) - 1))
    other = text[:place] + data.draw(st.characters()) + text[place + 1 :]
    try:
        parsed = parse(other)
    except Rejected:
        return
    assert (
        other == text or parsed != message or parsed.text() == text
    )  # a time may be written in another form


@given(st.text(max_size=300))
def test_any_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(Rejected):
        parse(text)


def test_a_skewed_clock_is_forgiven_for_half_a_minute() -> None:
    message = parse(EXAMPLE)
    check_times(message, message.issued_at - timedelta(seconds=29))
    with pytest.raises(Rejected):
        check_times(message, message.issued_at - timedelta(seconds=31))
