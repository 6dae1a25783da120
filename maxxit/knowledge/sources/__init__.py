"""Registry of document sources by their name in `config/knowledge.yaml`."""

from maxxit.core.registry import Registry
from maxxit.knowledge.sources.base import Source

SOURCES: Registry[Source] = Registry(
    "knowledge source",
    {
        "files": "maxxit.knowledge.sources.files.Files",
        "web": "maxxit.knowledge.sources.web.Web",
        "rows": "maxxit.knowledge.sources.rows.Rows",
    },
)
