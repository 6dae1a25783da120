from django.apps import AppConfig


class PipelineConfig(AppConfig):
    name = "maxxit.pipeline"
    label = "pipeline"
    verbose_name = "Pipeline"
