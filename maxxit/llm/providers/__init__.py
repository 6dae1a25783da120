"""The registry of LLM provider adapters, by the names used in `config/llm.yaml`."""

from maxxit.core.registry import Registry
from maxxit.llm.providers.base import Provider

PROVIDERS: Registry[Provider] = Registry(
    "language model adapter",
    {
        "openai": "maxxit.llm.providers.openai.OpenAi",
        "anthropic": "maxxit.llm.providers.anthropic.Anthropic",
        "rules": "signals_app.reading.provider.LexicalReader",
        "trained": "signals_app.reading.trained.provider.Trained",
    },
)
