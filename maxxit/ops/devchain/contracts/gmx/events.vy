# pragma version 0.4.3
"""
@title events
@notice Emits an event of GMX by the double's emitter, from its values: abi_encode of them, one word each.
"""
import EventEmitter

emitter: immutable(address)


@deploy
def __init__(event_emitter: address):
    emitter = event_emitter


@internal
def _log(name: String[48], topic: bytes32, words: Bytes[1376]):
    extcall EventEmitter.__at__(emitter).emitEventLog1(name, topic, words)


@internal
def _log_of(name: String[48], topic: address, words: Bytes[1376]):
    self._log(name, convert(topic, bytes32), words)
