"""The registry of notification channels, one module per channel."""

from maxxit.core.registry import Registry
from maxxit.notify.channels.base import Channel

CHANNELS: Registry[Channel] = Registry(
    "channel",
    {
        "inbox": "maxxit.notify.channels.inbox.Inbox",
        "telegram": "maxxit.notify.channels.telegram.Telegram",
        "email": "maxxit.notify.channels.email.Email",
        "push": "maxxit.notify.channels.push.Push",
        "slack": "maxxit.notify.channels.slack.Slack",
        "teams": "maxxit.notify.channels.teams.Teams",
        "discord": "maxxit.notify.channels.discord.Discord",
        "webhook": "maxxit.notify.channels.webhook.Webhook",
        "apprise": "maxxit.notify.channels.apprise.Apprise",
        "log": "maxxit.notify.channels.log.Log",
    },
)
