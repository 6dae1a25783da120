# pragma version 0.4.3
"""
@title base
@notice What the contracts of the double share: roles and the data store.
"""
import DataStore
import RoleStore
import keys

dataStore: public(immutable(address))
roleStore: public(immutable(address))


@deploy
def __init__(data_store: address):
    dataStore = data_store
    roleStore = staticcall DataStore.__at__(data_store).roleStore()


@internal
@view
def _has(account: address, role: bytes32) -> bool:
    return staticcall RoleStore.__at__(roleStore).hasRole(account, role)


@internal
@view
def _only(role: bytes32, name: String[32]):
    """@dev `name`: the role's, for the error"""
    if not self._has(msg.sender, role):
        raw_revert(abi_encode(msg.sender, name, method_id=method_id("Unauthorized(address,string)")))


@internal
@view
def _controller():
    self._only(keys.CONTROLLER, "CONTROLLER")


@internal
@view
def _uint(key: bytes32) -> uint256:
    return staticcall DataStore.__at__(dataStore).getUint(key)


@internal
def _set_uint(key: bytes32, amount: uint256):
    extcall DataStore.__at__(dataStore).setUint(key, amount)


@internal
def _add_uint(key: bytes32, delta: int256) -> uint256:
    """@return the new value"""
    amount: uint256 = convert(convert(self._uint(key), int256) + delta, uint256)
    self._set_uint(key, amount)
    return amount
