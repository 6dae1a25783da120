"""Admin pages of users, groups, API keys, login attempts and the Celery schedule."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.admin import (
    CrontabScheduleAdmin,
    PeriodicTaskAdmin,
    PeriodicTaskForm,
    TaskSelectWidget,
)
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_otp.plugins.otp_static.admin import StaticDevice
from django_otp.plugins.otp_totp.admin import TOTPDevice
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from maxxit.access.auth import revoke_key
from maxxit.access.models import ApiKey, LoginAttempts
from maxxit.adminkit import ReadOnlyAdmin, log_action
from maxxit.pipeline.sync import report_disabled_jobs
from maxxit.web import second_factor

admin.site.index_title = "At a glance"
for model in (
    *(User, Group, PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule),
    *(TOTPDevice, StaticDevice),  # their pages show secrets
):
    admin.site.unregister(model)


@admin.register(User)
class ThemedUserAdmin(UserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    actions = ("remove_second_factor",)

    @action(description="Remove the second factor", permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, rows: QuerySet[User]) -> None:
        """Remove it for users who lost their phone and their recovery codes."""
        chosen = list(rows)
        for person in chosen:
            second_factor.remove(person, by=request.user.get_username())
        log_action(request, chosen, "Removed the second factor")
        messages.success(request, f"{len(chosen)} removed")


@admin.register(Group)
class ThemedGroupAdmin(GroupAdmin, ModelAdmin):
    """Groups and their permissions, in the admin's theme."""


class TaskSelect(UnfoldAdminSelectWidget, TaskSelectWidget):
    """A select of the registered tasks, in the admin's theme."""

    template_name = "unfold/widgets/select.html"


class JobForm(PeriodicTaskForm):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()


@admin.register(PeriodicTask)
class JobAdmin(PeriodicTaskAdmin, ModelAdmin):
    """The schedule. A change takes effect at once, without a restart, and survives `sync_schedule`."""

    date_hierarchy = None  # its links accept years out of range

    form = JobForm
    list_display = ("name", "enabled", "scheduler", "last_run_at", "total_run_count", "description")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Show the list, and report disabled jobs even where beat is disabled too."""
        answer = super().changelist_view(request, extra_context)
        report_disabled_jobs(by=request.user.get_username())
        return answer

    def get_actions(self, request: HttpRequest) -> Any:
        """Hide all actions without the permission `change`: those of django-celery-beat do not check it."""
        return super().get_actions(request) if self.has_change_permission(request) else {}


@admin.register(IntervalSchedule)
class IntervalAdmin(ModelAdmin):
    """Schedules at a fixed interval."""


@admin.register(CrontabSchedule)
class CrontabAdmin(CrontabScheduleAdmin, ModelAdmin):
    """Schedules by the calendar (cron)."""


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """API keys, read only: `manage.py apikey create` makes one, because a key is shown once and never on a page."""

    list_display = ("prefix", "name", "owner", "scopes", "standing", "created_at", "last_used", "expires_at")
    list_filter = ("owner", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("prefix", "name", "owner__username")
    date_hierarchy = "created_at"
    actions = ("revoke",)

    @display(description="state", label={"standing": "success", "expired": "warning", "revoked": "danger"})
    def standing(self, row: ApiKey) -> str:
        return row.standing

    @action(description="Revoke", permissions=["operate"])
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> None:
        chosen = list(rows.filter(revoked_at=None))
        count = sum(revoke_key(row.prefix, by=request.user.get_username()) for row in chosen)
        log_action(request, chosen, "Revoked")
        messages.success(request, f"{count} revoked")


@admin.register(LoginAttempts)
class LoginAttemptsAdmin(ReadOnlyAdmin):
    """Failed logins and refused API keys, by user name and by address."""

    list_display = ("subject", "failures", "last_at", "blocked_until")
    search_fields = ("subject",)
    date_hierarchy = "last_at"
    actions = ("release",)

    @action(description="End the block", permissions=["operate"])
    def release(self, request: HttpRequest, rows: QuerySet[LoginAttempts]) -> None:
        chosen = list(rows)
        count = rows.update(failures=0, blocked_until=None)
        log_action(request, chosen, "Ended the block")
        messages.success(request, f"{count} released")
