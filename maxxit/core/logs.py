"""Logging configuration: structured lines with the correlation id, as JSON or as columns for a terminal."""

import logging.config
from functools import cache
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from maxxit.core import correlation, redact


def add_correlation(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the current correlation id to a log line."""
    if (current := correlation.current()) is not None:
        event.setdefault("correlation_id", str(current))
    return event


COMMON: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    add_correlation,
]

TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(
        show_locals=False
    )  # local variables hold keys and passwords
)

PROCESSORS: list[Processor] = [
    structlog.stdlib.filter_by_level,
    *COMMON,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]
"""One list for the life of the process: a logger that has been used keeps the list that it was made with."""


@cache
def configure(*, as_json: bool, level: str) -> dict[str, Any]:
    """Configure structlog and return the `logging` dict that renders stdlib and structlog lines alike.

    The same arguments return the same dict, by which `apply` knows it.
    """
    structlog.configure(
        processors=PROCESSORS,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    last: list[Processor] = (
        [TRACEBACKS, redact.processor, structlog.processors.JSONRenderer(default=str)]
        if as_json
        else [
            structlog.processors.format_exc_info,  # before redaction: error messages may contain secrets
            redact.processor,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
                "foreign_pre_chain": [*COMMON, structlog.stdlib.ExtraAdder()] if as_json else COMMON,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "flower.inspector": {"level": "ERROR"},  # it asks workers that are not up yet
            "django": {"level": "INFO"},  # below it are the parameters of SQL statements
            "django.request": {"level": "ERROR"},  # a 404 needs no warning
            "django_structlog": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            # Every pass logs `stage_done`; Flower and the admin list each task.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
        },
    }


_applied: dict[str, Any] | None = None


def apply(config: dict[str, Any]) -> None:
    """Configure `logging`, unless it is configured so: Django and Celery ask for it up to three times in a process.

    Each time every logger is written to, and with it pages that a forked process would share.
    """
    global _applied
    if config is not _applied:
        logging.config.dictConfig(config)
        _applied = config
