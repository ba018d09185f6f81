"""Searches: several trainings of one recipe on one data set, which differ by their parameters alone."""

from django.db import models
from django.utils import timezone

from modelhub.models.datasets import Dataset
from modelhub.models.jobs import BUDGET_IS_MONEY
from tenants import ids
from tenants.models import TenantOwned


class SearchMethod(models.TextChoices):
    """Every combination, or so many drawn ones."""

    GRID = "grid"
    RANDOM = "random"


class Search(TenantOwned):
    """The parent of its training jobs; how far it is, they tell."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.search, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="+")
    model_name = models.CharField(max_length=60)
    recipe = models.CharField(max_length=40)
    parameters = models.JSONField(default=dict, help_text="what all of its trainings have in common")
    space = models.JSONField(help_text="what each of the others may be")
    method = models.CharField(max_length=8, choices=SearchMethod.choices)
    seed = models.PositiveIntegerField(default=0)
    budget = models.DecimalField(
        max_digits=38, decimal_places=12, null=True, help_text="The most that all its trainings may cost together."
    )
    budget_currency = models.CharField(max_length=3, blank=True)
    cancel_requested_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantOwned.Meta):
        abstract = False
        verbose_name_plural = "searches"
        constraints = [models.CheckConstraint(condition=BUDGET_IS_MONEY, name="search_budget_is_money")]

    def __str__(self) -> str:
        return self.id
