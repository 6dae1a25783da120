"""Social metrics of tokens, by the adapter name that `config/signals.yaml` uses."""

from maxxit.core.registry import Registry
from signals_app.social.base import SocialSource

SOCIAL: Registry[SocialSource] = Registry(
    "source of social metrics", {"lunarcrush": "signals_app.social.lunarcrush.LunarCrush"}
)
