"""The registry of notification channels, one module per channel."""

from maxxit.core.registry import Registry
from maxxit.notify.channels.base import Channel

CHANNELS: Registry[Channel] = Registry(
    "channel",
    {
        "inbox": "maxxit.notify.channels.inbox.Inbox",
        "log": "maxxit.notify.channels.log.Log",
        "webhook": "maxxit.notify.channels.webhook.Webhook",
    },
)
