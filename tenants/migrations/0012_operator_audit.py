"""The operators' own chain of the audit trail: what they do that is done to no one tenant."""

import functools

import django.utils.timezone
from django.db import migrations, models

import tenants.ids

# Operators' verbs are few: a row is linked as it is added, and the head is held until the commit.
CHAIN = """
INSERT INTO tenants_operatorhead (sequence, hash) VALUES (0, '');

CREATE FUNCTION operator_hash(event tenants_operatorevent) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(convert_to(to_json(ARRAY[
        event.previous_hash, event.sequence::text, event.id, '',
        to_char(event.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        event.actor, event.verb, event.subject, event.detail::text,
        event.address, event.forwarded_for, event.user_agent, event.request_id
    ])::text, 'UTF8')), 'hex')
$$;

CREATE FUNCTION link_operator_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head tenants_operatorhead;
BEGIN
    SELECT * INTO head FROM tenants_operatorhead ORDER BY id LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO tenants_operatorhead (sequence, hash) VALUES (0, '') RETURNING * INTO head;
    END IF;
    NEW.sequence := head.sequence + 1;
    NEW.previous_hash := head.hash;
    NEW.hash := operator_hash(NEW);
    UPDATE tenants_operatorhead SET sequence = NEW.sequence, hash = NEW.hash WHERE id = head.id;
    RETURN NEW;
END $$;
CREATE TRIGGER link_operator_event BEFORE INSERT ON tenants_operatorevent
    FOR EACH ROW EXECUTE FUNCTION link_operator_event();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_operatorevent
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""
NO_CHAIN = """
DROP TRIGGER append_only ON tenants_operatorevent;
DROP TRIGGER link_operator_event ON tenants_operatorevent;
DROP FUNCTION link_operator_event;
DROP FUNCTION operator_hash;
"""
# No tenant's scope sees these rows.
PROTECT = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY operators_only ON {table}
    USING (current_setting('app.operator', true) = 'on') WITH CHECK (current_setting('app.operator', true) = 'on');
"""
UNPROTECT = """
DROP POLICY operators_only ON {table};
ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0011_invoices"),
    ]

    operations = [
        migrations.CreateModel(
            name="OperatorHead",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sequence", models.PositiveBigIntegerField(default=0)),
                ("hash", models.CharField(blank=True, default="", max_length=64)),
            ],
        ),
        migrations.AlterField(
            model_name="auditevent",
            name="sequence",
            field=models.PositiveBigIntegerField(editable=False, help_text="1, 2, 3 … in each chain", null=True),
        ),
        migrations.CreateModel(
            name="OperatorEvent",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("aud",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("actor", models.CharField(max_length=120)),
                ("verb", models.CharField(max_length=60)),
                ("subject", models.CharField(max_length=120)),
                ("detail", models.JSONField(default=dict)),
                ("address", models.CharField(blank=True, default="", max_length=64)),
                ("forwarded_for", models.CharField(blank=True, default="", max_length=200)),
                ("user_agent", models.CharField(blank=True, default="", max_length=200)),
                ("request_id", models.CharField(blank=True, default="", max_length=32)),
                (
                    "sequence",
                    models.PositiveBigIntegerField(editable=False, help_text="1, 2, 3 … in each chain", null=True),
                ),
                ("previous_hash", models.CharField(default="", editable=False, max_length=64)),
                (
                    "hash",
                    models.CharField(default="", editable=False, help_text="sha256, in hexadecimal", max_length=64),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("sequence",), name="one_operator_event_a_place")],
            },
        ),
        migrations.RunSQL(CHAIN, NO_CHAIN),
        migrations.RunSQL(
            PROTECT.format(table="tenants_operatorevent"), UNPROTECT.format(table="tenants_operatorevent")
        ),
        migrations.RunSQL(PROTECT.format(table="tenants_operatorhead"), UNPROTECT.format(table="tenants_operatorhead")),
    ]
