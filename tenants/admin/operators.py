"""The operators' own accounts: who may do what in the admin; each edit of one is recorded."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User

from tenants.admin.base import RecordedAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class OperatorAdmin(RecordedAdmin, UserAdmin):  # type: ignore[type-arg]
    recorded = ("username", "email", "is_active", "is_staff", "is_superuser", "groups", "user_permissions")


@admin.register(Group)
class OperatorGroupAdmin(RecordedAdmin, GroupAdmin):
    recorded = ("name", "permissions")
