"""Batch predictions, their rows kept apart by tenant."""

import functools

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0003_traffic"),
        ("modelhub", "0002_row_security"),
        ("tenants", "0004_batch_predictions"),
    ]

    operations = [
        migrations.CreateModel(
            name="BatchPrediction",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("bat",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("deployment_name", models.CharField(help_text="which may be gone by now", max_length=60)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("rows_total", models.PositiveIntegerField()),
                ("rows_done", models.PositiveIntegerField(default=0, help_text="those that failed among them")),
                ("rows_failed", models.PositiveIntegerField(default=0)),
                ("checkpoint_bytes", models.PositiveBigIntegerField(default=0)),
                ("checkpoint_sha256", models.CharField(blank=True, max_length=64)),
                ("result_sha256", models.CharField(blank=True, max_length=64)),
                ("result_size", models.PositiveBigIntegerField(default=0, help_text="bytes")),
                ("error", models.TextField(blank=True, help_text="Why it failed, for the customer.")),
                ("cancel_requested_at", models.DateTimeField(null=True)),
                ("attempt", models.PositiveSmallIntegerField(default=0)),
                ("worker", models.CharField(blank=True, help_text="Which worker holds the lease.", max_length=80)),
                ("lease_until", models.DateTimeField(null=True)),
                ("created_by", models.CharField(max_length=120)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "dataset",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="modelhub.dataset"
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="modelhub.modelversion"
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ["queued", "running"])),
                        fields=["created_at"],
                        name="batches_to_do",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("rows_done__lte", models.F("rows_total"))), name="batch_done_within_total"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("rows_failed__lte", models.F("rows_done"))), name="batch_failed_within_done"
                    ),
                ],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        protect("inference_batchprediction"),
    ]
