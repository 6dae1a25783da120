# pragma version 0.4.3
# pragma evm-version cancun
"""
@title DataStore
@notice All state of the double of GMX v2: values and sets under GMX's keys, and orders and positions as structures
    (which GMX spreads over single values; clients read them by the Reader). LOCAL CHAINS ONLY.
"""
import RoleStore
import Types
import keys

roleStore: public(immutable(address))

getUint: public(HashMap[bytes32, uint256])
getInt: public(HashMap[bytes32, int256])
getAddress: public(HashMap[bytes32, address])
getBool: public(HashMap[bytes32, bool])
getBytes32: public(HashMap[bytes32, bytes32])

members: HashMap[bytes32, DynArray[bytes32, 2**24]]
place: HashMap[bytes32, HashMap[bytes32, uint256]]  # in the set, from 1; 0 = not in it

order: HashMap[bytes32, Types.Order]
position: HashMap[bytes32, Types.Position]
market: HashMap[address, Types.Market]


@deploy
def __init__(role_store: address):
    roleStore = role_store


@internal
def _controller():
    if not staticcall RoleStore.__at__(roleStore).hasRole(msg.sender, keys.CONTROLLER):
        raw_revert(abi_encode(msg.sender, "CONTROLLER", method_id=method_id("Unauthorized(address,string)")))


# ---------------------------------------------------------------------------- values


@external
def setUint(key: bytes32, item: uint256) -> uint256:
    self._controller()
    self.getUint[key] = item
    return item


@external
def setInt(key: bytes32, item: int256) -> int256:
    self._controller()
    self.getInt[key] = item
    return item


@external
def setAddress(key: bytes32, item: address) -> address:
    self._controller()
    self.getAddress[key] = item
    return item


@external
def setBool(key: bytes32, item: bool) -> bool:
    self._controller()
    self.getBool[key] = item
    return item


@external
def setBytes32(key: bytes32, item: bytes32) -> bytes32:
    self._controller()
    self.getBytes32[key] = item
    return item


@external
def setUints(names: DynArray[bytes32, 128], items: DynArray[uint256, 128]):
    """Many at once, for the deployment."""
    self._controller()
    for i: uint256 in range(len(names), bound=128):
        self.getUint[names[i]] = items[i]


# ------------------------------------------------------------------------------ sets


@external
@view
def containsBytes32(set_key: bytes32, item: bytes32) -> bool:
    return self.place[set_key][item] != 0


@external
@view
def getBytes32Count(set_key: bytes32) -> uint256:
    return len(self.members[set_key])


@external
@view
def getBytes32ValuesAt(set_key: bytes32, start: uint256, end: uint256) -> DynArray[bytes32, 128]:
    return self._values(set_key, start, end)


@external
@view
def getAddressCount(set_key: bytes32) -> uint256:
    return len(self.members[set_key])


@external
@view
def containsAddress(set_key: bytes32, item: address) -> bool:
    return self.place[set_key][convert(item, bytes32)] != 0


@external
@view
def getAddressValuesAt(set_key: bytes32, start: uint256, end: uint256) -> DynArray[address, 128]:
    found: DynArray[bytes32, 128] = self._values(set_key, start, end)
    values: DynArray[address, 128] = []
    for item: bytes32 in found:
        values.append(convert(item, address))
    return values


@external
def addBytes32(set_key: bytes32, item: bytes32):
    self._controller()
    self._add(set_key, item)


@external
def removeBytes32(set_key: bytes32, item: bytes32):
    self._controller()
    self._remove(set_key, item)


@internal
@view
def _values(set_key: bytes32, start: uint256, end: uint256) -> DynArray[bytes32, 128]:
    values: DynArray[bytes32, 128] = []
    for i: uint256 in range(start, max(start, min(end, len(self.members[set_key]))), bound=128):
        values.append(self.members[set_key][i])
    return values


@internal
def _add(set_key: bytes32, item: bytes32):
    if self.place[set_key][item] == 0:
        self.members[set_key].append(item)
        self.place[set_key][item] = len(self.members[set_key])


@internal
def _remove(set_key: bytes32, item: bytes32):
    place: uint256 = self.place[set_key][item]
    if place == 0:
        return
    last: bytes32 = self.members[set_key].pop()
    if last != item:
        self.members[set_key][place - 1] = last
        self.place[set_key][last] = place
    self.place[set_key][item] = 0


# ------------------------------------------------------- markets, orders and positions


@external
@view
def getMarket(key: address) -> Types.Market:
    return self.market[key]


@external
def setMarket(market: Types.Market):
    self._controller()
    self._add(keys.MARKET_LIST, convert(market.marketToken, bytes32))
    self.market[market.marketToken] = market


@external
@view
def getOrder(key: bytes32) -> Types.Order:
    return self.order[key]


@external
def setOrder(key: bytes32, order: Types.Order):
    self._controller()
    self._add(keys.ORDER_LIST, key)
    self._add(keys._of_market(keys.ACCOUNT_ORDER_LIST, order.addresses.account), key)
    self.order[key] = order


@external
def removeOrder(key: bytes32):
    self._controller()
    account: address = self.order[key].addresses.account
    self._remove(keys.ORDER_LIST, key)
    self._remove(keys._of_market(keys.ACCOUNT_ORDER_LIST, account), key)
    self.order[key] = empty(Types.Order)


@external
@view
def getPosition(key: bytes32) -> Types.Position:
    return self.position[key]


@external
def setPosition(key: bytes32, position: Types.Position):
    """A position without a size is removed."""
    self._controller()
    lists: bytes32[2] = [
        keys.POSITION_LIST, keys._of_market(keys.ACCOUNT_POSITION_LIST, position.addresses.account)
    ]
    for name: bytes32 in lists:
        if position.numbers.sizeInUsd == 0:
            self._remove(name, key)
        else:
            self._add(name, key)
    self.getUint[keccak256(abi_encode(key, keys.SIZE_IN_USD))] = position.numbers.sizeInUsd
    self.getUint[keccak256(abi_encode(key, keys.COLLATERAL_AMOUNT))] = position.numbers.collateralAmount
    if position.numbers.sizeInUsd == 0:
        self.position[key] = empty(Types.Position)
    else:
        self.position[key] = position
