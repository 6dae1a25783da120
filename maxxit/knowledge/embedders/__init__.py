"""Registry of embedders by their name in `config/knowledge.yaml`."""

from maxxit.core.registry import Registry
from maxxit.knowledge.embedders.base import Embedder

EMBEDDERS: Registry[Embedder] = Registry(
    "embedder",
    {
        "e5": "maxxit.knowledge.embedders.e5.E5",
        "local": "maxxit.knowledge.embedders.local.Local",
        "openai": "maxxit.knowledge.embedders.openai.OpenAi",
        "ollama": "maxxit.knowledge.embedders.ollama.Ollama",
    },
)
