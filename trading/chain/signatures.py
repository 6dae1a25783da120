"""Sign an EIP-1559 transaction with a key: one that is in memory, or one that stays where it can only be asked to sign.

A key service signs the transaction's hash and answers with a DER signature. `signed_by_service` makes an Ethereum
signature of it: s in the lower half of the order (EIP-2), the recovery bit by recovering both candidates. What does not
recover to the key's own address is refused, so nothing is ever stored or sent that somebody else, or nobody, signed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from maxxit.core.errors import Misconfigured

# eth_account imports pairing curves, which takes seconds and megabytes: only processes with a key load it
if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order n of secp256k1 (SEC 2, 2.4.1)."""


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An EIP-1559 transaction. Fees in wei per gas."""

    chain_id: int
    nonce: int
    to: str
    data: bytes
    gas: int
    max_fee: int
    tip: int
    value: int = 0
    """Wei."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction: bytes and hash."""

    raw: bytes
    hash: str


class SigningKey(Protocol):
    """A private key that signs whatever it is given; `trading.chain.signer` decides what that may be."""

    address: str
    kind: str
    """Where the key is, for people: "keystore", "AWS KMS"."""

    def sign(self, tx: Unsigned) -> Signed:
        """Sign. Raises Retryable where the key cannot be asked now, Misconfigured where an operator must act."""
        ...


class LocalKey:
    """A key in this process's memory, decrypted from a keystore."""

    kind = "keystore"

    def __init__(self, account: "LocalAccount") -> None:
        self.__account = account
        self.address: str = account.address

    def __repr__(self) -> str:
        return f"<LocalKey {self.address}>"

    def sign(self, tx: Unsigned) -> Signed:
        """Sign."""
        signed = self.__account.sign_transaction(_fields(tx))
        return Signed(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())


def signed_by_service(tx: Unsigned, address: str, sign_digest: Callable[[bytes], bytes]) -> Signed:
    """Return the transaction signed by a key that others hold.

    Args:
        tx: what to sign.
        address: the key's address.
        sign_digest: returns the DER-encoded ECDSA signature (RFC 3279) of the 32 bytes that it is given.

    Raises:
        Misconfigured: the signature is malformed, or is not that of `address`.
    """
    from eth_account.typed_transactions import TypedTransaction
    from eth_utils.crypto import keccak

    digest = bytes(TypedTransaction.from_dict(_fields(tx)).hash())
    r, s = _numbers_of(sign_digest(digest))
    s = min(s, ORDER - s)  # both are valid; EIP-2 accepts the lower one alone
    bit = _recovery_bit(digest, r, s, address)
    raw = bytes(TypedTransaction.from_dict(_fields(tx) | {"v": bit, "r": r, "s": s}).encode())
    return Signed(raw, "0x" + keccak(raw).hex())


def address_of(public_key: bytes) -> str:
    """Return the address of a public key of secp256k1. Raises ValueError for any other.

    `public_key`: a DER-encoded SubjectPublicKeyInfo (RFC 5480).
    """
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
    from eth_utils.address import to_checksum_address
    from eth_utils.crypto import keccak

    key = load_der_public_key(public_key)
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256K1):
        raise ValueError("it is not a public key of secp256k1")
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return str(to_checksum_address(keccak(point[1:])[-20:]))


def _numbers_of(signature: bytes) -> tuple[int, int]:
    """Return (r, s) of a DER signature; nothing but the one strict encoding of two numbers in range is read."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    try:
        r, s = decode_dss_signature(signature)
    except ValueError as error:
        raise Misconfigured(f"the key service's signature is not DER-encoded: {error}") from None
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise Misconfigured("the key service's signature is out of range: r and s are 1 to n - 1")
    return r, s


def _recovery_bit(digest: bytes, r: int, s: int, address: str) -> int:
    """Return the recovery bit with which the signature is that of `address`. Raises Misconfigured where none is.

    The bits 2 and 3, for a point whose x is n or more, cannot stand in a transaction; they happen once in 2**127.
    """
    from eth_keys import keys
    from eth_keys.exceptions import BadSignature

    for bit in (0, 1):
        try:
            found = keys.Signature(vrs=(bit, r, s)).recover_public_key_from_msg_hash(digest)
        except BadSignature:
            continue
        if found.to_checksum_address() == address:
            return bit
    raise Misconfigured(
        f"the key service's signature is not that of {address}: nothing is sent. It signed something else or with "
        "another key: check which service this process asks"
    )


def _fields(tx: Unsigned) -> dict[str, Any]:
    return {
        "type": 2, "chainId": tx.chain_id, "nonce": tx.nonce, "to": tx.to, "value": tx.value, "data": tx.data,
        "gas": tx.gas, "maxFeePerGas": tx.max_fee, "maxPriorityFeePerGas": tx.tip,
    }  # fmt: skip
