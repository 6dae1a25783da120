# pragma version 0.4.3
"""
@title keys
@notice GMX's names in the data store: keccak256(abi.encode(name)), checked by tests/chain/gmx. A value's key is the
    keccak256 of its name and arguments, one word each.
"""

# roles
CONTROLLER: constant(bytes32) = 0x97adf037b2472f4a6a9825eff7d2dd45e37f2dc308df2a260d6a72af4189a65b
ROUTER_PLUGIN: constant(bytes32) = 0xc82e6cc76072f8edb32d42796e58e13ab6e145524eb6b36c073be82f20d410f3
ORDER_KEEPER: constant(bytes32) = 0x40a07f8f0fc57fcf18b093d96362a8e661eaac7b7e6edbf66f242111f83a6794
FROZEN_ORDER_KEEPER: constant(bytes32) = 0xcb6c7bc0d25d73c91008af44527b80c56dee4db8965845d926a25659a4a8bc07
LIQUIDATION_KEEPER: constant(bytes32) = 0x556c788ffc0574ec93966d808c170833d96489c9c58f5bcb3dadf711ba28720e
ADL_KEEPER: constant(bytes32) = 0xb37d64edaeaf5e634c13682dbd813f5a12fec9eb4f74433a089e7a3c3289af91

# lists
MARKET_LIST: constant(bytes32) = 0xcdac201abd09598973b1365dbbaeb65ff0f370d30bb5c7440dc3341f570b2e38
ORDER_LIST: constant(bytes32) = 0x86f7cfd5d8f8404e5145c91bebb8484657420159dabd0753d6a59f3de3f7b8c1
ACCOUNT_ORDER_LIST: constant(bytes32) = 0xd008ab8798caa94b11c12ebc5bce5104c343552f5375d1bf3870b4b4a6e8d562
AUTO_CANCEL_ORDER_LIST: constant(bytes32) = 0xc52850ea977ceeb31a6fec609fc6450d66dbe30e1b9c1f6f3ce549921200026f
POSITION_LIST: constant(bytes32) = 0x3fe95e2be5587b71e685e297dc351a27f09a363e7d84b38bb75158a8f06590ac
ACCOUNT_POSITION_LIST: constant(bytes32) = 0xa94015725b1182c6666b50aed1bb84d2b2cf9da39e6f5a5b19cd01f2f37738a1
NONCE: constant(bytes32) = 0x61d7b15962e47499cf052e59076ed26d83442f0a746870faeec94287c0f3d55f
SIZE_IN_USD: constant(bytes32) = 0xb7546ea7387a34ebc18a4a83bee7e811397161e773fb7bc4e9bfb9fc65e9aa89
COLLATERAL_AMOUNT: constant(bytes32) = 0xb88da5cd71628783263477a6261c2906e380aa32e85e2e87b2463bbdc1127221

# state of a market
POOL_AMOUNT: constant(bytes32) = 0x8d6d2afbc2bb1e17cb89b72f19b266a410f6ee8f890812b98b609d4bbf135960
COLLATERAL_SUM: constant(bytes32) = 0xe27f5ccaade489de12c2ef69d7b8ed7fd42971f096ed75f305c7f990952b8a87
OPEN_INTEREST: constant(bytes32) = 0x4259c04608de5df0fa0e375507d66e8ffc81773c9f3dd501a181cbb349ae4fe0
OPEN_INTEREST_IN_TOKENS: constant(bytes32) = 0xc577a5cb08b8e2126f9b9796b8c85ef9d1b5047a5ff670fc18802878f0bfd2f8
POSITION_IMPACT_POOL_AMOUNT: constant(bytes32) = 0x8d05e344d016decb2483e1a2db6dfebdef3f67c47ac787f0ac505b4d45d3e16c
TOTAL_PENDING_IMPACT_AMOUNT: constant(bytes32) = 0x8c39c0e5945b8829c58b6aeea3ec86094fe23079d4b7b1a944afef24f9497d8f
CUMULATIVE_BORROWING_FACTOR: constant(bytes32) = 0xdfcf1ff0bd7c33ac55f48912a5ab14e3f2f75247a2a36b0f34c4bf025cf7aca9
CUMULATIVE_BORROWING_FACTOR_UPDATED_AT: constant(bytes32) = 0x965350856896dd6e2b221d575c162996752999158c92401a2428740d55b419bf
FUNDING_FEE_AMOUNT_PER_SIZE: constant(bytes32) = 0x4c12833ffbe25653fd28535e4277f4c8ada589407177c25b4e4760ab736a64ba
CLAIMABLE_FUNDING_AMOUNT_PER_SIZE: constant(bytes32) = 0xeb7c85784645884cb4a464c83381b211da0a5822b2a986804aa3cba063c130cd
FUNDING_UPDATED_AT: constant(bytes32) = 0xb5ddf508060c27de8692c76ee937ac1c56cb8c1fb7431f074d2a0eb00b863ee6
CLAIMABLE_FUNDING_AMOUNT: constant(bytes32) = 0x06fc3f5466c175728538f97bb3af89978c1db23c9c7f107930c4bb1b84305a1d
SAVED_CALLBACK_CONTRACT: constant(bytes32) = 0xd184c4ba8f4297e73d22c50e69ab9c3086eb81c01cb2d7b6ca71bbc3b1d1b511
IS_ADL_ENABLED: constant(bytes32) = 0x42d606829004e41fa153cb60d91f53d9fd69270a28d3d5a7ebbc9475a66bb4b8

# settings
POSITION_FEE_FACTOR: constant(bytes32) = 0x3999256650a6ebfea3dfbd4d56990f4d9048943a0e38ea6aabfc65122556c342
LIQUIDATION_FEE_FACTOR: constant(bytes32) = 0x3a9047f0ded507ed1dabb64e1e0515c4b51c350aa275b69f5d66841dcf29b4ff
BORROWING_FACTOR: constant(bytes32) = 0xa38d85dceca084ba5b76ea9a3020c5536fb5cf7455ef13366c4f4ad20d24b3c2
FUNDING_FACTOR: constant(bytes32) = 0x8d25c5b55501c0bb1657a27730a272059c9a87bbf03ea76434f679bfef179e73
MAX_FUNDING_FACTOR_PER_SECOND: constant(bytes32) = 0xbeb1b2c6c23ef59c950f3194c435435cc060a612328d7b143074e6309e18e282
POSITION_IMPACT_FACTOR: constant(bytes32) = 0xdbe66c23ce3688bc34131316a8b4dd967631de35afb1dbb972bc1b7c71c4a18b
POSITION_IMPACT_EXPONENT_FACTOR: constant(bytes32) = 0xdd130ae153fcacdeb3063e386277de2d305638932d8de421f5c79f3919eea233
MIN_COLLATERAL_FACTOR: constant(bytes32) = 0x9fc265ee9783e670a7a731141f58b59bca5a260ba3eb3f893412fb613dc559f7
MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION: constant(bytes32) = 0xc1c82b94002bf5bd86480807e32ee86f3d83d38b2853b1e48546acc11884eebd
MIN_COLLATERAL_USD: constant(bytes32) = 0x6497f0f2c47edc68f06ede1c06d3475f939eb1a8341362460277bcd8ee7419f4
MIN_POSITION_SIZE_USD: constant(bytes32) = 0x48faddd525cc6e216bc2c62a7053b940a842e3c102782fb4da69ebeb8f7bd724
MAX_OPEN_INTEREST: constant(bytes32) = 0x00468cb3aa9036ff00a31f90887485d87e1ee0299e9c1e1a838fe5110c4fbafb
RESERVE_FACTOR: constant(bytes32) = 0xeb6dbcc031d84cf5bcdec21aafd7b4ea59618b0863960405767329a7ad41889a
MAX_PNL_FACTOR_FOR_ADL: constant(bytes32) = 0x95024a223e128da6224cc271671896642c5acb9ebf2f0432e71fcd87205177cf
IS_MARKET_DISABLED: constant(bytes32) = 0x5c27e8a9fa01145fb01eb80b81db2eab7e57bc33d109d6a64315239a65ce4d36
REQUEST_EXPIRATION_TIME: constant(bytes32) = 0xf664ba0f4e5389df44705cd100171228b74c4f050a9f00bd873e95d25c49a273
MAX_CALLBACK_GAS_LIMIT: constant(bytes32) = 0x96db769bd846fd256f553194bd23105f53fbbc15d04533f642d48a1ea161bfc4
MAX_AUTO_CANCEL_ORDERS: constant(bytes32) = 0xef2fbe4143b9a96a7ea63d505c1a2113ad28c3698479c1a47d0f3bb2317476ec
ESTIMATED_GAS_FEE_BASE_AMOUNT_V2_1: constant(bytes32) = 0x39288f227e5db9a793e9f4afb15aa22b77dbb7e410ffc973c816a19a6ed921cd
ESTIMATED_GAS_FEE_PER_ORACLE_PRICE: constant(bytes32) = 0xf95915378e4358fb5f51ae0fd75853a15a29a978eb14b73d5c5b7d69d3b9fccc
ESTIMATED_GAS_FEE_MULTIPLIER_FACTOR: constant(bytes32) = 0xce135f2a886cf6d862269f215b1e64498fa09cb04f90b771b163399df2a82b81
INCREASE_ORDER_GAS_LIMIT: constant(bytes32) = 0x983e0a7f5307213e84497f2543331fe5e404db14ddf98f98dc956e0ee3ab6875
DECREASE_ORDER_GAS_LIMIT: constant(bytes32) = 0xfce7a3444b72c2d30987163c1f2e6c00cffa03bf0b6ca2f077e8db006b4cae8b


@internal
@pure
def _of(name: bytes32, first: bytes32) -> bytes32:
    return keccak256(abi_encode(name, first))


@internal
@pure
def _of_market(name: bytes32, market: address) -> bytes32:
    return keccak256(abi_encode(name, market))


@internal
@pure
def _of_token(name: bytes32, market: address, token: address) -> bytes32:
    return keccak256(abi_encode(name, market, token))


@internal
@pure
def _of_side(name: bytes32, market: address, flag: bool) -> bytes32:
    return keccak256(abi_encode(name, market, flag))


@internal
@pure
def _of_token_side(name: bytes32, market: address, token: address, is_long: bool) -> bytes32:
    return keccak256(abi_encode(name, market, token, is_long))
