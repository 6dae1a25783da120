from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "maxxit.chat"
    label = "chat"
    verbose_name = "Chat"
