"""The price feeds by the name that `config/feeds.yaml` uses."""

from maxxit.core.registry import Registry
from maxxit.market.feeds.base import PriceFeed

FEEDS: Registry[PriceFeed] = Registry(
    "price feed",
    {
        "file": "maxxit.market.feeds.file.FileFeed",
    },
)
