"""Langfuse exporter: OpenTelemetry spans at {base_url}/api/public/otel/v1/traces, with Langfuse's attributes."""

from base64 import b64encode
from typing import Any

from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured
from maxxit.llm.exporters.otlp import Otlp, as_json
from maxxit.llm.models import LlmTrace


class Langfuse(Otlp):
    """Exports to a Langfuse project, cloud or self-hosted."""

    path = "/api/public/otel/v1/traces"

    def headers(self) -> dict[str, str]:
        """Return Basic authentication from the project's two keys. Raises `Misconfigured` without them."""
        stanza = self.stanza
        login = variable(stanza.public_key_env), variable(stanza.secret_key_env)
        if not all(login):
            raise Misconfigured(
                f"the exporter langfuse needs {stanza.public_key_env} and {stanza.secret_key_env}"
            )
        return {
            "Authorization": f"Basic {b64encode(':'.join(login).encode()).decode()}",
            "x-langfuse-ingestion-version": "4",
        }

    def more(self, trace: LlmTrace) -> dict[str, Any]:
        """Return input, output, tokens and cost as Langfuse attributes."""
        usage = {"input": trace.prompt_tokens, "output": trace.completion_tokens}
        return {
            "langfuse.trace.name": trace.purpose,
            "langfuse.trace.tags": [tag for tag in (trace.purpose, trace.agent_name) if tag],
            "langfuse.observation.type": "generation",
            "langfuse.observation.level": "ERROR" if trace.status == "error" else "DEFAULT",
            "langfuse.observation.status_message": trace.error_message[:1000],
            "langfuse.observation.input": as_json(trace.request),
            "langfuse.observation.output": as_json(trace.response),
            "langfuse.observation.model.name": trace.model,
            "langfuse.observation.model.parameters": as_json(trace.parameters),
            "langfuse.observation.usage_details": as_json(
                {name: count for name, count in usage.items() if count is not None}
            ),
            "langfuse.observation.cost_details": f'{{"total": {trace.cost_usd:f}}}',
        }
