"""Statistics of deployments, kept apart by tenant, and the processes that bring them."""

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

from tenants.row_security import protect


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0005_engine_measurements"),
        ("tenants", "0004_batch_predictions"),
    ]

    operations = [
        migrations.CreateModel(
            name="StatisticsSource",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("parcel", models.BigIntegerField()),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="DeploymentStatistics",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "deployment",
                    models.CharField(help_text="name of the deployment, which may be gone by now", max_length=60),
                ),
                (
                    "version",
                    models.CharField(blank=True, help_text="model@number; empty if none was chosen", max_length=100),
                ),
                ("width", models.CharField(choices=[("minute", "Minute"), ("hour", "Hour")], max_length=6)),
                ("start", models.DateTimeField()),
                ("answered", models.BigIntegerField()),
                ("client_errors", models.BigIntegerField(help_text="answers from 400 to 499")),
                ("server_errors", models.BigIntegerField(help_text="answers from 500 on")),
                ("rows", models.BigIntegerField()),
                ("batches", models.BigIntegerField()),
                ("batch_rows", models.BigIntegerField(help_text="rows in these batches")),
                ("cache_hits", models.BigIntegerField()),
                ("queue_us", models.BigIntegerField()),
                ("compute_us", models.BigIntegerField()),
                ("total_us", models.BigIntegerField()),
                ("histogram", models.JSONField(help_text="how many answers by bucket")),
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
                "verbose_name_plural": "deployment statistics",
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
                "indexes": [models.Index(fields=["width", "start"], name="statistics_to_forget")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "deployment", "width", "start", "version"), name="one_statistic_a_time"
                    )
                ],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        protect("inference_deploymentstatistics"),
    ]
