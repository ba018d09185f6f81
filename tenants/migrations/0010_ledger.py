"""Watermarks of idle and dead producers, segments that were rejected, and where each segment is archived."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0009_usage_days"),
    ]

    operations = [
        migrations.CreateModel(
            name="RejectedSegment",
            fields=[
                ("id", models.CharField(max_length=96, primary_key=True, serialize=False)),
                ("producer", models.CharField(db_index=True, max_length=64)),
                ("host", models.CharField(help_text="the machine on which the file is", max_length=255)),
                ("path", models.CharField(max_length=1000)),
                ("reason", models.TextField()),
                (
                    "complete_before",
                    models.DateTimeField(help_text="Its events are not older: what came before it had arrived."),
                ),
                ("rejected_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name="usageproducer",
            name="records_at_once",
            field=models.BooleanField(
                default=False,
                help_text="Its events arrive in the transaction that makes them, so none is under way for long.",
            ),
        ),
        migrations.AddField(
            model_name="usageproducer",
            name="seen_at",
            field=models.DateTimeField(help_text="When it was last heard of, by the database's clock.", null=True),
        ),
        migrations.AddField(
            model_name="usageproducer",
            name="written_off_at",
            field=models.DateTimeField(help_text="When an operator gave up what had not arrived.", null=True),
        ),
        migrations.AddField(
            model_name="usageproducer",
            name="written_off_because",
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name="usageproducer",
            name="written_off_by",
            field=models.CharField(blank=True, max_length=120),
        ),
        migrations.AddField(
            model_name="usagesegment",
            name="archived_as",
            field=models.CharField(blank=True, help_text="name of the archived file in the storage", max_length=120),
        ),
        migrations.AlterField(
            model_name="usageproducer",
            name="watermark",
            field=models.DateTimeField(help_text="All events of before have arrived.", null=True),
        ),
        migrations.AlterField(
            model_name="usagesegment",
            name="sha256",
            field=models.CharField(help_text="of the segment's bytes as they were written", max_length=64),
        ),
        migrations.AddIndex(
            model_name="usagesegment",
            index=models.Index(fields=["last_event_at", "first_event_at"], name="segments_by_time"),
        ),
        migrations.AddIndex(
            model_name="usagesegment",
            index=models.Index(fields=["archived_as"], name="segments_by_file"),
        ),
        migrations.AddConstraint(
            model_name="usageproducer",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("written_off_at", None),
                    models.Q(
                        models.Q(("written_off_by", ""), _negated=True),
                        models.Q(("written_off_because", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="written_off_by_somebody_for_a_reason",
            ),
        ),
        # What was known before: these two have always recorded in the transactions of their jobs.
        migrations.RunSQL(
            "UPDATE tenants_usageproducer SET records_at_once = true WHERE id IN ('training', 'batch')",
            migrations.RunSQL.noop,
        ),
    ]
