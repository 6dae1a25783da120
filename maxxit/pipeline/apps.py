from importlib import import_module

from django.apps import AppConfig


class PipelineConfig(AppConfig):
    name = "maxxit.pipeline"
    label = "pipeline"
    verbose_name = "Pipeline"

    def ready(self) -> None:
        """Whatever sends a task sends it through our Celery application, also outside a worker."""
        import_module("maxxit.celery")
