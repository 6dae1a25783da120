import gc
from importlib import import_module

from django.apps import AppConfig


class PipelineConfig(AppConfig):
    name = "maxxit.pipeline"
    label = "pipeline"
    verbose_name = "Pipeline"

    def ready(self) -> None:
        """Whatever sends a task sends it through our Celery application, also outside a worker.

        All that is loaded by now lives as long as the process: the garbage collector need not look at it again, and
        the pages that hold it stay shared between a worker and its pool. `manage.py` starts with the collector off.
        """
        import_module("maxxit.celery")
        gc.freeze()
        gc.enable()
