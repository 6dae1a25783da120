from django.apps import AppConfig


class KnowledgeConfig(AppConfig):
    name = "maxxit.knowledge"
    label = "knowledge"
    verbose_name = "Knowledge"
