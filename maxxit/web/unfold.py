"""The admin's theme: menu, header and colours of django-unfold (`UNFOLD` in the settings)."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse

from maxxit.core.config import profile

OPERATOR_PAGES = (
    ("operator-health", "Health", "monitor_heart", "pipeline.view_stagerun"),
    ("operator-checklist", "Checklist", "checklist", "pipeline.view_stagerun"),
    ("operator-limits", "Limits", "speed", "trading.view_limitsinforce"),
    ("operator-change-requests", "Change requests", "how_to_vote", "trading.view_changerequest"),
    ("operator-transactions", "Transactions", "receipt_long", "trading.view_chaintransaction"),
    ("operator-reconciliation", "Reconciliation", "balance", "trading.view_ledgerentry"),
    ("operator-models", "Calls and prompts", "query_stats", "llm.view_llmtrace"),
    ("operator-prompts", "Prompts", "edit_note", "llm.view_promptversion"),
    ("operator-labels", "Labelled sets", "label", "signals_app.view_labelledset"),
    ("operator-comparisons", "Comparisons", "compare", "signals_app.view_comparison"),
    ("operator-backtests", "Backtests", "history", "backtest.view_backtestrun"),
)
"""(URL name, title, icon, permission to see it) of each operator page in `maxxit.web`."""

MENU = (
    (
        "Pipeline",
        (
            ("Posts", "chat", "signals_app.ctpost"),
            ("Signals", "bolt", "signals_app.signal"),
            ("Orders", "swap_horiz", "trading.order"),
            ("Fills", "check_circle", "trading.fill"),
            ("Positions", "trending_up", "positions.position"),
        ),
    ),
    (
        "Who trades",
        (
            ("Agents", "smart_toy", "agents.agent"),
            ("Deployments", "account_balance_wallet", "agents.deployment"),
            ("Accounts", "person", "agents.ctaccount"),
            ("Subscriptions", "rss_feed", "agents.subscription"),
            ("Safes", "lock", "trading.safeplan"),
        ),
    ),
    (
        "Money",
        (
            ("Ledger", "menu_book", "trading.ledgerentry"),
            ("Balances", "balance", "trading.ledgerbalance"),
            ("Billing", "receipt_long", "trading.billingevent"),
            ("On chain", "token", "trading.chaintransaction"),
            ("Watched addresses", "visibility", "trading.watchedaddress"),
            ("Daily figures", "calendar_month", "positions.pnlsnapshot"),
            ("Loss carry-forward", "undo", "positions.profitmark"),
        ),
    ),
    (
        "Safety",
        (
            ("Gates", "door_front", "trading.gate"),
            ("Approvals", "how_to_reg", "trading.approval"),
            ("Changes by two people", "how_to_vote", "trading.changerequest"),
            ("Kill switch", "emergency_home", "trading.killswitch"),
            ("Refused posts", "block", "signals_app.rejectedpost"),
        ),
    ),
    (
        "Platform",
        (
            ("Runs", "play_circle", "pipeline.pipelinerun"),
            ("Stage runs", "footprint", "pipeline.stagerun"),
            ("Schedule", "schedule", "django_celery_beat.periodictask"),
            ("Canaries", "pets", "pipeline.canarymark"),
            ("Releases", "deployed_code", "pipeline.release"),
            ("Model calls", "psychology", "llm.llmtrace"),
            ("Prompt versions", "edit_note", "llm.promptversion"),
            ("Knowledge", "menu_book", "knowledge.document"),
            ("Trained models", "model_training", "learning.trainedmodel"),
            ("Forecasts", "trending_up", "learning.forecast"),
            ("Trainings", "bedtime", "learning.trainingrun"),
            ("Events", "list_alt", "events.event"),
            ("Quotes", "sell", "market.quote"),
            ("Candles", "candlestick_chart", "market.candle"),
            ("Refused prices", "money_off", "market.refusedquote"),
            ("Price rules", "notifications", "notify.pricerule"),
            ("Deliveries", "mark_email_read", "notify.ruledelivery"),
            ("Alerts", "campaign", "notify.alert"),
        ),
    ),
    (
        "Paper exchange",
        (
            ("Orders", "receipt", "trading.paperorder"),
            ("Fills", "done_all", "trading.paperfill"),
            ("Balances", "savings", "trading.paperbalance"),
            ("Positions with margin", "trending_up", "trading.paperposition"),
            ("Funding", "swap_vert", "trading.paperfunding"),
        ),
    ),
    (
        "People",
        (
            ("Users", "group", "auth.user"),
            ("Groups", "groups", "auth.group"),
            ("API keys", "key", "console.apikey"),
            ("Invitations", "mail", "console.invitation"),
            ("Wallets for login", "wallet", "console.walletlogin"),
        ),
    ),
)
"""Heading -> (title, icon, model) of each list, in the order of the pipeline."""


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Build the sidebar from the lists that this person may see."""
    index = {"title": "At a glance", "icon": "dashboard", "link": reverse("admin:index")}
    pages = [{"title": title, "icon": icon, "link": link} for title, icon, link in operator_links(request)]
    made: list[dict[str, Any]] = [{"title": "Operations", "separator": False, "items": [index, *pages]}]
    for heading, rows in MENU:
        items = [item for title, icon, model in rows if (item := _item(request, title, icon, model))]
        if items:
            made.append({"title": heading, "separator": True, "items": items})
    return made


def operator_links(request: HttpRequest) -> list[tuple[str, str, str]]:
    """List (title, icon, URL) of the operator pages that this person may see."""
    return [
        (title, icon, reverse(name))
        for name, title, icon, permission in OPERATOR_PAGES
        if request.user.has_perm(permission)
    ]


def _item(request: HttpRequest, title: str, icon: str, model: str) -> dict[str, Any] | None:
    app, name = model.split(".")
    if not request.user.has_perm(f"{app}.view_{name}"):
        return None
    try:
        link = reverse(f"admin:{app}_{name}_changelist")
    except NoReverseMatch:  # the model has no admin page
        return None
    return {"title": title, "icon": icon, "link": link}


def environment(request: HttpRequest) -> list[str]:
    """Return the active profile as a label for the header."""
    name = profile() or "local"
    return [name, "warning" if name == "production" else "info"]


def latched(request: HttpRequest) -> dict[str, Any]:
    """Return the kill switch level for the header of every page; empty on the login page."""
    from trading import gate  # settings import this module before models are loaded

    return {"kill_level": gate.kill_level() if request.user.is_authenticated else ""}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Maxxit",
    "SITE_HEADER": "Maxxit",
    "SITE_SUBHEADER": "posts in, positions out",
    "SITE_SYMBOL": "water",
    "SITE_URL": "/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("web/icon.svg")}
    ],
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": "maxxit.web.unfold.environment",
    "GLOBAL_CALLBACK": "maxxit.web.unfold.latched",
    "DASHBOARD_CALLBACK": "maxxit.web.pages.admin_index",
    "STYLES": [lambda request: static("web/admin.css")],
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .013 236.62)",
            "100": "oklch(95.1% .026 236.824)",
            "200": "oklch(90.1% .058 230.902)",
            "300": "oklch(82.8% .111 230.318)",
            "400": "oklch(74.6% .16 232.661)",
            "500": "oklch(68.5% .169 237.323)",
            "600": "oklch(55% .158 241.966)",
            "700": "oklch(50% .134 242.749)",
            "800": "oklch(44.3% .11 240.79)",
            "900": "oklch(39.1% .09 240.876)",
            "950": "oklch(29.3% .066 243.157)",
        }
    },
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": False,
        "navigation": "maxxit.web.unfold.navigation",
    },
}
