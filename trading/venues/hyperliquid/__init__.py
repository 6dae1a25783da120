"""The venue Hyperliquid: perpetual futures for USDC, with an agent key of each account."""
