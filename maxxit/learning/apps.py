from django.apps import AppConfig


class LearningConfig(AppConfig):
    name = "maxxit.learning"
    label = "learning"
    verbose_name = "Trained models"
