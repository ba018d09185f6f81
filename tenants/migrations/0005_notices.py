"""What tenants are told of: an outbox."""

import functools

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0004_batch_predictions"),
    ]

    operations = [
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("ntc",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("kind", models.CharField(help_text="`noun.verb`, as `invoice.issued`", max_length=60)),
                ("once", models.CharField(max_length=200)),
                ("data", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
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
                "constraints": [models.UniqueConstraint(fields=("tenant", "kind", "once"), name="one_notice_a_thing")],
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        protect("tenants_notice"),
    ]
