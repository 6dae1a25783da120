from django.apps import AppConfig


class LlmConfig(AppConfig):
    name = "maxxit.llm"
    label = "llm"
    verbose_name = "Language models"
