"""Tenants and their members."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from tenants import ids
from tenants.models.billing import Plan


class Role(models.TextChoices):
    """What a member may do: an owner everything, a developer all but billing and keys' owners, billing reads bills."""

    OWNER = "owner"
    DEVELOPER = "developer"
    BILLING = "billing"


class Tenant(models.Model):
    """A customer's account: everything else belongs to one."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.tenant, editable=False)
    name = models.SlugField(max_length=60, unique=True)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    active = models.BooleanField(default=True, help_text="A tenant that is not active is refused everywhere.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's role in a tenant."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.member, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_role_a_member")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.tenant}"
