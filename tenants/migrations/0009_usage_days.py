"""Days and months of the hourly sums, and those of the hours that are there already."""

import django.db.models.deletion
import django.db.models.manager
from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations, models

from tenants.row_security import protect

FILL = """
SELECT set_config('app.operator', 'on', true);
INSERT INTO tenants_usageday (tenant_id, day, key, deployment, version, meter, quantity)
SELECT tenant_id, (hour AT TIME ZONE 'UTC')::date, key, deployment, version, meter, sum(quantity)
FROM tenants_usagehour GROUP BY 1, 2, 3, 4, 5, 6;
INSERT INTO tenants_usagemonth (tenant_id, month, meter, quantity)
SELECT tenant_id, date_trunc('month', day)::date, meter, sum(quantity) FROM tenants_usageday GROUP BY 1, 2, 3;
SELECT set_config('app.operator', '', true);
"""
# The policies of `protect`, their settings read once a query instead of once a row: a report reads a million.
ONCE = """
ALTER POLICY tenant_isolation ON {table} USING (
    tenant_id = (SELECT current_setting('app.tenant', true)) OR (SELECT current_setting('app.operator', true)) = 'on'
);
"""
TABLES = ("tenants_usagehour", "tenants_usageday", "tenants_usagemonth")


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0008_quotas"),
    ]

    operations = [
        migrations.CreateModel(
            name="UsageDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("key", models.CharField(blank=True, help_text="id of the API key", max_length=32)),
                ("deployment", models.CharField(blank=True, help_text="name of the deployment", max_length=80)),
                ("version", models.CharField(blank=True, help_text="model@number", max_length=100)),
                (
                    "meter",
                    models.CharField(
                        choices=[
                            ("requests", "Requests"),
                            ("predictions", "Predictions"),
                            ("batch_predictions", "Batch Predictions"),
                            ("compute_ms", "Compute Ms"),
                            ("input_bytes", "Input Bytes"),
                            ("training_seconds", "Training Seconds"),
                            ("stored_byte_hours", "Stored Byte Hours"),
                        ],
                        max_length=24,
                    ),
                ),
                ("quantity", models.DecimalField(decimal_places=12, max_digits=38)),
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
                        fields=("tenant", "day", "key", "deployment", "version", "meter"), name="one_sum_a_day"
                    )
                ],
                "indexes": [BrinIndex(autosummarize=True, fields=["day"], name="usage_by_day", pages_per_range=32)],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="UsageMonth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField(help_text="its first day")),
                (
                    "meter",
                    models.CharField(
                        choices=[
                            ("requests", "Requests"),
                            ("predictions", "Predictions"),
                            ("batch_predictions", "Batch Predictions"),
                            ("compute_ms", "Compute Ms"),
                            ("input_bytes", "Input Bytes"),
                            ("training_seconds", "Training Seconds"),
                            ("stored_byte_hours", "Stored Byte Hours"),
                        ],
                        max_length=24,
                    ),
                ),
                ("quantity", models.DecimalField(decimal_places=12, max_digits=38)),
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
                    models.UniqueConstraint(fields=("month", "tenant", "meter"), name="one_sum_a_month"),
                    models.CheckConstraint(condition=models.Q(("month__day", 1)), name="month_by_its_first_day"),
                ],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        protect("tenants_usageday"),
        protect("tenants_usagemonth"),
        *(migrations.RunSQL(ONCE.format(table=table), migrations.RunSQL.noop) for table in TABLES),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
