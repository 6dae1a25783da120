"""Every URL of the project. What is not listed here does not exist."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from maxxit.console import health, pages
from maxxit.console.api import api
from maxxit.console.metrics import metrics

urlpatterns = [
    path("", pages.dashboard, name="dashboard"),
    path("market", pages.market, name="market"),
    path("market/tables", pages.market_tables, name="market-tables"),
    path("chain/<uuid:correlation_id>", pages.chain, name="chain"),
    path("login", LoginView.as_view(template_name="console/login.html", next_page="dashboard"), name="login"),
    path("logout", LogoutView.as_view(next_page="login"), name="logout"),
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    path("metrics", metrics, name="metrics"),
    path("api/", api.urls),
    path("admin/stop", pages.stop, name="stop"),
    path("admin/", admin.site.urls),
]
