"""Registry of importers for candle files, by the name that `manage.py import-candles --format` uses."""

from maxxit.core.registry import Registry
from maxxit.market.importers.base import CandleImporter

IMPORTERS: Registry[CandleImporter] = Registry(
    "candle format",
    {
        "binance": "maxxit.market.importers.binance.BinanceVision",
        "bitstamp": "maxxit.market.importers.bitstamp.Bitstamp",
        "coinbase": "maxxit.market.importers.coinbase.Coinbase",
        "cryptodatadownload": "maxxit.market.importers.cryptodatadownload.CryptoDataDownload",
        "kraken": "maxxit.market.importers.kraken.Kraken",
    },
)
