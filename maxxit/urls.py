"""Every URL of the project. What is not listed here does not exist."""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
