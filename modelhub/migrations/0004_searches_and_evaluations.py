"""Searches and evaluations, their rows kept apart by tenant."""

import functools

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect


class Migration(migrations.Migration):
    dependencies = [
        ("modelhub", "0003_budgets"),
        ("tenants", "0013_training_limits"),
    ]

    operations = [
        migrations.AddField(
            model_name="trainingjob",
            name="monitor",
            field=models.JSONField(
                default=dict, help_text="name and higher_is_better of the metric that tells epochs apart"
            ),
        ),
        migrations.CreateModel(
            name="Search",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("sea",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("model_name", models.CharField(max_length=60)),
                ("recipe", models.CharField(max_length=40)),
                ("parameters", models.JSONField(default=dict, help_text="what all of its trainings have in common")),
                ("space", models.JSONField(help_text="what each of the others may be")),
                ("method", models.CharField(choices=[("grid", "Grid"), ("random", "Random")], max_length=8)),
                ("seed", models.PositiveIntegerField(default=0)),
                (
                    "budget",
                    models.DecimalField(
                        decimal_places=12,
                        help_text="The most that all its trainings may cost together.",
                        max_digits=38,
                        null=True,
                    ),
                ),
                ("budget_currency", models.CharField(blank=True, max_length=3)),
                ("cancel_requested_at", models.DateTimeField(null=True)),
                ("created_by", models.CharField(max_length=120)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
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
            ],
            options={
                "verbose_name_plural": "searches",
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="search",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="modelhub.search"
            ),
        ),
        migrations.CreateModel(
            name="Evaluation",
            fields=[
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("stopped", "Stopped"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("progress", models.JSONField(default=dict, help_text="phase, done, total, in words and numbers")),
                ("error", models.TextField(blank=True, help_text="Why it failed, for the customer.")),
                (
                    "budget",
                    models.DecimalField(
                        decimal_places=12, help_text="The most that it may cost.", max_digits=38, null=True
                    ),
                ),
                ("budget_currency", models.CharField(blank=True, max_length=3)),
                ("cancel_requested_at", models.DateTimeField(null=True)),
                ("attempt", models.PositiveSmallIntegerField(default=0)),
                ("trainer", models.CharField(blank=True, help_text="Which trainer holds the lease.", max_length=80)),
                ("lease_until", models.DateTimeField(null=True)),
                ("training_seconds", models.DecimalField(decimal_places=3, max_digits=12, null=True)),
                ("created_by", models.CharField(max_length=120)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("evl",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "split",
                    models.CharField(
                        choices=[("validation", "Validation"), ("train", "Train"), ("all", "All")],
                        default="validation",
                        max_length=12,
                    ),
                ),
                ("slices", models.JSONField(default=list, help_text="by what the rows are grouped besides")),
                ("result", models.JSONField(help_text="metrics, slices, calibration, thresholds, left_out", null=True)),
                ("mistakes", models.JSONField(default=list, help_text="the rows that it got most wrong")),
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
                        name="evaluations_to_do",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("budget", None), ("budget_currency", "")),
                            models.Q(
                                ("budget__gt", 0),
                                ("budget__isnull", False),
                                models.Q(("budget_currency", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="evaluation_budget_is_money",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "succeeded"), _negated=True), ("result__isnull", False), _connector="OR"
                        ),
                        name="evaluation_has_result",
                    ),
                ],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.AddConstraint(
            model_name="search",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("budget", None), ("budget_currency", "")),
                    models.Q(
                        ("budget__gt", 0), ("budget__isnull", False), models.Q(("budget_currency", ""), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="search_budget_is_money",
            ),
        ),
        protect("modelhub_search"),
        protect("modelhub_evaluation"),
    ]
