"""Every URL of the project."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.generic import RedirectView

from maxxit.api import errors
from maxxit.api.api import api
from maxxit.web import (
    account,
    activity,
    agents,
    authors,
    change_requests,
    health,
    invoices,
    notifications,
    operators,
    owner_decisions,
    pages,
    previews,
    settings_pages,
    trade,
    venue_keys,
    wallet,
    what_if,
)
from maxxit.web.chat import assistants, telegram
from maxxit.web.chat import pages as chat_pages
from maxxit.web.evaluation import backtests, comparisons, labels, prompts
from maxxit.web.login import Login
from maxxit.web.metrics import metrics
from maxxit.web.performance import performance_page
from maxxit.web.safes import limits as safe_limits
from maxxit.web.safes import pages as safe_pages
from maxxit.web.safes import setup as safe_setup
from maxxit.web.second_factor import second_factor
from maxxit.web.twin import twin_page

admin.autodiscover()
MOVED_ADMIN_PAGES = {
    f"{model}/{rest}": admin.site.admin_view(
        RedirectView.as_view(url=f"/admin/notify/{model}/{to}", query_string=True, permanent=True)
    )
    for model in ("pricerule", "rulematch", "ruledelivery")
    for rest, to in (("", ""), ("<path:rest>", "%(rest)s"))
}
"""Old admin URLs of models that moved from `market` to `notify` -> redirect, for bookmarks."""

urlpatterns = [
    path("", pages.dashboard, name="dashboard"),
    path("start", agents.start, name="start"),
    path("previews/<int:preview_id>", previews.preview_part, name="preview"),
    path("previews/<int:preview_id>/cancel", previews.cancel_preview, name="cancel-preview"),
    path("agents", agents.my_agents, name="my-agents"),
    path("agents/<int:deployment_id>/keys", venue_keys.keys_page, name="venue-keys"),
    path("agents/<int:deployment_id>/keys/state", venue_keys.keys_part, name="venue-keys-state"),
    path("agents/<int:deployment_id>/limits", owner_decisions.limits, name="limits"),
    path("agents/<int:deployment_id>/twin", twin_page, name="twin"),
    path("confirmations", owner_decisions.confirmations, name="confirmations"),
    path("confirmations/rows", owner_decisions.confirmation_rows, name="confirmation-rows"),
    path("confirmations/<int:order_id>/<str:word>", owner_decisions.answer, name="answer-confirmation"),
    path("agents/<int:deployment_id>/<str:action>", agents.change_deployment, name="change-deployment"),
    path("performance", performance_page, name="performance"),
    path("market", pages.market, name="market"),
    path("market/tables", pages.market_tables, name="market-tables"),
    path("notifications", notifications.notifications_page, name="notifications"),
    path("notifications/log", notifications.notifications_log, name="notifications-log"),
    path("unsubscribe/<str:token>", notifications.unsubscribe, name="unsubscribe"),
    path("push-worker.js", notifications.service_worker, name="push-worker"),
    path("signals/<int:signal_id>", pages.signal, name="signal"),
    path("signals/<int:signal_id>/progress", pages.signal_progress, name="signal-progress"),
    path("invoices", invoices.invoices, name="invoices"),
    path("invoices/<int:deployment_id>/<str:month>", invoices.invoice, name="invoice"),
    path("activity", activity.activity_page, name="activity"),
    path("activity/rows", activity.activity_rows, name="activity-rows"),
    path("trades/<int:position_id>", trade.trade_page, name="trade"),
    path("trades/<int:position_id>/figures", trade.trade_figures, name="trade-figures"),
    path("trades/<int:position_id>/what-if", what_if.what_if_page, name="what-if"),
    path("accounts", authors.accounts, name="accounts"),
    path("accounts/<str:name>", authors.account, name="account"),
    path("chain/<uuid:correlation_id>", pages.trade_trace, name="chain"),
    path("login", Login.as_view(), name="login"),
    path("sign-up", account.sign_up_page, name="sign-up"),
    path("wallet/message", wallet.message, name="wallet-message"),
    path("wallet/answer", wallet.answer, name="wallet-answer"),
    path("wallet", safe_pages.wallet_page, name="wallet"),
    path("wallet/cards", safe_pages.wallet_cards, name="wallet-cards"),
    path("wallet/<int:deployment_id>/setup", safe_setup.wallet_setup_page, name="wallet-setup"),
    path("wallet/<int:deployment_id>/new", safe_setup.wallet_plan_new, name="wallet-plan-new"),
    path("wallet/<int:deployment_id>/existing", safe_setup.wallet_plan_existing, name="wallet-plan-existing"),
    path("wallet/<int:deployment_id>/sent", safe_setup.wallet_sent, name="wallet-sent"),
    path("wallet/<int:deployment_id>/check", safe_setup.wallet_check, name="wallet-check"),
    path("wallet/<int:deployment_id>/forget", safe_setup.wallet_forget, name="wallet-forget"),
    path("wallet/<int:deployment_id>/plan.json", safe_setup.plan_file, name="wallet-plan-file"),
    path("wallet/<int:deployment_id>/limits", safe_limits.wallet_limits, name="wallet-limits"),
    path("wallet/<int:deployment_id>/revoke", safe_pages.wallet_revoke, name="wallet-revoke"),
    path("wallet/<int:deployment_id>/revoked", safe_pages.wallet_revoked, name="wallet-revoked"),
    path("wallet/<int:deployment_id>/revoke.json", safe_pages.revoke_file, name="wallet-revoke-file"),
    path("settings", settings_pages.time_zone, name="settings"),
    path("settings/password", settings_pages.password, name="settings-password"),
    path("settings/wallets", settings_pages.own_wallets, name="settings-wallets"),
    path("settings/sessions", settings_pages.own_sessions, name="settings-sessions"),
    path("settings/chat", chat_pages.chat_page, name="settings-chat"),
    path("settings/keys", settings_pages.keys, name="settings-keys"),
    path("settings/export", settings_pages.export_page, name="settings-export"),
    path("settings/export.zip", settings_pages.export_zip, name="settings-export-zip"),
    path("settings/close", settings_pages.close_account, name="settings-close"),
    path("second-factor", second_factor, name="second-factor"),
    path("logout", LogoutView.as_view(next_page="login"), name="logout"),
    path("telegram/webhook", telegram.webhook, name="telegram-webhook"),
    path("mcp", assistants.mcp, name="mcp"),
    path("health", RedirectView.as_view(pattern_name="ready")),
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    path("metrics", metrics, name="metrics"),
    path("api", errors.unknown_path),
    path("api/", errors.unknown_path),
    path("api/", api.urls),
    path("api/<path:rest>", errors.unknown_path),
    path("admin/stop", pages.stop, name="stop"),
    path("admin/health", operators.health_page, name="operator-health"),
    path("admin/checklist", operators.checklist_page, name="operator-checklist"),
    path("admin/comparisons", comparisons.comparisons_page, name="operator-comparisons"),
    path("admin/labels", labels.sets_page, name="operator-labels"),
    path("admin/labels/label", labels.label_page, name="operator-label"),
    path("admin/labels/disagreements", labels.disagreements_page, name="operator-disagreements"),
    path("admin/prompts", prompts.prompts_page, name="operator-prompts"),
    path("admin/limits", operators.limits_page, name="operator-limits"),
    path("admin/change-requests", change_requests.change_requests_page, name="operator-change-requests"),
    path("admin/transactions", operators.transactions_page, name="operator-transactions"),
    path("admin/reconciliation", operators.reconciliation_page, name="operator-reconciliation"),
    path("admin/model-calls", operators.models_page, name="operator-models"),
    path("admin/backtests", backtests.backtests_page, name="operator-backtests"),
    path("admin/backtests/compare", backtests.compare_page, name="operator-backtests-compare"),
    path("admin/backtests/<int:run_id>", backtests.backtest_page, name="operator-backtest"),
    path("admin/login/", RedirectView.as_view(pattern_name="login", query_string=True)),
    *(path(f"admin/market/{page}", moved) for page, moved in MOVED_ADMIN_PAGES.items()),
    path("admin/", admin.site.urls),
]
