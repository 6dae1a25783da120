"""May a person's address be called from here? Only by https, and only where the whole world could call it."""

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from maxxit.core.errors import Rejected, Retryable


def check_public(url: str) -> None:
    """Raise Rejected unless `url` is https and every address of its host is public; Retryable when it has none now.

    Ports other than 443 are refused too: they are where machines keep what is not for everybody.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError as error:
        raise Rejected(f"{url[:80]!r}: {error}", code="bad_address") from error
    if parts.scheme != "https" or not host or parts.username or port != 443:
        raise Rejected(
            "a webhook is https://host/path, on port 443 and without a password in it", code="bad_address"
        )
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise Retryable(f"{host} has no address now: {error}") from error
    for one in found:
        address = ip_address(str(one).partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_global or mapped.is_multicast:
            raise Rejected(f"{host} stands at {address}, which is not public", code="private_address")
