"""Admin page of the commands that connected chats sent. Codes have none: they are secrets."""

from django.contrib import admin

from maxxit.adminkit import ReadOnlyAdmin
from maxxit.chat.models import ChatUpdate


@admin.register(ChatUpdate)
class ChatUpdateAdmin(ReadOnlyAdmin):
    list_display = ("at", "user", "command", "update_id")
    list_filter = ("command",)
    list_select_related = ("user",)
    search_fields = ("user__username",)
