"""Quotas over days, keys and deployments; limits as rows, what may be under way at once, and caps on spending."""

import functools

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect

FEED = """
CREATE TRIGGER directory_feed AFTER INSERT OR UPDATE OR DELETE ON tenants_quotalimit
    FOR EACH ROW EXECUTE FUNCTION announce_tenant();
CREATE TRIGGER directory_feed AFTER INSERT OR UPDATE OR DELETE ON tenants_spendcap
    FOR EACH ROW EXECUTE FUNCTION announce_tenant();
"""
NO_FEED = """
DROP TRIGGER directory_feed ON tenants_spendcap;
DROP TRIGGER directory_feed ON tenants_quotalimit;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0007_webhooks_and_audit_chain"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="predictions_per_day",
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="quotabucket",
            name="warned",
            field=models.PositiveSmallIntegerField(default=0, help_text="the highest percentage that was told of"),
        ),
        migrations.AlterField(
            model_name="quotabucket",
            name="meter",
            field=models.CharField(
                choices=[("predictions", "Predictions"), ("concurrency", "Concurrency")], max_length=24
            ),
        ),
        migrations.AlterField(
            model_name="quotabucket",
            name="period",
            field=models.CharField(
                choices=[("minute", "Minute"), ("day", "Day"), ("month", "Month"), ("always", "Always")], max_length=8
            ),
        ),
        migrations.AlterField(
            model_name="quotabucket",
            name="scope",
            field=models.CharField(help_text="`tenant`, `key:ID` or `deployment:NAME`", max_length=100),
        ),
        migrations.CreateModel(
            name="QuotaLimit",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("lim",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("scope", models.CharField(help_text="`tenant`, `key:ID` or `deployment:NAME`", max_length=100)),
                (
                    "meter",
                    models.CharField(
                        choices=[("predictions", "Predictions"), ("concurrency", "Concurrency")], max_length=24
                    ),
                ),
                (
                    "period",
                    models.CharField(
                        choices=[("minute", "Minute"), ("day", "Day"), ("month", "Month"), ("always", "Always")],
                        max_length=8,
                    ),
                ),
                ("limit", models.PositiveBigIntegerField()),
                ("set_by", models.CharField(choices=[("tenant", "Tenant"), ("operator", "Operator")], max_length=8)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "scope", "meter", "period", "set_by"), name="one_limit_of_each_side"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("limit__gte", 1), ("limit__lte", 1000000000000000)),
                        name="quota_limit_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("scope", "tenant"),
                            ("scope__startswith", "key:"),
                            ("scope__startswith", "deployment:"),
                            _connector="OR",
                        ),
                        name="quota_limit_scope",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("meter", "concurrency"), ("period", "always")),
                            models.Q(("meter", "predictions"), models.Q(("period", "always"), _negated=True)),
                            _connector="OR",
                        ),
                        name="quota_limit_period_fits",
                    ),
                ],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="SpendCap",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("amount", models.DecimalField(decimal_places=12, max_digits=38)),
                ("set_by", models.CharField(choices=[("tenant", "Tenant"), ("operator", "Operator")], max_length=8)),
                (
                    "tenant",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "set_by"), name="one_cap_of_each_side"),
                    models.CheckConstraint(condition=models.Q(("amount__gt", 0)), name="spend_cap_positive"),
                ],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        protect("tenants_quotalimit"),
        protect("tenants_spendcap"),
        migrations.RunSQL(FEED, NO_FEED),
    ]
