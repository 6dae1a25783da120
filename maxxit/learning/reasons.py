"""Reason codes of a decision without a forecast: what each means, what changes it, and who can. No I/O."""

from maxxit.core.reasons import Audience, CodedReason


class NoForecast(CodedReason):
    """Why there is no usable forecast. Trading goes on without it."""

    NO_MODEL = (
        "no_model",
        Audience.STAFF,
        "no trained model of the purpose and horizon serves",
        "`manage.py models list`; `manage.py models promote` moves a model on that passes its gate",
    )
    NO_FORECAST = (
        "no_forecast",
        Audience.STAFF,
        "the model that serves has no forecast of the token yet",
        "`manage.py doctor`, lines trained models and candles",
    )
    STALE = (
        "stale_forecast",
        Audience.STAFF,
        "the newest forecast of the token is too old",
        "serve.stale_minutes in config/models.yaml; `manage.py doctor`, lines trained models and candles",
    )
    UNUSABLE = (
        "unusable_forecast",
        Audience.STAFF,
        "the forecast is not a finite number, or its volatility is not above 0",
        "`manage.py models retire MODEL`; the model before it can be promoted again",
        True,
    )
