"""Coinbase Advanced: spot orders with the API keys of each account. See docs/coinbase.md."""
