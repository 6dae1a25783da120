# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Reader
@notice Orders, positions and markets of the double of GMX v2, as GMX's Reader answers. LOCAL CHAINS ONLY.
"""
import DataStore
import Types
import keys

PAGE: constant(uint256) = 16


@external
@view
def getOrder(data_store: address, key: bytes32) -> Types.Order:
    return staticcall DataStore.__at__(data_store).getOrder(key)


@external
@view
def getPosition(data_store: address, key: bytes32) -> Types.Position:
    return staticcall DataStore.__at__(data_store).getPosition(key)


@external
@view
def getMarket(data_store: address, key: address) -> Types.Market:
    return staticcall DataStore.__at__(data_store).getMarket(key)


@external
@view
def getMarkets(data_store: address, start: uint256, end: uint256) -> DynArray[Types.Market, PAGE]:
    found: DynArray[Types.Market, PAGE] = []
    markets: DynArray[address, 128] = staticcall DataStore.__at__(data_store).getAddressValuesAt(
        keys.MARKET_LIST, start, min(end, start + PAGE)
    )
    for market: address in markets:
        found.append(staticcall DataStore.__at__(data_store).getMarket(market))
    return found


@external
@view
def getAccountOrders(
    data_store: address, account: address, start: uint256, end: uint256
) -> DynArray[Types.OrderInfo, PAGE]:
    """@dev at most 16 in one answer"""
    found: DynArray[Types.OrderInfo, PAGE] = []
    listed: DynArray[bytes32, 128] = staticcall DataStore.__at__(data_store).getBytes32ValuesAt(
        keys._of_market(keys.ACCOUNT_ORDER_LIST, account), start, min(end, start + PAGE)
    )
    for key: bytes32 in listed:
        found.append(
            Types.OrderInfo(orderKey=key, order=staticcall DataStore.__at__(data_store).getOrder(key))
        )
    return found


@external
@view
def getAccountPositions(
    data_store: address, account: address, start: uint256, end: uint256
) -> DynArray[Types.Position, PAGE]:
    """@dev at most 16 in one answer"""
    found: DynArray[Types.Position, PAGE] = []
    listed: DynArray[bytes32, 128] = staticcall DataStore.__at__(data_store).getBytes32ValuesAt(
        keys._of_market(keys.ACCOUNT_POSITION_LIST, account), start, min(end, start + PAGE)
    )
    for key: bytes32 in listed:
        found.append(staticcall DataStore.__at__(data_store).getPosition(key))
    return found
