"""The executor's key: encrypted at rest, decrypted only in the process that signs, and only for what the policy says.

It is found in the environment, never in settings: `EXECUTOR_KEYSTORE` is the path of a keystore v3 file (or its
JSON), `EXECUTOR_PASSWORD_FILE` a file that holds its password (or `EXECUTOR_PASSWORD`). During a rotation the key
before it stays in `EXECUTOR_PREVIOUS_KEYSTORE` and `EXECUTOR_PREVIOUS_PASSWORD_FILE` (or `…_PASSWORD`), and signs for
the Safes whose policy still names it. Nothing here returns a key; it does not print, does not pickle, and is in no
task, row or log.
"""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Any, NoReturn

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.embedded.processes import write_secret
from trading.chain.chains import KNOWN_MNEMONIC, LOCAL_CHAIN_ID

# eth_account brings pairing curves that cost seconds and megabytes: it is loaded where a key is, in no other process
if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


@dataclass(frozen=True, slots=True)
class KeySource:
    """The environment variables that hold one key."""

    keystore: str
    password: str
    password_file: str


CURRENT = KeySource("EXECUTOR_KEYSTORE", "EXECUTOR_PASSWORD", "EXECUTOR_PASSWORD_FILE")
PREVIOUS = KeySource(
    "EXECUTOR_PREVIOUS_KEYSTORE", "EXECUTOR_PREVIOUS_PASSWORD", "EXECUTOR_PREVIOUS_PASSWORD_FILE"
)
KEYSTORE, PASSWORD, PASSWORD_FILE = CURRENT.keystore, CURRENT.password, CURRENT.password_file
PLAINTEXT = ("EXECUTOR_KEY", "EXECUTOR_PRIVATE_KEY", "PRIVATE_KEY")
"""Variables that other projects keep a bare key in; outside the local chain they refuse to start."""
WEAK_PASSWORDS = 12
"""A keystore's password is at least so long outside the local chain."""
CIPHER, KDFS = "aes-128-ctr", ("scrypt", "pbkdf2")
"""What the Web3 Secret Storage definition (version 3) knows."""
PARTS = ("cipher", "ciphertext", "cipherparams", "kdf", "kdfparams", "mac")
"""The fields of its `crypto`."""
COSTS = {"scrypt": ("n", "r", "p"), "pbkdf2": ("c",)}
"""The numbers in its `kdfparams` that say how dear it is to open, by the name of its `kdf`."""
DEAREST = {"scrypt": 2**23, "pbkdf2": 10**7}
"""Their product at most: scrypt then takes a gigabyte. geth, ethers and others use 2**21, and 2**18."""
KEY_BYTES = 32
KNOWN_ACCOUNTS = 20
OPEN = keccak(text="open_position(address,bytes32,address,uint256,uint256,uint256)")[:4]
CLOSE = keccak(text="close_position(address,bytes32,uint256,uint256,uint256)")[:4]


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An EIP-1559 transaction without value. Fees in wei a gas."""

    chain_id: int
    nonce: int
    to: str
    data: bytes
    gas: int
    max_fee: int
    tip: int


@dataclass(frozen=True, slots=True)
class Signed:
    """What may be broadcast."""

    raw: bytes
    hash: str


class Signer:
    """Signs what is inside the policy at a bounded rate: open and close of our module, and nothing to itself."""

    def __init__(
        self, account: "LocalAccount", *, chain_id: int, targets: Collection[str], per_minute: int
    ) -> None:
        self.__account = account
        self.address: str = account.address
        self.chain_id, self.per_minute = chain_id, per_minute
        self.targets = frozenset(targets)
        self._signed: deque[float] = deque()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Signer {self.address}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer stays in the process that made it")

    def sign(self, tx: Unsigned) -> Signed:
        """Raises Rejected where the policy forbids it, Retryable above the rate."""
        if tx.chain_id != self.chain_id:
            raise Rejected(
                f"this key signs for chain {self.chain_id}, not {tx.chain_id}", code="signer_chain"
            )
        cancels = tx.to == self.address and not tx.data  # value is always 0: it only uses up a nonce
        if tx.to not in self.targets and not cancels:
            raise Rejected(f"this key does not sign calls to {tx.to}", code="signer_target")
        if tx.data[:4] not in (OPEN, CLOSE) and not cancels:
            raise Rejected(f"this key does not sign 0x{tx.data[:4].hex()}", code="signer_selector")
        self._pace()
        fields: dict[str, Any] = {
            "type": 2, "chainId": tx.chain_id, "nonce": tx.nonce, "to": tx.to, "value": 0, "data": tx.data,
            "gas": tx.gas, "maxFeePerGas": tx.max_fee, "maxPriorityFeePerGas": tx.tip,
        }  # fmt: skip
        made = self.__account.sign_transaction(fields)
        return Signed(bytes(made.raw_transaction), "0x" + bytes(made.hash).hex())

    def _pace(self) -> None:
        with self._lock:
            now = time.monotonic()
            while self._signed and self._signed[0] < now - 60:
                self._signed.popleft()
            if len(self._signed) >= self.per_minute:
                raise Retryable(f"{self.per_minute} signatures within a minute: this looks wrong", after=60)
            self._signed.append(now)


def has_keystore() -> bool:
    """Whether this process was given a key to sign with."""
    return bool(os.environ.get(KEYSTORE))


def _sources() -> list[KeySource]:
    """The keys that the environment names: the current one, which must be there, and the previous one if it is."""
    return [CURRENT, *([PREVIOUS] if os.environ.get(PREVIOUS.keystore) else [])]


def keystore(source: KeySource = CURRENT) -> dict[str, Any]:
    """The encrypted keystore as the environment names it. Raises `Misconfigured`."""
    name = source.keystore
    given = os.environ.get(name, "")
    if not given:
        raise Misconfigured(f"{name} is not set: make one with `manage.py safe keystore` and name its path")
    try:
        found = json.loads(given if given.lstrip().startswith("{") else Path(given).read_text())
    except OSError as error:
        raise Misconfigured(f"{name}: {error.strerror}: {given}") from None
    except ValueError:
        raise Misconfigured(f"{name} is no keystore v3: a bare key is never taken") from None
    if not isinstance(found, dict):
        raise Misconfigured(f"{name} is no keystore v3: it is no JSON object")
    return _standard(name, found)


def _standard(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """The keystore with the field names of the Web3 Secret Storage definition, which other tools write in other letters
    (`Crypto`). Raises `Misconfigured` naming the field that is missing or wrong."""
    plain = {str(key).lower(): value for key, value in found.items()}
    if plain.get("version") != 3:
        raise Misconfigured(f"{name}: its field version is {plain.get('version')!r}: only version 3 is read")
    crypto = plain.get("crypto")
    if not isinstance(crypto, dict):
        raise Misconfigured(f"{name}: its field crypto is missing")
    crypto = {str(key).lower(): value for key, value in crypto.items()}
    if missing := [key for key in PARTS if key not in crypto]:
        raise Misconfigured(f"{name}: its field crypto.{missing[0]} is missing")
    for part in ("cipherparams", "kdfparams"):
        if not isinstance(crypto[part], dict):
            raise Misconfigured(f"{name}: its field crypto.{part} is no object")
        crypto[part] = {str(key).lower(): value for key, value in crypto[part].items()}
    if crypto["kdf"] not in KDFS or crypto["cipher"] != CIPHER:
        raise Misconfigured(
            f"{name}: {crypto['cipher']} with {crypto['kdf']} is not read, only {CIPHER} with {' or '.join(KDFS)}"
        )
    _check_cost(name, crypto["kdf"], crypto["kdfparams"])
    for place, value in _texts(crypto):
        if (
            not isinstance(value, str)
            or len(value) % 2
            or not set(value.removeprefix("0x")) <= set(hexdigits)
        ):
            raise Misconfigured(f"{name}: its field crypto.{place} is no hex")
    return plain | {"crypto": crypto}


def _texts(crypto: dict[str, Any]) -> list[tuple[str, Any]]:
    """The fields in hex, with where they stand."""
    return [
        ("ciphertext", crypto["ciphertext"]),
        ("mac", crypto["mac"]),
        ("cipherparams.iv", crypto["cipherparams"].get("iv")),
        ("kdfparams.salt", crypto["kdfparams"].get("salt")),
    ]


def _check_cost(name: str, kdf: str, params: dict[str, Any]) -> None:
    """Raise `Misconfigured` naming the parameter of the key derivation that is missing, wrong, or too dear."""
    for field in (*COSTS[kdf], "dklen"):
        if type(params.get(field)) is not int or params[field] < 1:
            raise Misconfigured(f"{name}: its field crypto.kdfparams.{field} is {params.get(field)!r}")
    if params["dklen"] != KEY_BYTES:
        raise Misconfigured(f"{name}: its field crypto.kdfparams.dklen is not {KEY_BYTES}")
    if (cost := prod(params[field] for field in COSTS[kdf])) > DEAREST[kdf]:
        raise Misconfigured(
            f"{name}: crypto.kdfparams {'*'.join(COSTS[kdf])} is {cost}, more than {DEAREST[kdf]}"
        )
    if kdf == "pbkdf2" and params.get("prf") != "hmac-sha256":
        raise Misconfigured(
            f"{name}: its field crypto.kdfparams.prf is {params.get('prf')!r}, not hmac-sha256"
        )


def executor_address(source: KeySource = CURRENT) -> str:
    """Whose key it is, without decrypting it: for the processes that do not sign. Raises `Misconfigured`."""
    address = keystore(source).get("address")
    try:
        return str(to_checksum_address(f"0x{str(address).lower().removeprefix('0x')}"))
    except ValueError:
        raise Misconfigured(
            f"{source.keystore}: its field address is {address!r}: add the key's address, which processes that do not "
            "decrypt it read"
        ) from None


def executor_addresses() -> tuple[str, ...]:
    """The current executor, then the previous one while it is being retired; nothing is decrypted."""
    return tuple(executor_address(source) for source in _sources())


def _password(source: KeySource) -> str:
    path = os.environ.get(source.password_file, "")
    if path:
        try:
            return Path(path).read_text().rstrip("\n")
        except OSError as error:
            raise Misconfigured(f"{source.password_file}: {error.strerror}: {path}") from None
    return os.environ.get(source.password, "")


@cache
def _known_addresses() -> frozenset[str]:
    """Accounts whose keys the whole world has: those of anvil and hardhat."""
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    return frozenset(
        Account.from_mnemonic(KNOWN_MNEMONIC, account_path=f"m/44'/60'/0'/0/{place}").address
        for place in range(KNOWN_ACCOUNTS)
    )


def check_boot(chain_id: int) -> None:
    """What must hold before a worker that signs may start. Raises `Misconfigured`."""
    if chain_id == LOCAL_CHAIN_ID:
        return
    if bare := [name for name in PLAINTEXT if os.environ.get(name)]:
        raise Misconfigured(f"{bare[0]} holds a plaintext key: unset it and use an encrypted keystore")
    for source in _sources():
        if keystore(source).get("address") and executor_address(source) in _known_addresses():
            raise Misconfigured(f"{source.keystore}: this key is anvil's; the whole world has it")
        if len(_password(source)) < WEAK_PASSWORDS:
            raise Misconfigured(
                f"{source.password_file}: the keystore's password has less than {WEAK_PASSWORDS} characters"
            )


def open_signers(chain_id: int, targets: Collection[str], per_minute: int) -> dict[str, Signer]:
    """Decrypt the current key, and the previous one during a rotation; the signers by address.

    Only the worker that executes calls this. `per_minute` holds for each. Raises `Misconfigured`.
    """
    check_boot(chain_id)
    accounts = [_decrypted(source, chain_id) for source in _sources()]
    return {
        account.address: Signer(account, chain_id=chain_id, targets=targets, per_minute=per_minute)
        for account in accounts
    }


def _decrypted(source: KeySource, chain_id: int) -> "LocalAccount":
    """The account of one keystore. Raises `Misconfigured`."""
    from eth_account import Account
    from eth_keys.exceptions import ValidationError

    password = _password(source)
    redact.know(password)
    try:
        key = Account.decrypt(keystore(source), password)
    except (ValueError, TypeError, KeyError) as error:
        raise Misconfigured(
            f"{source.keystore} does not open with the password given ({type(error).__name__})"
        ) from None
    redact.know(bytes(key))
    try:
        account: LocalAccount = Account.from_key(key)
    except (ValueError, ValidationError):
        raise Misconfigured(f"{source.keystore} holds no valid key") from None
    if chain_id != LOCAL_CHAIN_ID and (
        int.from_bytes(key, "big") < 2**128 or account.address in _known_addresses()
    ):
        raise Misconfigured(f"{source.keystore} holds a default key: make one of your own")
    if keystore(source).get("address") and account.address != (named := executor_address(source)):
        raise Misconfigured(f"{source.keystore} says {named} but holds the key of {account.address}")
    return account


def write_keystore(path: Path, key: bytes, password: str, *, iterations: int | None = None) -> str:
    """Encrypt `key` into a file that only its owner may read; returns its address."""
    from eth_account import Account

    made = Account.encrypt(
        key, password, kdf="scrypt" if iterations is None else "pbkdf2", iterations=iterations
    )
    write_secret(path, json.dumps(made))
    return str(to_checksum_address(made["address"]))
