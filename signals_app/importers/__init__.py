"""Registry of importers for post files of other tools, by the name that `--format` of `manage.py posts import` uses."""

from maxxit.core.registry import Registry
from signals_app.importers.base import PostImporter

IMPORTERS: Registry[PostImporter] = Registry(
    "post format",
    {
        "x-archive": "signals_app.importers.x_archive.XArchive",
        "twscrape": "signals_app.importers.scrapers.Twscrape",
        "snscrape": "signals_app.importers.scrapers.Snscrape",
        "x-api": "signals_app.importers.x_api.XApi",
        "telegram": "signals_app.importers.telegram.TelegramExport",
        "apify": "signals_app.importers.scrapers.Apify",
        "json": "signals_app.importers.plain.PlainJson",
        "csv": "signals_app.importers.plain.PlainCsv",
    },
)
"""In the order in which formats are detected; the plain ones last."""
