"""Webhooks, and an audit trail whose rows are linked to each other."""

import functools

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect

# The chain. A row is linked when its transaction commits: at that moment the transaction takes no other lock any more,
# so whatever verbs lock before or after they record, waiting for a head cannot close a circle; and the head is held
# for the commit alone. Whichever event of the transaction comes last links all of them, tenant by tenant in order.
CHAIN = """
CREATE FUNCTION audit_hash(event tenants_auditevent) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(convert_to(to_json(ARRAY[
        event.previous_hash, event.sequence::text, event.id, event.tenant_id,
        to_char(event.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        event.actor, event.verb, event.subject, event.detail::text,
        event.address, event.forwarded_for, event.user_agent, event.request_id
    ])::text, 'UTF8')), 'hex')
$$;

CREATE FUNCTION link_audit_events() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    whose text;
    head tenants_audithead;
    event tenants_auditevent;
BEGIN
    FOR whose IN SELECT DISTINCT tenant_id FROM tenants_auditevent WHERE sequence IS NULL ORDER BY tenant_id LOOP
        SELECT * INTO head FROM tenants_audithead WHERE tenant_id = whose FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO tenants_audithead (tenant_id, sequence, hash) VALUES (whose, 0, '') ON CONFLICT DO NOTHING;
            SELECT * INTO STRICT head FROM tenants_audithead WHERE tenant_id = whose FOR UPDATE;
        END IF;
        FOR event IN
            SELECT * FROM tenants_auditevent WHERE sequence IS NULL AND tenant_id = whose ORDER BY at, id
        LOOP
            event.sequence := head.sequence + 1;
            event.previous_hash := head.hash;
            event.hash := audit_hash(event);
            UPDATE tenants_auditevent
                SET sequence = event.sequence, previous_hash = event.previous_hash, hash = event.hash
                WHERE id = event.id;
            head.sequence := event.sequence;
            head.hash := event.hash;
        END LOOP;
        UPDATE tenants_audithead SET sequence = head.sequence, hash = head.hash WHERE tenant_id = whose;
    END LOOP;
END $$;

CREATE FUNCTION link_audit_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    scope_before text := coalesce(current_setting('app.operator', true), '');
BEGIN
    PERFORM set_config('app.operator', 'on', true);  -- the scope of the verb may be over by now
    IF NOT EXISTS (SELECT FROM tenants_auditevent WHERE sequence IS NULL AND (at, id) > (NEW.at, NEW.id)) THEN
        PERFORM link_audit_events();
    END IF;
    PERFORM set_config('app.operator', scope_before, true);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER link_audit_event AFTER INSERT ON tenants_auditevent
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION link_audit_event();
"""
NO_CHAIN = """
DROP TRIGGER link_audit_event ON tenants_auditevent;
DROP FUNCTION link_audit_event;
DROP FUNCTION link_audit_events;
DROP FUNCTION audit_hash;
"""

# A row gets its place in the chain once, from the function above, and nothing else of it ever changes.
APPEND_ONLY = """
DROP TRIGGER append_only ON tenants_auditevent;
CREATE TRIGGER append_only BEFORE DELETE ON tenants_auditevent
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER linked_once BEFORE UPDATE ON tenants_auditevent FOR EACH ROW WHEN (
    OLD.sequence IS NOT NULL OR NEW.sequence IS NULL
    OR ROW(NEW.id, NEW.tenant_id, NEW.at, NEW.actor, NEW.verb, NEW.subject, NEW.detail,
           NEW.address, NEW.forwarded_for, NEW.user_agent, NEW.request_id)
    IS DISTINCT FROM ROW(OLD.id, OLD.tenant_id, OLD.at, OLD.actor, OLD.verb, OLD.subject, OLD.detail,
           OLD.address, OLD.forwarded_for, OLD.user_agent, OLD.request_id)
) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER placed_by_the_chain BEFORE INSERT ON tenants_auditevent
    FOR EACH ROW WHEN (NEW.sequence IS NOT NULL) EXECUTE FUNCTION refuse_change();
"""
APPEND_ONLY_BEFORE = """
DROP TRIGGER placed_by_the_chain ON tenants_auditevent;
DROP TRIGGER linked_once ON tenants_auditevent;
DROP TRIGGER append_only ON tenants_auditevent;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_auditevent
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""

# Rows from before are linked in the order of their time.
LINK_WHAT_IS_THERE = """
SELECT set_config('app.operator', 'on', true);
SELECT link_audit_events();
SELECT set_config('app.operator', '', true);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0006_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sequence", models.PositiveBigIntegerField(default=0)),
                ("hash", models.CharField(blank=True, default="", max_length=64)),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="WebhookAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("duration_ms", models.PositiveIntegerField()),
                (
                    "status",
                    models.PositiveSmallIntegerField(
                        blank=True, help_text="HTTP status; none without an answer", null=True
                    ),
                ),
                ("error", models.CharField(blank=True, default="", max_length=300)),
                ("answer", models.CharField(blank=True, default="", help_text="its first bytes", max_length=1000)),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("dlv",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                            ("gone", "Gone"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("tries", models.PositiveSmallIntegerField(default=0, help_text="since it was last begun or replayed")),
                ("next_at", models.DateTimeField(blank=True, help_text="when it is tried (again)", null=True)),
                ("claim", models.CharField(blank=True, default="", editable=False, max_length=32)),
                ("claimed_until", models.DateTimeField(blank=True, editable=False, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("whe",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("url", models.CharField(max_length=2000)),
                ("description", models.CharField(blank=True, default="", max_length=200)),
                (
                    "kinds",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=60), size=None),
                ),
                (
                    "disabled",
                    models.CharField(
                        blank=True,
                        choices=[("by_owner", "By Owner"), ("failing", "Failing"), ("gone", "Gone")],
                        default="",
                        max_length=16,
                    ),
                ),
                ("seed", models.BinaryField(max_length=32)),
                ("previous_seed", models.BinaryField(max_length=32, null=True)),
                (
                    "previous_until",
                    models.DateTimeField(blank=True, help_text="until then the secret before signs, too", null=True),
                ),
                (
                    "failing_since",
                    models.DateTimeField(blank=True, help_text="the first failure since the last success", null=True),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.AddField(
            model_name="auditevent",
            name="address",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="forwarded_for",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="hash",
            field=models.CharField(default="", editable=False, help_text="sha256, in hexadecimal", max_length=64),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="previous_hash",
            field=models.CharField(default="", editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="request_id",
            field=models.CharField(blank=True, default="", max_length=32),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="sequence",
            field=models.PositiveBigIntegerField(editable=False, help_text="1, 2, 3 … in each tenant", null=True),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="user_agent",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
        migrations.AddField(
            model_name="notice",
            name="dispatched_at",
            field=models.DateTimeField(blank=True, help_text="when its deliveries were written down", null=True),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(fields=["tenant", "id"], name="audit_events_of_a_tenant"),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(
                condition=models.Q(("sequence", None)), fields=["at", "id"], name="audit_events_not_yet_linked"
            ),
        ),
        migrations.AddIndex(
            model_name="notice",
            index=models.Index(
                condition=models.Q(("dispatched_at", None)), fields=["created_at"], name="notices_to_dispatch"
            ),
        ),
        migrations.AddConstraint(
            model_name="auditevent",
            constraint=models.UniqueConstraint(fields=("tenant", "sequence"), name="one_audit_event_a_place"),
        ),
        migrations.AddConstraint(
            model_name="auditevent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("hash", ""), ("sequence", None)),
                    models.Q(("hash__regex", "^[0-9a-f]{64}$"), ("sequence__gte", 1)),
                    _connector="OR",
                ),
                name="audit_event_in_its_place_has_a_hash",
            ),
        ),
        migrations.AddField(
            model_name="audithead",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="webhookattempt",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="webhookdelivery",
            name="notice",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.notice"),
        ),
        migrations.AddField(
            model_name="webhookdelivery",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="webhookattempt",
            name="delivery",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.webhookdelivery"
            ),
        ),
        migrations.AddField(
            model_name="webhookendpoint",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="webhookdelivery",
            name="endpoint",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.webhookendpoint"
            ),
        ),
        migrations.AddConstraint(
            model_name="audithead",
            constraint=models.UniqueConstraint(fields=("tenant",), name="one_audit_head_a_tenant"),
        ),
        migrations.AddConstraint(
            model_name="webhookendpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("previous_seed", None), ("previous_until", None)),
                    models.Q(("previous_seed__isnull", False), ("previous_until__isnull", False)),
                    _connector="OR",
                ),
                name="previous_secret_ends",
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("state", "pending")), fields=["next_at", "id"], name="deliveries_due"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("claimed_until", None), _negated=True),
                fields=["claimed_until"],
                name="deliveries_at_hand",
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(fields=["tenant", "id"], name="deliveries_of_a_tenant"),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.UniqueConstraint(
                fields=("endpoint", "notice"), name="one_delivery_a_notice_and_endpoint"
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at", None), ("next_at__isnull", False), ("state", "pending")),
                    models.Q(
                        models.Q(("state", "pending"), _negated=True),
                        ("claimed_until", None),
                        ("ended_at__isnull", False),
                        ("next_at", None),
                    ),
                    _connector="OR",
                ),
                name="delivery_is_due_or_has_ended",
            ),
        ),
        protect("tenants_audithead"),
        protect("tenants_webhookendpoint"),
        protect("tenants_webhookdelivery"),
        protect("tenants_webhookattempt"),
        migrations.RunSQL(CHAIN, NO_CHAIN),
        migrations.RunSQL(APPEND_ONLY, APPEND_ONLY_BEFORE),
        migrations.RunSQL(LINK_WHAT_IS_THERE, migrations.RunSQL.noop),
    ]
