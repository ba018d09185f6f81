"""The guards beneath the code: row-level security, an audit trail that only grows, and the directory's feed."""

from django.db import migrations

from tenants.row_security import protect

APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or removed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_auditevent
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""
NOT_APPEND_ONLY = """
DROP TRIGGER append_only ON tenants_auditevent;
DROP FUNCTION refuse_change;
"""

# Every process of the prediction plane listens on the channel `directory`; the payload is the tenant that changed.
FEED = """
CREATE FUNCTION announce_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('directory', CASE WHEN TG_OP = 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END);
    RETURN NULL;
END $$;
CREATE FUNCTION announce_tenant_itself() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('directory', NEW.id);
    RETURN NULL;
END $$;
CREATE FUNCTION announce_everyone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('directory', '');
    RETURN NULL;
END $$;
CREATE TRIGGER directory_feed AFTER INSERT OR UPDATE OR DELETE ON tenants_apikey
    FOR EACH ROW EXECUTE FUNCTION announce_tenant();
CREATE TRIGGER directory_feed AFTER INSERT OR UPDATE ON tenants_tenant
    FOR EACH ROW EXECUTE FUNCTION announce_tenant_itself();
CREATE TRIGGER directory_feed AFTER UPDATE ON tenants_plan
    FOR EACH STATEMENT EXECUTE FUNCTION announce_everyone();
"""
NO_FEED = """
DROP TRIGGER directory_feed ON tenants_plan;
DROP TRIGGER directory_feed ON tenants_tenant;
DROP TRIGGER directory_feed ON tenants_apikey;
DROP FUNCTION announce_everyone;
DROP FUNCTION announce_tenant_itself;
DROP FUNCTION announce_tenant;
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        protect("tenants_tenant", column="id"),
        protect("tenants_membership"),
        protect("tenants_apikey"),
        protect("tenants_auditevent"),
        protect("tenants_idempotentanswer"),
        protect("tenants_quotabucket"),
        protect("tenants_quotalease"),
        protect("tenants_usagehour"),
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
        migrations.RunSQL(FEED, NO_FEED),
    ]
