"""Compare every configured address of a chain with what stands there: code, decimals, names, and who refers to whom.

Reads at one block, by votes of the endpoints. Nothing is sent.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from maxxit.core.errors import MaxxitError, Misconfigured, Retryable
from maxxit.evm.codec import ZERO_ADDRESS, decode, encode_call
from maxxit.evm.rpc import Chain, Fault
from trading.chain import chains
from trading.venues.safe import deploy
from trading.venues.safe.units import USDC_DECIMALS

REQUEST_SECONDS = 4.0
"""Time limit of one request: a check is no reason to wait as long as a trade does."""
CHECK_SECONDS = 12.0
"""Time limit of all chains together, which are checked side by side."""
SEQUENCER_FEED_NAME = "L2 Sequencer Uptime Status Feed"
SAFE_CONTRACTS = ("SafeL2", "SafeProxyFactory", "CompatibilityFallbackHandler", "MultiSendCallOnly")
"""Contracts of Safe 1.4.1 that onboarding uses, at the same addresses on every chain."""


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What was found on one chain."""

    name: str
    chain_id: int
    checked: int
    """Number of addresses that were compared; 0 where the chain could not be read."""
    wrong: tuple[str, ...]
    """Each address that is not what it should be: its key, the address, what was found, what was expected."""
    not_checked: str = ""
    """Why the chain was not read; empty where it was."""
    incomplete: str = ""
    """What is missing before anything can trade there, with the next step."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        return {
            "chain": self.name, "chain_id": self.chain_id, "checked": self.checked, "wrong": list(self.wrong),
            "not_checked": self.not_checked, "incomplete": self.incomplete,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Read:
    """One value that is compared: a call, the type of its answer, and what it should be."""

    key: str
    address: str
    call: str
    type: str
    expected: Any
    arguments: tuple[Any, ...] = ()


def check_all(names: Sequence[str] = ()) -> list[ChainCheck]:
    """Check the chains of these names, or every configured one, side by side and within `CHECK_SECONDS`."""
    wanted = list(names) or list(chains.all_chains())
    stanzas = {name: chains.stanza(name) for name in wanted}
    pool = ThreadPoolExecutor(max(len(wanted), 1), thread_name_prefix="chain-check")
    running: dict[str, Future[ChainCheck]] = {
        name: pool.submit(check, name, stanza) for name, stanza in stanzas.items()
    }
    wait(running.values(), timeout=CHECK_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    late = f"not checked: no answer within {CHECK_SECONDS:.0f} s"
    return [
        result.result() if result.done() else ChainCheck(name, stanzas[name].chain_id, 0, (), late)
        for name, result in running.items()
    ]


def check(name: str, stanza: chains.ChainStanza) -> ChainCheck:
    """Check one chain. A chain that cannot be read is `not_checked`; endpoints of another chain are `wrong`."""
    missing = ""
    try:
        places = chains.addresses(stanza)
        missing = chains.incomplete(stanza)
        chain = chains.connect(stanza, timeout=REQUEST_SECONDS)
    except Misconfigured as error:
        return ChainCheck(name, stanza.chain_id, 0, (), f"not checked: {error}", missing)
    try:
        block = chain.head().number
        codes = _codes(chain, places, block)
        wrong = [
            f"{key}: {address} has no code on chain {stanza.chain_id}"
            for (key, address), code in codes.items()
            if not code
        ]
        empty = {address for (_, address), code in codes.items() if not code}
        wrong += _compare(chain, places, stanza, block, empty)
        wrong += _module(chain, places, stanza, block, empty)
    except MaxxitError as error:
        other = [f"endpoint {host} {why}" for host, why in chain.bad.items() if why.startswith("is chain")]
        reason = "" if other else f"not checked: {error}"
        return ChainCheck(name, stanza.chain_id, 0, tuple(other), reason, missing)
    finally:
        for endpoint in chain.endpoints:
            endpoint.close()
    return ChainCheck(name, stanza.chain_id, len(codes), tuple(wrong), "", missing)


def _codes(chain: Chain, places: chains.ContractsStanza, block: int) -> dict[tuple[str, str], bytes]:
    """Return (key, address) -> code of every configured contract, and of Safe's."""
    from trading.venues.safe import library  # loads safe-eth-py

    wanted = [
        ("usdc", places.usdc),
        ("factory", places.factory),
        ("quoter", places.quoter),
        ("multicall", places.multicall),
        *((key, getattr(places, key)) for key in ("router", "module", "sequencer_feed")),
        *((f"tokens.{symbol}.address", token.address) for symbol, token in places.tokens.items()),
        *((f"tokens.{symbol}.feed", token.feed) for symbol, token in places.tokens.items()),
        *((f"Safe's {contract}", library.deployed(contract)) for contract in SAFE_CONTRACTS),
        (
            f"Safe's MultiSendCallOnly {library.SETUP_LIBRARY}",
            library.deployed("MultiSendCallOnly", library.SETUP_LIBRARY),
        ),
    ]
    present = [(key, address) for key, address in wanted if address]
    answers = chain.agreed_all(
        [(f"the code of {address}", "eth_getCode", (address, hex(block))) for _, address in present]
    )
    return {
        place: bytes.fromhex(code.removeprefix("0x")) for place, code in zip(present, answers, strict=True)
    }


def _reads(places: chains.ContractsStanza, coin: str) -> Iterator[Read]:
    """Yield what each contract should answer."""
    yield Read("usdc", places.usdc, "symbol()", "string", "USDC")
    yield Read("usdc", places.usdc, "decimals()", "uint8", USDC_DECIMALS)
    for symbol, token in places.tokens.items():
        key = f"tokens.{symbol}.address"
        if token.symbol:
            yield Read(key, token.address, "symbol()", "string", token.symbol)
        yield Read(key, token.address, "decimals()", "uint8", token.decimals)
        yield Read(f"tokens.{symbol}.feed", token.feed, "decimals()", "uint8", token.feed_decimals)
        if token.feed_name:
            yield Read(f"tokens.{symbol}.feed", token.feed, "description()", "string", token.feed_name)
    for key in ("router", "quoter"):
        if address := getattr(places, key):
            yield Read(key, address, "factory()", "address", places.factory)
            if wrapped := places.tokens.get(coin):
                yield Read(key, address, "WETH9()", "address", wrapped.address)
    if places.sequencer_feed:
        yield Read("sequencer_feed", places.sequencer_feed, "decimals()", "uint8", 0)


def _compare(
    chain: Chain, places: chains.ContractsStanza, stanza: chains.ChainStanza, block: int, empty: set[str]
) -> list[str]:
    """Return what the contracts answer that differs from what is expected, as sentences."""
    if places.multicall in empty:
        return ["multicall: without it nothing else was compared"]
    reads = [read for read in _reads(places, stanza.coin) if read.address not in empty]
    if (
        stanza.chain_id != chains.LOCAL_CHAIN_ID
        and places.sequencer_feed
        and places.sequencer_feed not in empty
    ):
        name = Read("sequencer_feed", places.sequencer_feed, "description()", "string", SEQUENCER_FEED_NAME)
        reads.append(name)
    pools = [
        Read(
            symbol,
            places.factory,
            "getPool(address,address,uint24)",
            "address",
            None,
            (places.usdc, token.address, fee),
        )
        for symbol, token in places.tokens.items()
        for fee in stanza.fee_tiers
        if places.factory not in empty
    ]
    calls = [(read.address, True, encode_call(read.call, *read.arguments)) for read in (*reads, *pools)]
    request = {
        "to": places.multicall,
        "data": "0x" + encode_call("aggregate3((address,bool,bytes)[])", calls).hex(),
    }
    try:
        rows = _rows(chain.agreed_call(request, hex(block)))
    except Fault:
        rows = []
    if len(rows) != len(calls):
        return [f"multicall: {places.multicall} does not answer as Multicall3, so nothing else was compared"]
    wrong = [
        f"{read.key}: {read.address} answers {read.call} with {found}, expected {_shown(read.expected)}"
        for read, (good, data) in zip(reads, rows, strict=False)
        if (found := _found(read, good, data)) != _shown(read.expected)
    ]
    existing = {
        read.key
        for read, (good, data) in zip(pools, rows[len(reads) :], strict=True)
        if _found(read, good, data) not in (ZERO_ADDRESS, NO_ANSWER)
    }
    tiers = ", ".join(map(str, stanza.fee_tiers))
    wrong += [
        f"tokens.{symbol}: factory {places.factory} has no pool of {token.address} against USDC {places.usdc} in the "
        f"fee tiers {tiers}"
        for symbol, token in places.tokens.items()
        if pools and symbol not in existing
    ]
    return wrong


NO_ANSWER = "nothing"


def _rows(answer: str) -> list[tuple[bool, bytes]]:
    """Return Multicall3's (success, answer) pairs; none where the answer is of another shape."""
    try:
        rows: list[tuple[bool, bytes]] = decode(["(bool,bytes)[]"], bytes.fromhex(answer.removeprefix("0x")))[
            0
        ]
    except Retryable:
        return []
    return rows


def _found(read: Read, good: bool, data: bytes) -> str:
    """Return the decoded answer as text; `nothing` where the contract has no such function."""
    if not good or not data:
        return NO_ANSWER
    try:
        return _shown(decode([read.type], data)[0])
    except Retryable:
        return f"0x{data.hex()[:64]}"


def _shown(value: Any) -> str:
    """Return the value as it is written in a message."""
    return f'"{value}"' if isinstance(value, str) and not value.startswith("0x") else str(value)


def _module(
    chain: Chain, places: chains.ContractsStanza, stanza: chains.ChainStanza, block: int, empty: set[str]
) -> list[str]:
    """Return how the module differs from our build with the configured addresses."""
    needs = {places.usdc, places.router}
    if places.module is None or empty & {places.module, *needs}:
        return []
    try:
        found = deploy.difference(chain, deploy.module_creation(stanza), places.module, block)
    except Fault as error:
        return [f"module: our build cannot be created with these addresses: {error}"]
    except Misconfigured as error:
        return [f"module: {error}"]
    return [f"module: {found}"] if found else []
