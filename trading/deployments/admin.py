"""The admin page of deployments: its actions activate, pause and revoke as every other way does."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from agents.admin import Stateful
from agents.deploying import is_paper, starting_balance
from agents.fee_terms import fees_in_words
from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.adminkit import EMPTY, link, list_link, number_column, state_column
from maxxit.core.errors import InvalidInput, MaxxitError, Rejected
from trading.deployments import activation, owner_limits


class DeploymentForm(forms.ModelForm):  # type: ignore[type-arg]
    """Holds the starting balance to what a paper account may start with."""

    class Meta:
        model = Deployment
        fields = "__all__"

    def clean(self) -> dict[str, Any]:
        """Refuse a balance that is not positive, or too large. Raises ValidationError on the field."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        agent, balance = values.get("agent"), values.get("starting_balance")
        if agent is None or balance is None or "starting_balance" not in self.changed_data:
            return values
        try:
            if is_paper(agent):
                values["starting_balance"] = starting_balance(balance)
            elif balance:
                self.add_error(
                    "starting_balance", f"only paper accounts start with play money: enter 0 at {agent.venue}"
                )
        except InvalidInput as error:
            self.add_error("starting_balance", error.problems["capital"])
        except Rejected as error:
            self.add_error("agent", str(error))
        return values


@admin.register(Deployment)
class DeploymentAdmin(Stateful):
    form = DeploymentForm
    list_display = (
        "account",
        "status",
        "agent_link",
        "owner",
        "starting",
        "orders",
        "positions",
        "ledger",
        "safe",
    )
    list_filter = ("state", "agent__venue", ("agent", admin.RelatedOnlyFieldListFilter), "module_enabled")
    list_select_related = ("agent", "owner")
    search_fields = ("account", "agent__name", "owner__username", "safe_wallet", "user_wallet")
    date_hierarchy = "created_at"
    autocomplete_fields = ("agent", "owner")
    readonly_fields = (
        "status",
        "fees",
        "orders",
        "positions",
        "ledger",
        "safe",
        "safe_wallet",
        "chain_id",
        "module_address",
        "module_enabled",
        "verified_at",
        "created_at",
        # raised by their owner, or by two people (trading.operations.change_requests)
        *owner_limits.NAMES,
        "limits_changed_at",
        "limits_changed_by",
    )
    actions = ("activate", "pause", "revoke")
    status = state_column()
    starting = number_column("starting_balance", "starting balance (USDC)")

    def get_readonly_fields(self, request: HttpRequest, obj: Deployment | None = None) -> tuple[str, ...]:
        """Lock agent, account and balance after the draft state; a Safe is set by its plan only."""
        fields = tuple(super().get_readonly_fields(request, obj))
        draft = obj is None or obj.state == DeploymentState.DRAFT
        return fields if draft else (*fields, "agent", "account", "starting_balance")

    @action(description="Activate", permissions=["operate"])
    def activate(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        """Activate each that could trade; of the others say every reason why it could not."""
        moved = []
        for row in rows:
            try:
                if activation.activate(row, by=request.user.get_username(), why="admin"):
                    moved.append(row)
                else:
                    messages.warning(request, f"{row}: it is active already")
            except MaxxitError as error:
                messages.error(request, f"{row} is not activated: {error}")
        self.report(request, moved, DeploymentState.ACTIVE)

    @action(description="Revoke permanently", permissions=["operate"])
    def revoke(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        """Revoke: the deployment never trades again."""
        self.move(request, rows, DeploymentState.REVOKED)

    @display(description="agent", ordering="agent__name")
    def agent_link(self, row: Deployment) -> SafeString | str:
        return link("agents.agent", row.agent_id, row.agent)

    @display(description="fees agreed to")
    def fees(self, row: Deployment) -> SafeString | str:
        """Show the fees that its owner agreed to in words, where the agent's changed since."""
        if not row.agreed_fees:
            return "those of the agent"
        return format_html_join(SafeString("<br>"), "{}: {}", fees_in_words(row.agreed_fees).items())

    @display(description="Safe", ordering="verified_at")
    def safe(self, row: Deployment) -> SafeString | str:
        """Link to the permission card, labelled with whether the chain agrees with what the owners signed."""
        if not row.safe_wallet:
            return EMPTY
        label = "verified" if row.verified_at else "not verified"
        return list_link("trading.safeplan", label, q=row.safe_wallet)

    @display(description="orders")
    def orders(self, row: Deployment) -> SafeString | str:
        return list_link("trading.order", "orders", deployment__id__exact=row.pk)

    @display(description="positions")
    def positions(self, row: Deployment) -> SafeString | str:
        return list_link("positions.position", "positions", deployment__id__exact=row.pk)

    @display(description="ledger")
    def ledger(self, row: Deployment) -> SafeString | str:
        return list_link("trading.ledgerentry", "ledger", q=f"deployment:{row.pk}")
