"""The exporters by the name that `config/llm.yaml` uses."""

from maxxit.core.registry import Registry
from maxxit.llm.exporters.base import Exporter

EXPORTERS: Registry[Exporter] = Registry(
    "trace exporter",
    {
        "langfuse": "maxxit.llm.exporters.langfuse.Langfuse",
        "otlp": "maxxit.llm.exporters.otlp.Otlp",
    },
)
