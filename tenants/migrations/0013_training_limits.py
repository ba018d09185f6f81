"""What a plan lets a training use."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0012_operator_audit"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="training_job_bytes",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text="Memory that one may hold; empty: the service's TRAINING_MAX_MEMORY_BYTES.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="training_job_seconds",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="How long one may take; empty: the service's TRAINING_MAX_SECONDS.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="training_jobs_at_once",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Trainings and evaluations of a tenant that run at the same time; further ones wait.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("training_jobs_at_once", None), ("training_jobs_at_once__gt", 0), _connector="OR"),
                    models.Q(("training_job_seconds", None), ("training_job_seconds__gt", 0), _connector="OR"),
                    models.Q(("training_job_bytes", None), ("training_job_bytes__gt", 0), _connector="OR"),
                ),
                name="plan_lets_a_job_be_done",
            ),
        ),
    ]
