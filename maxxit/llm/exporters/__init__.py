"""The registry of trace exporters, by the names used in `config/llm.yaml`."""

from maxxit.core.registry import Registry
from maxxit.llm.exporters.base import Exporter

EXPORTERS: Registry[Exporter] = Registry(
    "trace exporter",
    {
        "langfuse": "maxxit.llm.exporters.langfuse.Langfuse",
        "otlp": "maxxit.llm.exporters.otlp.Otlp",
    },
)
