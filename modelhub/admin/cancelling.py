"""Pages of work that can be cancelled."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.admin.base import ReadOnlyAdmin
from tenants.errors import Refusal


class CancellableAdmin(ReadOnlyAdmin):
    """Rows to read, and to cancel by their verb."""

    actions = ("cancel",)

    def cancel_one(self, request: HttpRequest, job: Any) -> None:
        """Cancels one; raises Refusal if it is not under way."""
        raise NotImplementedError

    @admin.action(description="Cancel: waiting jobs at once, running ones within two seconds", permissions=["cancel"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[Any]) -> None:
        """Cancels those that are under way, and says why the others are not."""
        done = 0
        for job in jobs:
            try:
                self.cancel_one(request, job)
                done += 1
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.WARNING)
        self.message_user(request, f"{done} cancelled.", messages.SUCCESS if done else messages.INFO)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")
