"""Sign-in with Ethereum (EIP-4361): write, parse and check the message that a wallet signs.

The parser follows the ABNF of https://eips.ethereum.org/EIPS/eip-4361 with URIs of RFC 3986 and times of RFC 3339; it
accepts nothing else. PyPI's `siwe` 4.4.0 does the same but wants web3 below 8 and eth-account below 0.14.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import AddressValueError, IPv6Address

from eth_utils.address import is_checksum_address

from maxxit.core import clock
from maxxit.core.errors import Rejected

LONGEST = 4_000
"""Characters of a message; ours has about 400."""
CLOCK_SKEW = timedelta(seconds=30)
"""How far ahead of our clock a message may be issued."""

_HEX = "[0-9A-Fa-f]"
_NAME = r"[A-Za-z0-9\-._~!$&'()*+,;=]"  # unreserved / sub-delims
_PCHAR = rf"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%{_HEX}{{2}})"
_USER = rf"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%{_HEX}{{2}})*"
_HOST = rf"(?:\[[0-9A-Fa-f:.]+\]|\[v{_HEX}+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+\]|(?:{_NAME}|%{_HEX}{{2}})+)"
_AUTHORITY = rf"(?:{_USER}@)?{_HOST}(?::[0-9]*)?"
_SCHEME = r"[A-Za-z][A-Za-z0-9+\-.]*"
_SEGMENTS = rf"(?:/{_PCHAR}*)*"
_HIERARCHY = rf"(?://(?:{_AUTHORITY}|){_SEGMENTS}|/(?:{_PCHAR}+{_SEGMENTS})?|{_PCHAR}+{_SEGMENTS}|)"
_URI = rf"{_SCHEME}:{_HIERARCHY}(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
_STATEMENT = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;= ]+"  # reserved / unreserved / " "
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
_MESSAGE = re.compile(
    rf"(?:(?P<scheme>{_SCHEME})://)?(?P<domain>{_AUTHORITY}) wants you to sign in with your Ethereum account:\n"
    rf"(?P<address>0x{_HEX}{{40}})\n"
    r"\n"
    rf"(?:(?P<statement>{_STATEMENT})\n)?"
    r"\n"
    rf"URI: (?P<uri>{_URI})\n"
    r"Version: (?P<version>1)\n"
    r"Chain ID: (?P<chain_id>[0-9]+)\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,})\n"
    rf"Issued At: (?P<issued_at>{_TIME})"
    rf"(?:\nExpiration Time: (?P<expiration_time>{_TIME}))?"
    rf"(?:\nNot Before: (?P<not_before>{_TIME}))?"
    rf"(?:\nRequest ID: (?P<request_id>{_PCHAR}*))?"
    rf"(?P<resources>\nResources:(?:\n- {_URI})*)?"
)
_BRACKETS = re.compile(r"\[([0-9A-Fa-f:.]+)\]")


@dataclass(frozen=True, slots=True)
class SignInMessage:
    """The fields of a message, each as it was written; times are aware."""

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: datetime
    version: str = "1"
    scheme: str | None = None
    statement: str | None = None
    expiration_time: datetime | None = None
    not_before: datetime | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None

    def text(self) -> str:
        """Return the message as the EIP writes it, times in UTC with milliseconds."""
        origin = f"{self.scheme}://{self.domain}" if self.scheme else self.domain
        lines = [
            f"{origin} wants you to sign in with your Ethereum account:",
            self.address,
            "",
            *([self.statement] if self.statement is not None else []),
            "",
            f"URI: {self.uri}",
            f"Version: {self.version}",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {clock.iso_utc(self.issued_at)}",
        ]
        if self.expiration_time:
            lines.append(f"Expiration Time: {clock.iso_utc(self.expiration_time)}")
        if self.not_before:
            lines.append(f"Not Before: {clock.iso_utc(self.not_before)}")
        if self.request_id is not None:
            lines.append(f"Request ID: {self.request_id}")
        if self.resources is not None:
            lines += ["Resources:", *(f"- {uri}" for uri in self.resources)]
        return "\n".join(lines)


def parse(text: str) -> SignInMessage:
    """Return the fields of a message. Raises Rejected for anything that the grammar of EIP-4361 does not allow."""
    match = _MESSAGE.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        raise Rejected("this is not a sign-in message (EIP-4361)", code="message")
    parts = match.groupdict()
    if not is_checksum_address(parts["address"]):
        raise Rejected("the address in the message has no valid checksum (EIP-55)", code="message")
    if any(not _is_ipv6(host) for host in _BRACKETS.findall(f"{parts['domain']} {parts['uri']}")):
        raise Rejected("the message names an IPv6 address that does not exist", code="message")
    resources = parts["resources"]
    return SignInMessage(
        domain=parts["domain"],
        address=parts["address"],
        uri=parts["uri"],
        chain_id=int(parts["chain_id"]),
        nonce=parts["nonce"],
        issued_at=_time(parts["issued_at"]),
        version=parts["version"],
        scheme=parts["scheme"],
        statement=parts["statement"],
        expiration_time=_time(parts["expiration_time"]) if parts["expiration_time"] else None,
        not_before=_time(parts["not_before"]) if parts["not_before"] else None,
        request_id=parts["request_id"],
        resources=None if resources is None else tuple(resources.split("\n- ")[1:]),
    )


def check_times(message: SignInMessage, now: datetime) -> None:
    """Raise Rejected unless the message is valid at `now`."""
    if message.issued_at > now + CLOCK_SKEW or (message.not_before and message.not_before > now):
        raise Rejected("the message is not valid yet: check this device's clock", code="time")
    if message.expiration_time and message.expiration_time <= now:
        raise Rejected("the message has expired: sign a new one", code="time")


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise Rejected(f"the message names a time that does not exist: {text}", code="message") from error


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
