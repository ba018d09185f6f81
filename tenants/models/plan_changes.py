"""Which plan a tenant had from when: a row for each change. A tenant without one has had its plan all along."""

from django.db import models
from django.db.models import F, Q

from tenants import ids
from tenants.models.billing import Plan
from tenants.models.scoped import TenantOwned


class PlanChange(TenantOwned):
    """A move from one plan to another: bills count it from a full hour on, as usage is summed by the hour.

    Of several changes that count from the same hour, the last one holds.
    """

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.plan_change, editable=False)
    number = models.PositiveIntegerField(help_text="The tenant's first change is 1.")
    before = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    after = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()
    holds_from = models.DateTimeField(help_text="the first full hour that is billed by the new plan")
    actor = models.CharField(max_length=120)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="one_plan_change_a_number"),
            models.CheckConstraint(condition=~Q(before=F("after")), name="plan_change_changes"),
            models.CheckConstraint(condition=Q(holds_from__gte=F("at")), name="plan_change_not_backdated"),
            models.CheckConstraint(
                condition=Q(holds_from__minute=0, holds_from__second=0), name="plan_change_on_full_hour"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.before_id} to {self.after_id} from {self.holds_from:%Y-%m-%d %H:%M}"
