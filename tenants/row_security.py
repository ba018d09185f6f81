"""Row-level security for migrations: the second guard, beneath the query sets that must be given a tenant."""

from django.db.migrations.operations.special import RunSQL

POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON {table}
    USING ({column} = current_setting('app.tenant', true) OR current_setting('app.operator', true) = 'on')
    WITH CHECK ({column} = current_setting('app.tenant', true) OR current_setting('app.operator', true) = 'on');
"""
NO_POLICY = """
DROP POLICY tenant_isolation ON {table};
ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
"""


def protect(table: str, *, column: str = "tenant_id") -> RunSQL:
    """A migration step: rows of `table` are seen and written only in their tenant's scope, or the operator's."""
    return RunSQL(POLICY.format(table=table, column=column), NO_POLICY.format(table=table))
