"""Admin of people, API keys and the schedule, in the same clothes as the rest."""

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
from maxxit.adminkit import Book, log
from maxxit.pipeline.sync import report_disabled_jobs
from maxxit.web import second_factor

admin.site.index_title = "At a glance"
for model in (
    *(User, Group, PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule),
    *(TOTPDevice, StaticDevice),  # their pages show secrets
):
    admin.site.unregister(model)


@admin.register(User)
class PersonAdmin(UserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    actions = ("remove_second_factor",)

    @action(description="Remove the second factor", permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, rows: QuerySet[User]) -> None:
        """For people who lost their phone and their recovery codes."""
        chosen = list(rows)
        for person in chosen:
            second_factor.remove(person, by=request.user.get_username())
        log(request, chosen, "Removed the second factor")
        messages.success(request, f"{len(chosen)} removed")


@admin.register(Group)
class PeopleAdmin(GroupAdmin, ModelAdmin):
    """What groups of them may do."""


class TaskSelect(UnfoldAdminSelectWidget, TaskSelectWidget):
    """The known tasks, as the theme draws a choice."""

    template_name = "unfold/widgets/select.html"


class JobForm(PeriodicTaskForm):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()


@admin.register(PeriodicTask)
class JobAdmin(PeriodicTaskAdmin, ModelAdmin):
    """The schedule. A change here counts at once, without a restart, and survives `sync_schedule`."""

    date_hierarchy = None  # its links take years that no calendar has

    form = JobForm
    list_display = ("name", "enabled", "scheduler", "last_run_at", "total_run_count", "description")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """The list and its actions. Jobs that are switched off are reported, also where beat no longer does it."""
        answer = super().changelist_view(request, extra_context)
        report_disabled_jobs(by=request.user.get_username())
        return answer

    def get_actions(self, request: HttpRequest) -> Any:
        """The actions of django-celery-beat ask for no permission: without `change` there are none."""
        return super().get_actions(request) if self.has_change_permission(request) else {}


@admin.register(IntervalSchedule)
class IntervalAdmin(ModelAdmin):
    """Rhythms: every so many seconds."""


@admin.register(CrontabSchedule)
class CrontabAdmin(CrontabScheduleAdmin, ModelAdmin):
    """Rhythms: by the calendar."""


@admin.register(ApiKey)
class ApiKeyAdmin(Book):
    """Keys. `manage.py apikey create` makes one, because a key is shown once and belongs in no page."""

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
        log(request, chosen, "Revoked")
        messages.success(request, f"{count} revoked")


@admin.register(LoginAttempts)
class LoginAttemptsAdmin(Book):
    """Failed logins and refused keys, by account and by address."""

    list_display = ("subject", "failures", "last_at", "blocked_until")
    search_fields = ("subject",)
    date_hierarchy = "last_at"
    actions = ("release",)

    @action(description="End the block", permissions=["operate"])
    def release(self, request: HttpRequest, rows: QuerySet[LoginAttempts]) -> None:
        chosen = list(rows)
        count = rows.update(failures=0, blocked_until=None)
        log(request, chosen, "Ended the block")
        messages.success(request, f"{count} released")
