"""Registry of price feeds by their name in `config/feeds.yaml`."""

from maxxit.core.registry import Registry
from maxxit.market.feeds.base import PriceFeed

FEEDS: Registry[PriceFeed] = Registry(
    "price feed",
    {
        "chainlink": "maxxit.market.feeds.chainlink.Chainlink",
        "coinbase": "maxxit.market.feeds.coinbase.Coinbase",
        "coingecko": "maxxit.market.feeds.coingecko.CoinGecko",
        "dex": "maxxit.market.feeds.dex.Dex",
        "file": "maxxit.market.feeds.file.FileFeed",
        "pyth": "maxxit.market.feeds.pyth.Pyth",
    },
)
