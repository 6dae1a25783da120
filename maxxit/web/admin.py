"""Admin pages of users, groups, API keys, login attempts and the Celery schedule."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
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

from maxxit.access import invitations, sessions
from maxxit.access.auth import revoke_key
from maxxit.access.models import ApiKey, IdempotentRequest, Invitation, LoginAttempts, WalletLogin
from maxxit.adminkit import EMPTY, ReadOnlyAdmin, log_action
from maxxit.core import clock
from maxxit.llm.admin import LlmTraceAdmin
from maxxit.llm.models import LlmTrace
from maxxit.pipeline.sync import report_disabled_jobs
from maxxit.reports import model_calls
from maxxit.web import second_factor

admin.site.index_title = "At a glance"
for model in (
    *(User, Group, PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule),
    *(TOTPDevice, StaticDevice),  # their pages show secrets
    LlmTrace,  # its page here shows trades, too, which `maxxit.llm` does not know
):
    admin.site.unregister(model)


@admin.register(User)
class ThemedUserAdmin(UserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    actions = ("remove_second_factor", "end_sessions")

    @action(description="Remove the second factor", permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, rows: QuerySet[User]) -> None:
        """Remove it for users who lost their phone and their recovery codes."""
        chosen = list(rows)
        for person in chosen:
            second_factor.remove(person, by=request.user.get_username())
        log_action(request, chosen, "Removed the second factor")
        messages.success(request, f"{len(chosen)} removed")

    @action(description="End all sessions", permissions=["change"])
    def end_sessions(self, request: HttpRequest, rows: QuerySet[User]) -> None:
        """Log users out of every browser."""
        chosen = list(rows)
        count = sum(sessions.end(person) for person in chosen)
        log_action(request, chosen, "Ended all sessions")
        messages.success(request, f"{count} sessions ended")


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


class InvitationForm(forms.ModelForm):  # type: ignore[type-arg]
    """Whom the invitation is for, and for how long it works."""

    email = forms.CharField(
        required=False,
        max_length=254,
        widget=UnfoldAdminTextInputWidget,
        help_text="whom it is for, for this list; nothing is sent there",
    )
    days = forms.IntegerField(
        min_value=1,
        max_value=365,
        initial=invitations.DAYS,
        widget=UnfoldAdminTextInputWidget,
        help_text="until it expires",
    )

    class Meta:
        model = Invitation
        fields = ("email",)


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """Invitations. Adding one shows its link once; `manage.py invite` does the same."""

    form = InvitationForm
    fields = ("email", "days")
    list_display = ("id", "email", "standing", "created_by", "created_at", "expires_at", "used_by", "used_at")
    list_select_related = ("used_by",)
    search_fields = ("email", "created_by", "used_by__username")
    date_hierarchy = "created_at"
    actions = ("withdraw",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Require the permission `console.add_invitation` to add one."""
        return request.user.has_perm("console.add_invitation")

    def get_fields(self, request: HttpRequest, obj: Invitation | None = None) -> Any:
        """Return the fields of the form, or of the page of an existing invitation."""
        return self.fields if obj is None else self.list_display[1:]

    @display(description="state", label={"open": "success", "expired": "warning", "withdrawn": "danger"})
    def standing(self, row: Invitation) -> str:
        return row.standing

    def save_model(self, request: HttpRequest, obj: Invitation, form: Any, change: bool) -> None:
        """Create the invitation and show its link, which cannot be shown again."""
        code, row = invitations.create(
            expires_at=clock.now() + timedelta(days=form.cleaned_data["days"]),
            by=request.user.get_username(),
            email=obj.email,
        )
        obj.pk = row.pk
        link = request.build_absolute_uri(invitations.path(code))
        messages.success(request, f"Copy this link now, it is not shown again: {link}")

    def response_add(
        self, request: HttpRequest, obj: Invitation, post_url_continue: Any = None
    ) -> HttpResponse:
        """Go back to the list, where the link is shown."""
        answer: HttpResponse = self.response_post_save_add(request, obj)
        return answer

    @action(description="Withdraw", permissions=["operate"])
    def withdraw(self, request: HttpRequest, rows: QuerySet[Invitation]) -> None:
        chosen = list(rows)
        count = invitations.withdraw([row.pk for row in chosen], by=request.user.get_username())
        log_action(request, chosen, "Withdrew")
        messages.success(request, f"{count} withdrawn; used and expired ones stay as they are")


@admin.register(WalletLogin)
class WalletLoginAdmin(ReadOnlyAdmin):
    """Wallets with which users log in."""

    list_display = ("address", "user", "linked_at", "last_used")
    list_select_related = ("user",)
    search_fields = ("address__iexact", "user__username")


@admin.register(IdempotentRequest)
class IdempotentRequestAdmin(ReadOnlyAdmin):
    """Requests of the API that take effect once. Their answers are not shown: they belong to who asked."""

    list_display = ("key", "owner", "status", "created_at")
    list_select_related = ("owner",)
    list_filter = ("status",)
    search_fields = ("key", "owner__username")
    fields = ("key", "owner", "status", "created_at")


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


@admin.register(LlmTrace)
class ModelCallAdmin(LlmTraceAdmin):
    """One call, and what became of it: the price after 24 hours, and the PnL of the positions that it caused."""

    fields = (*LlmTraceAdmin.fields, "became")
    readonly_fields = (*LlmTraceAdmin.readonly_fields, "became")

    @display(description="what became of it")
    def became(self, row: LlmTrace) -> str:
        found = model_calls.became_of([row.pk]).get(row.pk)
        return found.text if found else EMPTY
