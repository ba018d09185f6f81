"""What the engines do with a version on a kind of host, the rows kept apart by tenant."""

import functools

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0004_batch_predictions"),
        ("modelhub", "0002_row_security"),
        ("tenants", "0004_batch_predictions"),
    ]

    operations = [
        migrations.CreateModel(
            name="EngineMeasurement",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("emt",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "host",
                    models.CharField(
                        help_text="processors and runtimes; hosts that agree in it share the times", max_length=300
                    ),
                ),
                (
                    "table",
                    models.JSONField(help_text="milliseconds of each candidate by threads and rows in the batch"),
                ),
                ("engine", models.CharField(help_text="which serves", max_length=40)),
                ("file", models.CharField(help_text="which is served", max_length=120)),
                ("best_batch", models.PositiveSmallIntegerField(help_text="rows")),
                ("threads_of_a_lone_request", models.PositiveSmallIntegerField()),
                (
                    "disturbance",
                    models.FloatField(
                        help_text="how many times as long a loop took beside it as it would alone; 1 is a quiet host"
                    ),
                ),
                ("measured_at", models.DateTimeField(default=django.utils.timezone.now)),
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
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="modelhub.modelversion"
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
                "constraints": [
                    models.UniqueConstraint(fields=("version", "host"), name="one_measurement_a_version_and_host")
                ],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        protect("inference_enginemeasurement"),
    ]
