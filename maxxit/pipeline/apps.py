import gc
from importlib import import_module

from django.apps import AppConfig


class PipelineConfig(AppConfig):
    name = "maxxit.pipeline"
    label = "pipeline"
    verbose_name = "Pipeline"

    def ready(self) -> None:
        """Load the Celery application, so that tasks sent outside a worker use it, and freeze the loaded objects.

        Everything loaded so far lives as long as the process: the garbage collector skips it, and its memory pages
        stay shared between a worker and its pool. `manage.py` starts with the collector disabled.
        """
        import_module("maxxit.celery")
        gc.freeze()
        gc.enable()
