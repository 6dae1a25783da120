"""Registry of importers for candle files, by the name that `--format` of `manage.py candles import` uses."""

from maxxit.core.registry import Registry
from maxxit.market.importers.base import CandleImporter

IMPORTERS: Registry[CandleImporter] = Registry(
    "candle format",
    {
        "binance": "maxxit.market.importers.binance.Binance",
        "bitfinex": "maxxit.market.importers.bitfinex.Bitfinex",
        "bitstamp": "maxxit.market.importers.bitstamp.Bitstamp",
        "coinbase": "maxxit.market.importers.coinbase.Coinbase",
        "cryptodatadownload": "maxxit.market.importers.cryptodatadownload.CryptoDataDownload",
        "kraken": "maxxit.market.importers.kraken.Kraken",
        "maxxit": "maxxit.market.importers.ours.Ours",
        "columns": "maxxit.market.importers.columns.Columns",
    },
)
"""`columns` takes any CSV whose header names the columns; it is tried last."""
