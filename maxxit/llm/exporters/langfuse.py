"""Langfuse exporter: OpenTelemetry spans at {base_url}/api/public/otel/v1/traces, with Langfuse's attributes.

The results of an evaluation become a data set with items, an experiment (one span for each item, with the attributes
that Langfuse's own client sets) and scores of its items and of the whole run.
"""

import json
from base64 import b64encode
from hashlib import sha256
from typing import Any

from maxxit.core import untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.llm.exporters.experiment import Experiment, Item
from maxxit.llm.exporters.otlp import Otlp, as_json, in_batches, listed, nanoseconds
from maxxit.llm.models import LlmTrace


class Langfuse(Otlp):
    """Exports to a Langfuse project, cloud or self-hosted."""

    path = "/api/public/otel/v1/traces"
    datasets_path, items_path = "/api/public/v2/datasets", "/api/public/dataset-items"
    scores_path = "/api/public/scores"

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

    def send_experiment(self, experiment: Experiment) -> int:
        dataset, run = self._dataset(experiment)
        for item in experiment.items:
            self.post(self.items_path, item_body(experiment, item))
        spans = [experiment_span(experiment, item, dataset, run) for item in experiment.items]
        accepted = sum(self.send_spans(batch) for batch in in_batches(spans, self.stanza.batch))
        for batch in in_batches(scores(experiment, run), self.stanza.batch):
            self._send_scores(batch)
        return accepted

    def _dataset(self, experiment: Experiment) -> tuple[str, str]:
        """Create the data set, or find the one of this name; return its id and that of the run."""
        answer = untrusted.loads(
            self.post(
                self.datasets_path,
                {
                    "name": experiment.dataset,
                    "description": experiment.description,
                    "metadata": {"by": "maxxit"},
                },
            )
        )
        ids = [answer.get(name) if isinstance(answer, dict) else None for name in ("projectId", "id")]
        if not all(isinstance(one, str) and one for one in ids):
            raise Rejected("Langfuse answered a data set without id and projectId", code="wrong_answer")
        return str(ids[1]), run_id(str(ids[0]), str(ids[1]), experiment.run)

    def _send_scores(self, batch: list[dict[str, Any]]) -> None:
        """Send scores. Raises `Rejected` where some are refused, which Langfuse says in an answer of success."""
        body = self.post(self.scores_path, batch)
        answer = untrusted.loads(body) if body.strip() else {}
        if isinstance(answer, dict) and answer.get("rejected"):
            raise Rejected(f"scores were refused: {str(answer)[:300]}", code="scores_refused")


INTERNAL = 1
"""SPAN_KIND_INTERNAL."""
ENVIRONMENT = "sdk-experiment"
"""Under which Langfuse keeps experiments apart from production."""


def run_id(project: str, dataset: str, run: str) -> str:
    """Return the id that Langfuse gives the run of this name, as its server and its client (5.0.4) derive it."""
    named = json.dumps(
        ["langfuse-experiment-v1", project, dataset, run], separators=(",", ":"), ensure_ascii=False
    )
    return sha256(named.encode()).hexdigest()[:16]


def item_body(experiment: Experiment, item: Item) -> dict[str, Any]:
    """Return the request that creates or replaces one item of the data set."""
    return {
        "datasetName": experiment.dataset,
        "id": experiment.item_key(item),
        "input": {"post_id": item.ident, "text": item.text},
        "expectedOutput": dict(item.expected),
    }


def experiment_span(experiment: Experiment, item: Item, dataset: str, run: str) -> dict[str, Any]:
    """Return the span of one item of an experiment."""
    span_id, at = experiment.key(item, 16), nanoseconds(experiment.at)
    named = {
        "langfuse.environment": ENVIRONMENT,
        "langfuse.observation.type": "span",
        "langfuse.observation.input": as_json({"post_id": item.ident, "text": item.text}),
        "langfuse.observation.output": as_json(dict(item.output)),
        "langfuse.experiment.id": run,
        "langfuse.experiment.name": experiment.run,
        "langfuse.experiment.description": experiment.description,
        "langfuse.experiment.metadata": as_json(dict(experiment.metadata)),
        "langfuse.experiment.dataset.id": dataset,
        "langfuse.experiment.item.id": experiment.item_key(item),
        "langfuse.experiment.item.expected_output": as_json(dict(item.expected)),
        "langfuse.experiment.item.root_observation_id": span_id,
    }
    return {
        "traceId": experiment.key(item),
        "spanId": span_id,
        "name": "experiment-item-run",
        "kind": INTERNAL,
        "startTimeUnixNano": at,
        "endTimeUnixNano": at,
        "attributes": listed(named),
    }


def scores(experiment: Experiment, run: str) -> list[dict[str, Any]]:
    """Return the scores of the items, then those of the run. Their ids are hashes: sent twice they are stored once."""
    at = experiment.at.isoformat()
    of_items = [
        {
            "id": _score_id(run, item.ident, experiment.score),
            "traceId": experiment.key(item),
            "observationId": experiment.key(item, 16),
            "name": experiment.score,
            "value": float(item.right),
            "dataType": "BOOLEAN",
            "environment": ENVIRONMENT,
            "timestamp": at,
            **({"comment": item.explanation} if item.explanation else {}),
        }
        for item in experiment.items
    ]
    of_run = [
        {
            "id": _score_id(run, "", name),
            "datasetRunId": run,
            "name": name,
            "value": value,
            "dataType": "NUMERIC",
            "timestamp": at,
        }
        for name, value in experiment.figures.items()
    ]
    return of_items + of_run


def _score_id(*named: str) -> str:
    return sha256("\n".join(named).encode()).hexdigest()[:32]
