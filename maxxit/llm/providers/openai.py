"""Any server that speaks OpenAI's chat completions: OpenAI itself, Perplexity, Ollama, vLLM and others."""

from maxxit.core.errors import Rejected, Retryable
from maxxit.llm.providers.base import Answer, Request
from maxxit.llm.providers.wire import Wired, count, dig, post


class OpenAi(Wired):
    """POST {base_url}/chat/completions with a JSON schema as the response format."""

    def complete(self, request: Request) -> Answer:
        """Ask once."""
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": request.user},
            ],
            **self.parameters,
            "max_tokens": request.max_tokens,
            "response_format": {
                "type": "json_schema",
                # Not `strict`: that mode knows no maps with free keys, and we validate every answer anyway.
                "json_schema": {"name": request.schema_name, "schema": request.schema},
            },
        }
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        answer = post(self.base_url, "/chat/completions", headers, self._timeout, body)
        message = dig(answer, "choices", 0, "message")
        if refusal := dig(message, "refusal"):
            raise Rejected(f"{self.name} refused: {str(refusal)[:300]}", code="answer_refused")
        text = dig(message, "content")
        if not isinstance(text, str):
            raise Retryable(f"{self.name} answered without choices[0].message.content")
        return Answer(
            text=text,
            model=str(answer.get("model") or self.model)[:120],
            prompt_tokens=count(dig(answer, "usage", "prompt_tokens")),
            completion_tokens=count(dig(answer, "usage", "completion_tokens")),
        )
