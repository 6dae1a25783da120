"""Sign module calls with the executor's key, from an encrypted keystore or at a key service, within a signing policy.

The environment names the key, never the settings: `EXECUTOR_KEYSTORE` is the path of a keystore v3 file (or its JSON),
`EXECUTOR_PASSWORD_FILE` a file with its password (or `EXECUTOR_PASSWORD`); or it names a key of a service, such as
`aws-kms:KEY-ID`, which needs no password. During a rotation the previous key is in `EXECUTOR_PREVIOUS_KEYSTORE` and
`EXECUTOR_PREVIOUS_PASSWORD_FILE` (or `…_PASSWORD`); it signs for the Safes whose policy still names it. A keystore is
decrypted only in the process that signs. No function returns a private key, and it is never printed, pickled, logged or
stored in a task or row.
"""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from string import hexdigits
from typing import Any, NoReturn

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.embedded.processes import write_secret
from trading.chain import kms
from trading.chain.chains import KNOWN_MNEMONIC, LOCAL_CHAIN_ID
from trading.chain.key_sources import CURRENT as CURRENT
from trading.chain.key_sources import DEPLOYER as DEPLOYER
from trading.chain.key_sources import KEYSTORE as KEYSTORE
from trading.chain.key_sources import PASSWORD as PASSWORD
from trading.chain.key_sources import PASSWORD_FILE as PASSWORD_FILE
from trading.chain.key_sources import PREVIOUS as PREVIOUS
from trading.chain.key_sources import KeySource as KeySource
from trading.chain.signatures import LocalKey, SigningKey
from trading.chain.signatures import Signed as Signed
from trading.chain.signatures import Unsigned as Unsigned


@dataclass(frozen=True, slots=True)
class KeyService:
    """A service that holds keys. Both functions take the variable that names a key, and what follows the scheme."""

    open: Callable[[str, str], SigningKey]
    """Returns the key, whose address the service was asked for."""
    check: Callable[[str, str], object]
    """Raises Misconfigured where no key can have that name; asks nobody."""


SERVICES: Mapping[str, KeyService] = {"aws-kms": KeyService(kms.open_key, kms.region_of)}
"""Scheme in the variable -> the service."""
PLAINTEXT = ("EXECUTOR_KEY", "EXECUTOR_PRIVATE_KEY", "PRIVATE_KEY")
"""Variables that commonly hold a plaintext key. Outside the local chain a process with one of them does not start."""
MIN_PASSWORD_LENGTH = 12
"""Minimum length of a keystore's password outside the local chain."""
CIPHER, KDFS = "aes-128-ctr", ("scrypt", "pbkdf2")
"""Cipher and key derivation functions of the Web3 Secret Storage definition, version 3."""
CRYPTO_FIELDS = ("cipher", "ciphertext", "cipherparams", "kdf", "kdfparams", "mac")
"""Required fields of its `crypto` object."""
COSTS = {"scrypt": ("n", "r", "p"), "pbkdf2": ("c",)}
"""Key derivation function -> the parameters whose product is its cost."""
MAX_COST = {"scrypt": 2**23, "pbkdf2": 10**7}
"""Maximum product: scrypt then needs 1 GB. geth and ethers use 2**21 and 2**18."""
KEY_BYTES = 32
PUBLIC = 0
"""Stands for any chain but the local one."""
KNOWN_ACCOUNTS = 20
OPEN_SELECTOR = keccak(text="open_position(address,bytes32,address,uint256,uint256,uint256)")[:4]
CLOSE_SELECTOR = keccak(text="close_position(address,bytes32,uint256,uint256,uint256)")[:4]


@dataclass(frozen=True, slots=True)
class SigningPolicy:
    """What an executor's key signs, besides empty transfers to itself."""

    targets: frozenset[str]
    """The contracts that may be called."""
    selectors: frozenset[bytes] = frozenset({OPEN_SELECTOR, CLOSE_SELECTOR})
    """Their functions."""
    max_value: int = 0
    """The most that a call may pay, wei."""


class Signer:
    """Signs the calls that its policy allows, and empty self-transfers, at a limited rate."""

    def __init__(self, key: SigningKey, *, chain_id: int, policy: SigningPolicy, per_minute: int) -> None:
        self.__key = key
        self.address: str = key.address
        self.chain_id, self.per_minute = chain_id, per_minute
        self.policy = policy
        self._signed: deque[float] = deque()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Signer {self.address}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be pickled: its key must not leave this process")

    def sign(self, tx: Unsigned) -> Signed:
        """Sign the transaction. Raises Rejected where the policy forbids it, Retryable above the rate limit.

        Both are checked before a key service is asked, which may raise Retryable and Misconfigured too.
        """
        if tx.chain_id != self.chain_id:
            raise Rejected(
                f"this key signs for chain {self.chain_id}, not {tx.chain_id}", code="signer_chain"
            )
        cancels = tx.to == self.address and not tx.data and not tx.value  # it only uses the nonce
        if tx.to not in self.policy.targets and not cancels:
            raise Rejected(f"this key does not sign calls to {tx.to}", code="signer_target")
        if tx.data[:4] not in self.policy.selectors and not cancels:
            raise Rejected(f"this key does not sign 0x{tx.data[:4].hex()}", code="signer_selector")
        if tx.value > self.policy.max_value:
            raise Rejected(
                f"this key pays at most {self.policy.max_value} wei with a call, not {tx.value}",
                code="signer_value",
            )
        self._check_rate()
        return self.__key.sign(tx)

    def _check_rate(self) -> None:
        with self._lock:
            now = time.monotonic()
            while self._signed and self._signed[0] < now - 60:
                self._signed.popleft()
            if len(self._signed) >= self.per_minute:
                raise Retryable(
                    f"{self.per_minute} signatures in the last minute, the limit: wait, and check what requests them",
                    after=60,
                )
            self._signed.append(now)


class CreationSigner:
    """Signs the creation of one contract, and empty self-transfers, with the deployer's key."""

    def __init__(self, key: SigningKey, *, chain_id: int, code: bytes) -> None:
        self.__key = key
        self.address: str = key.address
        self.chain_id, self.code = chain_id, code

    def __repr__(self) -> str:
        return f"<CreationSigner {self.address}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be pickled: its key must not leave this process")

    def sign(self, tx: Unsigned) -> Signed:
        """Sign the transaction. Raises Rejected where it is not the creation."""
        if tx.chain_id != self.chain_id:
            raise Rejected(
                f"this key signs for chain {self.chain_id}, not {tx.chain_id}", code="signer_chain"
            )
        cancels = tx.to == self.address and not tx.data
        if tx.value or (not cancels and (tx.to or tx.data != self.code)):
            raise Rejected("this key signs the creation of one contract only", code="signer_target")
        return self.__key.sign(tx)


def has_keystore(source: KeySource = CURRENT) -> bool:
    """Return whether this process has a key to sign with."""
    return bool(os.environ.get(source.keystore))


def _sources() -> list[KeySource]:
    """Return the current key's variables, and the previous key's if they are set."""
    return [CURRENT, *([PREVIOUS] if os.environ.get(PREVIOUS.keystore) else [])]


def configured_sources() -> list[KeySource]:
    """Return the executor's keys that this process has: the current one, and the previous one during a rotation."""
    return [source for source in (CURRENT, PREVIOUS) if has_keystore(source)]


def _service_of(source: KeySource) -> tuple[str, str] | None:
    """Return scheme and place of a key that a service holds; None for a keystore."""
    scheme, _, place = os.environ.get(source.keystore, "").strip().partition(":")
    return (scheme, place) if scheme in SERVICES else None


def _service_key(source: KeySource) -> SigningKey | None:
    """Return the key that a service holds; None for a keystore. Raises `Misconfigured`, Retryable."""
    service = _service_of(source)
    return SERVICES[service[0]].open(source.keystore, service[1]) if service else None


def kind_of(source: KeySource = CURRENT) -> str:
    """Return where a key is: `keystore`, or the scheme of its service. Asks nobody."""
    service = _service_of(source)
    return service[0] if service else "keystore"


def keystore(source: KeySource = CURRENT) -> dict[str, Any]:
    """Read the encrypted keystore that the environment names. Raises `Misconfigured`."""
    name = source.keystore
    given = os.environ.get(name, "")
    if not given:
        raise Misconfigured(
            f"{name} is not set: make a keystore with `manage.py safe keystore` and name its path, or name a key of "
            "AWS KMS as aws-kms:KEY-ID"
        )
    try:
        parsed = json.loads(given if given.lstrip().startswith("{") else Path(given).read_text())
    except OSError as error:
        raise Misconfigured(f"{name}: {error.strerror}: {given}") from None
    except ValueError:
        raise Misconfigured(
            f"{name} is not a keystore v3 (its JSON cannot be parsed); a plaintext key is not accepted"
        ) from None
    if not isinstance(parsed, dict):
        raise Misconfigured(f"{name} is not a keystore v3: it is not a JSON object")
    return _normalised(name, parsed)


def _normalised(name: str, parsed: dict[str, Any]) -> dict[str, Any]:
    """Return the keystore with lower-case field names, because some tools write `Crypto`, after checking its fields.

    Raises `Misconfigured` naming the field that is missing or wrong.
    """
    plain = {str(key).lower(): value for key, value in parsed.items()}
    if plain.get("version") != 3:
        raise Misconfigured(
            f"{name}: the field version is {plain.get('version')!r}; only version 3 is supported"
        )
    crypto = plain.get("crypto")
    if not isinstance(crypto, dict):
        raise Misconfigured(f"{name}: the field crypto is missing")
    crypto = {str(key).lower(): value for key, value in crypto.items()}
    if missing := [key for key in CRYPTO_FIELDS if key not in crypto]:
        raise Misconfigured(f"{name}: the field crypto.{missing[0]} is missing")
    for part in ("cipherparams", "kdfparams"):
        if not isinstance(crypto[part], dict):
            raise Misconfigured(f"{name}: the field crypto.{part} is not an object")
        crypto[part] = {str(key).lower(): value for key, value in crypto[part].items()}
    if crypto["kdf"] not in KDFS or crypto["cipher"] != CIPHER:
        raise Misconfigured(
            f"{name}: {crypto['cipher']} with {crypto['kdf']} is not supported, only {CIPHER} with {' or '.join(KDFS)}"
        )
    _check_cost(name, crypto["kdf"], crypto["kdfparams"])
    for path, value in _hex_fields(crypto):
        if (
            not isinstance(value, str)
            or len(value) % 2
            or not set(value.removeprefix("0x")) <= set(hexdigits)
        ):
            raise Misconfigured(f"{name}: the field crypto.{path} is not hex")
    return plain | {"crypto": crypto}


def _hex_fields(crypto: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return (path, value) of the hex fields."""
    return [
        ("ciphertext", crypto["ciphertext"]),
        ("mac", crypto["mac"]),
        ("cipherparams.iv", crypto["cipherparams"].get("iv")),
        ("kdfparams.salt", crypto["kdfparams"].get("salt")),
    ]


def _check_cost(name: str, kdf: str, params: dict[str, Any]) -> None:
    """Raise `Misconfigured` naming the key derivation parameter that is missing, wrong, or too expensive."""
    for field in (*COSTS[kdf], "dklen"):
        if type(params.get(field)) is not int or params[field] < 1:
            raise Misconfigured(
                f"{name}: the field crypto.kdfparams.{field} is {params.get(field)!r}; a positive integer is needed"
            )
    if params["dklen"] != KEY_BYTES:
        raise Misconfigured(f"{name}: the field crypto.kdfparams.dklen is not {KEY_BYTES}")
    if (cost := prod(params[field] for field in COSTS[kdf])) > MAX_COST[kdf]:
        raise Misconfigured(
            f"{name}: crypto.kdfparams {'*'.join(COSTS[kdf])} is {cost}, more than {MAX_COST[kdf]}"
        )
    if kdf == "pbkdf2" and params.get("prf") != "hmac-sha256":
        raise Misconfigured(
            f"{name}: the field crypto.kdfparams.prf is {params.get('prf')!r}, not hmac-sha256"
        )


def executor_address(source: KeySource = CURRENT) -> str:
    """Return the key's address without decrypting it; a key service is asked for it once in the life of a process.

    Raises `Misconfigured`, and Retryable where the service does not answer.
    """
    if key := _service_key(source):
        return key.address
    address = keystore(source).get("address")
    try:
        return str(to_checksum_address(f"0x{str(address).lower().removeprefix('0x')}"))
    except ValueError:
        raise Misconfigured(
            f"{source.keystore}: the field address is {address!r}: add the key's address, which processes that do not "
            "decrypt the key read"
        ) from None


def executor_addresses() -> tuple[str, ...]:
    """Return the current executor's address, then the previous one's during a rotation; decrypts nothing."""
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
    """Return the addresses whose keys are public: the default accounts of anvil and hardhat."""
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    return frozenset(
        Account.from_mnemonic(KNOWN_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}").address
        for index in range(KNOWN_ACCOUNTS)
    )


def check_boot(chain_id: int, sources: Collection[KeySource] = ()) -> None:
    """Check the environment of a worker that signs: no plaintext key, no public key, a long password.

    `sources`: the keys to check; empty: the executor's. Outside the local chain only. Raises `Misconfigured`.
    """
    if chain_id == LOCAL_CHAIN_ID:
        return
    if bare := [name for name in PLAINTEXT if os.environ.get(name)]:
        raise Misconfigured(f"{bare[0]} holds a plaintext key: unset it and use an encrypted keystore")
    for source in sources or _sources():
        if service := _service_of(source):  # it makes its keys itself, and has no password
            SERVICES[service[0]].check(source.keystore, service[1])
            continue
        if keystore(source).get("address") and executor_address(source) in _known_addresses():
            raise Misconfigured(
                f"{source.keystore}: this is a default key of anvil, which is public: use a key of your own"
            )
        if len(_password(source)) < MIN_PASSWORD_LENGTH:
            raise Misconfigured(
                f"{source.password_file}: the keystore's password has fewer than {MIN_PASSWORD_LENGTH} characters"
            )


def check_public_keys() -> None:
    """Check the keys of this process, if it has any, as a worker on a public chain does. Raises `Misconfigured`."""
    if sources := configured_sources():
        check_boot(PUBLIC, sources)


def open_signers(chain_id: int, policy: SigningPolicy, per_minute: int) -> dict[str, Signer]:
    """Open the current key, and the previous one during a rotation; return address -> signer.

    Called only by the worker that executes. `per_minute`: signatures per key and minute. Raises `Misconfigured`, and
    Retryable where a key service does not answer.
    """
    check_boot(chain_id)
    keys = [_opened(source, chain_id) for source in _sources()]
    return {key.address: Signer(key, chain_id=chain_id, policy=policy, per_minute=per_minute) for key in keys}


def open_deployer(chain_id: int, code: bytes) -> CreationSigner:
    """Open the deployer's key, for the creation of the contract with this code. Raises as `open_signers`."""
    check_boot(chain_id, [DEPLOYER])
    return CreationSigner(_opened(DEPLOYER, chain_id), chain_id=chain_id, code=code)


def _opened(source: KeySource, chain_id: int) -> SigningKey:
    return _service_key(source) or _decrypted(source, chain_id)


def _decrypted(source: KeySource, chain_id: int) -> LocalKey:
    """Decrypt one keystore. Raises `Misconfigured`."""
    from eth_account import Account
    from eth_keys.exceptions import ValidationError

    password = _password(source)
    redact.know(password)
    try:
        key = Account.decrypt(keystore(source), password)
    except (ValueError, TypeError, KeyError) as error:
        raise Misconfigured(
            f"{source.keystore} cannot be decrypted with the given password ({type(error).__name__})"
        ) from None
    redact.know(bytes(key))
    try:
        account = Account.from_key(key)
    except (ValueError, ValidationError):
        raise Misconfigured(f"{source.keystore} does not hold a valid key") from None
    if chain_id != LOCAL_CHAIN_ID and (
        int.from_bytes(key, "big") < 2**128 or account.address in _known_addresses()
    ):
        raise Misconfigured(
            f"{source.keystore} holds a default key: create your own with `manage.py safe keystore`"
        )
    if keystore(source).get("address") and account.address != (named := executor_address(source)):
        raise Misconfigured(
            f"{source.keystore} names the address {named} but holds the key of {account.address}"
        )
    return LocalKey(account)


def write_keystore(path: Path, key: bytes, password: str, *, iterations: int | None = None) -> str:
    """Encrypt `key` into a file that only its owner can read; return its address."""
    from eth_account import Account

    encrypted = Account.encrypt(
        key, password, kdf="scrypt" if iterations is None else "pbkdf2", iterations=iterations
    )
    write_secret(path, json.dumps(encrypted))
    return str(to_checksum_address(encrypted["address"]))
