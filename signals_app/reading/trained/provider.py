"""The provider `trained`: a trained reader behind the interface of a language model, deterministic and offline.

It is used where the configuration names it. `model: registry` reads with the model that serves (docs/models.md);
another name is that of parameters that come with the code, or of a file that `manage.py readers train` wrote.
"""

import json
from collections.abc import Mapping
from typing import Any

from maxxit.core.errors import Misconfigured
from maxxit.llm.providers.base import Answer, Request
from signals_app.reading.provider import prices_of
from signals_app.reading.schema import Post
from signals_app.reading.trained.model import Parameters, TrainedReader, parse, shipped

REGISTRY = "registry"


class Trained:
    """Reads `request.data["posts"]` with trained parameters; the prompt's text is ignored."""

    def __init__(
        self, *, name: str = "reader", model: str = "", base_url: str = "", key: str = "", **_: float
    ) -> None:
        self.name, self.model, self.base_url = name, model or REGISTRY, base_url
        self.parameters: Mapping[str, Any] = {}

    def complete(self, request: Request) -> Answer:
        """Read every post. Raises `Misconfigured` for a purpose other than posts, and where no reader serves."""
        if "posts" not in request.data or "tokens" not in request.data:
            raise Misconfigured(
                f"config/llm.yaml: the provider {self.name!r} reads posts only; remove it from {request.purpose!r}"
            )
        parameters, model = self._parameters()
        posts = [
            Post(str(post["post_id"]), str(post.get("author", "")), str(post["text"]), prices=prices_of(post))
            for post in request.data["posts"]
        ]
        readings = TrainedReader.of(parameters, request.data["tokens"]).read(posts)
        answers = [reading.as_json(post.post_id) for post, reading in zip(posts, readings, strict=True)]
        return Answer(json.dumps({"readings": answers}, ensure_ascii=False), model, None, None)

    def _parameters(self) -> tuple[Parameters, str]:
        """Return the parameters and the name that the trace shows."""
        if self.model != REGISTRY:
            return shipped(self.model), self.model
        from maxxit.learning import registry  # the database, which an evaluation does not need
        from maxxit.learning.models import READING

        row = registry.serving(READING, 0)
        if row is None:
            raise Misconfigured(
                "no trained reader serves: store one by `manage.py readers store reader-1`, then promote it by "
                "`manage.py models promote`; or set `model: reader-1` of this provider in config/llm.yaml"
            )
        return parse(row.parameters, f"model {row.pk}"), f"{row.parameters.get('name', 'reader')} #{row.pk}"
