"""Price models, plan changes, credit and invoices."""

import functools
from decimal import Decimal

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect

# Amounts are written as text in JSON; what is no tier at all is refused by the cast that fails.
TIERS = """
CREATE FUNCTION tenants_tiers_hold(tiers jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    tier jsonb;
    below numeric := 0;
    bound numeric;
    amount numeric;
    is_open boolean := false;
BEGIN
    FOR tier IN SELECT value FROM jsonb_array_elements(tiers) LOOP
        amount := (tier->>'amount')::numeric;
        bound := (tier->>'up_to')::numeric;
        IF is_open OR NOT tier ? 'up_to' OR amount IS NULL OR NOT amount BETWEEN 0 AND 1e12 THEN
            RETURN false;
        END IF;
        is_open := bound IS NULL;
        IF NOT is_open AND NOT (bound > below AND bound <= 1e18) THEN
            RETURN false;
        END IF;
        below := bound;
    END LOOP;
    RETURN is_open OR jsonb_array_length(tiers) = 0;
EXCEPTION WHEN data_exception OR invalid_parameter_value THEN
    RETURN false;
END $$;
"""
NO_TIERS = "DROP FUNCTION tenants_tiers_hold(jsonb);"

GUARDS = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_creditentry
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_creditnote
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_invoiceline
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_planchange
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenants_closedmonth
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE FUNCTION only_the_state_moves() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moving text[] := ARRAY['state', 'paid', 'paid_at', 'payment', 'credited', 'voided_at', 'void_reason'];
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state = 'void' OR to_jsonb(NEW) - moving IS DISTINCT FROM to_jsonb(OLD) - moving THEN
        RAISE EXCEPTION 'what invoice % says is never changed or removed', OLD.number
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON tenants_invoice
    FOR EACH ROW EXECUTE FUNCTION only_the_state_moves();
CREATE FUNCTION billed_prices_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM tenants_invoiceline WHERE price_id = OLD.id) THEN
        RAISE EXCEPTION 'price % has been billed by and stays as it is', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER frozen BEFORE UPDATE ON tenants_price FOR EACH ROW EXECUTE FUNCTION billed_prices_stay();
-- Who draws on an entry waits for who did before: the second sees what the first has left.
CREATE FUNCTION credit_within_bounds() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    given tenants_creditentry%ROWTYPE;
    left_over numeric;
BEGIN
    IF NEW.source_id IS NULL THEN
        RETURN NEW;
    END IF;
    SELECT * INTO given FROM tenants_creditentry WHERE id = NEW.source_id FOR UPDATE;
    SELECT given.amount + coalesce(sum(amount), 0) + NEW.amount INTO left_over
        FROM tenants_creditentry WHERE source_id = NEW.source_id;
    IF given.id IS NULL OR given.source_id IS NOT NULL OR given.tenant_id <> NEW.tenant_id
       OR given.currency <> NEW.currency OR NOT left_over BETWEEN 0 AND given.amount THEN
        RAISE EXCEPTION 'credit % of % would have % left of %', NEW.source_id, NEW.tenant_id, left_over, given.amount
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER within_bounds BEFORE INSERT ON tenants_creditentry
    FOR EACH ROW EXECUTE FUNCTION credit_within_bounds();
"""
NO_GUARDS = """
DROP TRIGGER within_bounds ON tenants_creditentry;
DROP FUNCTION credit_within_bounds;
DROP TRIGGER frozen ON tenants_price;
DROP FUNCTION billed_prices_stay;
DROP TRIGGER frozen ON tenants_invoice;
DROP FUNCTION only_the_state_moves;
DROP TRIGGER append_only ON tenants_closedmonth;
DROP TRIGGER append_only ON tenants_planchange;
DROP TRIGGER append_only ON tenants_invoiceline;
DROP TRIGGER append_only ON tenants_creditnote;
DROP TRIGGER append_only ON tenants_creditentry;
"""

# Partial to segments with events of an earlier month than that in which they arrived: what adjustments look for.
LATE = """
CREATE INDEX late_segments ON tenants_usagesegment (arrived_at, first_event_at, last_event_at)
WHERE date_trunc('month', first_event_at AT TIME ZONE 'UTC') < date_trunc('month', arrived_at AT TIME ZONE 'UTC');
"""
NO_LATE = "DROP INDEX late_segments;"


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0010_ledger"),
    ]

    operations = [
        migrations.RunSQL(TIERS, NO_TIERS),
        migrations.CreateModel(
            name="ClosedMonth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField(help_text="its first day")),
                ("closed_at", models.DateTimeField()),
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
            name="CreditEntry",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("crd",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("grant", "given"),
                            ("credit_note", "from a credit note"),
                            ("invoice", "from an invoice below zero"),
                            ("used", "used by an invoice"),
                            ("returned", "returned by a void invoice"),
                        ],
                        max_length=12,
                    ),
                ),
                ("amount", models.DecimalField(decimal_places=12, max_digits=38)),
                ("currency", models.CharField(max_length=3)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "expires_at",
                    models.DateTimeField(help_text="Bills of months that begin later are not paid by it.", null=True),
                ),
                ("actor", models.CharField(max_length=120)),
                ("reason", models.CharField(blank=True, max_length=300)),
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
            name="CreditNote",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("crn",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("number", models.CharField(max_length=20, unique=True)),
                ("amount", models.DecimalField(decimal_places=3, max_digits=38)),
                ("to_credit", models.DecimalField(decimal_places=3, max_digits=38)),
                ("reason", models.CharField(max_length=300)),
                ("actor", models.CharField(max_length=120)),
                ("at", models.DateTimeField()),
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
            name="Invoice",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("inv",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("number", models.CharField(max_length=20, unique=True)),
                ("month", models.DateField(help_text="the first day of the month that it is for")),
                (
                    "state",
                    models.CharField(
                        choices=[("draft", "Draft"), ("issued", "Issued"), ("paid", "Paid"), ("void", "Void")],
                        max_length=8,
                    ),
                ),
                ("currency", models.CharField(max_length=3)),
                ("total", models.DecimalField(decimal_places=3, max_digits=38)),
                (
                    "credit_used",
                    models.DecimalField(
                        decimal_places=3,
                        default=Decimal("0"),
                        help_text="what the tenant's credit paid of it; below zero, what it gave to the credit",
                        max_digits=38,
                    ),
                ),
                (
                    "credited",
                    models.DecimalField(
                        decimal_places=3,
                        default=Decimal("0"),
                        help_text="what credit notes took off before it was paid",
                        max_digits=38,
                    ),
                ),
                ("paid", models.DecimalField(decimal_places=3, default=Decimal("0"), max_digits=38)),
                ("issued_at", models.DateTimeField()),
                ("paid_at", models.DateTimeField(null=True)),
                (
                    "payment",
                    models.CharField(
                        blank=True, help_text="how it was paid: a reference of the operator's", max_length=120
                    ),
                ),
                ("voided_at", models.DateTimeField(null=True)),
                ("void_reason", models.CharField(blank=True, max_length=300)),
                (
                    "issuer",
                    models.JSONField(default=dict, help_text="name, address, tax line and VAT number of the operator"),
                ),
                ("terms", models.JSONField(default=dict, help_text="plans and price versions that it was rated by")),
                ("watermark", models.DateTimeField(help_text="All events of before had arrived.")),
                (
                    "rollup_sha256",
                    models.CharField(help_text="of the hourly sums that it was rated from", max_length=64),
                ),
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
            name="InvoiceLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[("usage", "Usage"), ("fee", "Fee"), ("adjustment", "Adjustment")], max_length=12
                    ),
                ),
                (
                    "month",
                    models.DateField(
                        help_text="the month that the amount is for; an earlier one than the invoice's if late"
                    ),
                ),
                ("meter", models.CharField(blank=True, max_length=24)),
                ("description", models.CharField(max_length=200)),
                (
                    "model",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("per_unit", "per unit: `amount` for every `per` units"),
                            ("graduated", "graduated: each unit by the tier in which it lies"),
                            ("volume", "volume: all units by the tier in which the month's quantity lies"),
                            ("package", "package: `amount` for every begun `per` units"),
                            ("flat", "flat: a fee of `amount` a month, whatever is used"),
                        ],
                        max_length=12,
                    ),
                ),
                ("quantity", models.DecimalField(decimal_places=12, max_digits=38)),
                ("unit", models.CharField(blank=True, max_length=40)),
                ("unit_price", models.DecimalField(decimal_places=12, max_digits=38)),
                ("per", models.DecimalField(decimal_places=12, default=Decimal("1"), max_digits=38)),
                ("included", models.DecimalField(decimal_places=12, default=Decimal("0"), max_digits=38)),
                ("minimum", models.DecimalField(decimal_places=12, default=Decimal("0"), max_digits=38)),
                ("tiers", models.JSONField(default=list)),
                (
                    "hours",
                    models.PositiveIntegerField(
                        default=0, help_text="for how many of the month's hours fee, allowance count"
                    ),
                ),
                ("month_hours", models.PositiveIntegerField(default=0)),
                ("amount", models.DecimalField(decimal_places=3, max_digits=38)),
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
            name="NumberSeries",
            fields=[
                ("name", models.CharField(help_text="as `INV-2026`", max_length=20, primary_key=True, serialize=False)),
                ("last", models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="PlanChange",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, *("pch",)),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("number", models.PositiveIntegerField(help_text="The tenant's first change is 1.")),
                ("at", models.DateTimeField()),
                ("holds_from", models.DateTimeField(help_text="the first full hour that is billed by the new plan")),
                ("actor", models.CharField(max_length=120)),
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
        migrations.RemoveConstraint(
            model_name="price",
            name="price_not_negative",
        ),
        migrations.RemoveConstraint(
            model_name="price",
            name="price_per_positive",
        ),
        migrations.AddField(
            model_name="price",
            name="included",
            field=models.DecimalField(
                decimal_places=12, default=Decimal("0"), help_text="units a month that cost nothing", max_digits=38
            ),
        ),
        migrations.AddField(
            model_name="price",
            name="minimum",
            field=models.DecimalField(
                decimal_places=12,
                default=Decimal("0"),
                help_text="what the meter costs a month at least",
                max_digits=38,
            ),
        ),
        migrations.AddField(
            model_name="price",
            name="model",
            field=models.CharField(
                choices=[
                    ("per_unit", "per unit: `amount` for every `per` units"),
                    ("graduated", "graduated: each unit by the tier in which it lies"),
                    ("volume", "volume: all units by the tier in which the month's quantity lies"),
                    ("package", "package: `amount` for every begun `per` units"),
                    ("flat", "flat: a fee of `amount` a month, whatever is used"),
                ],
                default="per_unit",
                max_length=12,
            ),
        ),
        migrations.AddField(
            model_name="price",
            name="tiers",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text='[{"up_to": "1000", "amount": "0.50"}, {"up_to": null, "amount": "0.40"}]',
            ),
        ),
        migrations.AlterField(
            model_name="price",
            name="meter",
            field=models.CharField(
                blank=True,
                choices=[
                    ("requests", "Requests"),
                    ("predictions", "Predictions"),
                    ("batch_predictions", "Batch Predictions"),
                    ("compute_ms", "Compute Ms"),
                    ("input_bytes", "Input Bytes"),
                    ("training_seconds", "Training Seconds"),
                    ("stored_byte_hours", "Stored Byte Hours"),
                ],
                help_text="none for a flat monthly fee",
                max_length=24,
            ),
        ),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.CheckConstraint(
                condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="currency_is_a_code"
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__range", (0, Decimal("1000000000000")))), name="price_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(("per__gt", 0), ("per__lte", Decimal("1000000000000000000"))),
                name="price_per_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(("included__range", (0, Decimal("1000000000000000000")))),
                name="price_included_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(("minimum__range", (0, Decimal("1000000000000")))), name="price_minimum_in_bounds"
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("included", 0), ("meter", ""), ("minimum", 0), ("model", "flat")),
                    models.Q(models.Q(("model", "flat"), _negated=True), models.Q(("meter", ""), _negated=True)),
                    _connector="OR",
                ),
                name="price_flat_has_no_meter",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("model__in", ("graduated", "volume")), models.Q(("tiers", []), _negated=True)),
                    models.Q(models.Q(("model__in", ("graduated", "volume")), _negated=True), ("tiers", [])),
                    _connector="OR",
                ),
                name="price_tiers_where_they_count",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Func(
                    models.F("tiers"), function="tenants_tiers_hold", output_field=models.BooleanField()
                ),
                name="price_tiers_hold",
            ),
        ),
        migrations.AddField(
            model_name="closedmonth",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="creditentry",
            name="source",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.creditentry"
            ),
        ),
        migrations.AddField(
            model_name="creditentry",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="creditnote",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="invoice",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="creditnote",
            name="invoice",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.invoice"
            ),
        ),
        migrations.AddField(
            model_name="creditentry",
            name="invoice",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.invoice"
            ),
        ),
        migrations.AddField(
            model_name="invoiceline",
            name="invoice",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.invoice"
            ),
        ),
        migrations.AddField(
            model_name="invoiceline",
            name="plan",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.plan"
            ),
        ),
        migrations.AddField(
            model_name="invoiceline",
            name="price",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.price"
            ),
        ),
        migrations.AddField(
            model_name="invoiceline",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="planchange",
            name="after",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.plan"),
        ),
        migrations.AddField(
            model_name="planchange",
            name="before",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.plan"),
        ),
        migrations.AddField(
            model_name="planchange",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddConstraint(
            model_name="closedmonth",
            constraint=models.UniqueConstraint(fields=("tenant", "month"), name="one_closing_a_month"),
        ),
        migrations.AddConstraint(
            model_name="closedmonth",
            constraint=models.CheckConstraint(condition=models.Q(("month__day", 1)), name="closed_month_is_a_month"),
        ),
        migrations.AddIndex(
            model_name="invoice",
            index=models.Index(fields=["state", "month"], name="invoices_by_state"),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.UniqueConstraint(fields=("tenant", "month"), name="one_invoice_a_month"),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["issued", "paid", "void"])), name="invoice_has_a_state"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(("number__regex", "^INV-\\d{4}-\\d{6,}$")), name="invoice_number_in_form"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("credited__gte", 0),
                    ("paid__gte", 0),
                    (
                        "total__gte",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("credit_used"), "+", models.F("credited")
                            ),
                            "+",
                            models.F("paid"),
                        ),
                    ),
                ),
                name="invoice_never_paid_twice",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "paid"), _negated=True),
                    models.Q(
                        ("paid_at__isnull", False),
                        (
                            "total",
                            django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.F("credit_used"), "+", models.F("credited")
                                ),
                                "+",
                                models.F("paid"),
                            ),
                        ),
                    ),
                    _connector="OR",
                ),
                name="paid_invoice_owes_nothing",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("paid", 0), ("state", "void"), ("voided_at__isnull", False)),
                    models.Q(models.Q(("state", "void"), _negated=True), ("void_reason", ""), ("voided_at", None)),
                    _connector="OR",
                ),
                name="void_invoice_was_not_paid",
            ),
        ),
        migrations.AddConstraint(
            model_name="creditnote",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount__gt", 0),
                    ("amount__lte", 1000000000000000000000000),
                    ("to_credit__gte", 0),
                    ("to_credit__lte", models.F("amount")),
                ),
                name="credit_note_above_zero",
            ),
        ),
        migrations.AddConstraint(
            model_name="creditnote",
            constraint=models.CheckConstraint(
                condition=models.Q(("number__regex", "^CRN-\\d{4}-\\d{6,}$")), name="credit_note_number_in_form"
            ),
        ),
        migrations.AddConstraint(
            model_name="creditentry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("amount__range", ("0.000000000001", 1000000000000000000000000)), ("source", None)),
                    models.Q(
                        ("amount__range", (-1000000000000000000000000, "-0.000000000001")),
                        ("kind", "used"),
                        ("source__isnull", False),
                    ),
                    models.Q(
                        ("amount__range", ("0.000000000001", 1000000000000000000000000)),
                        ("kind", "returned"),
                        ("source__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="credit_given_then_taken",
            ),
        ),
        migrations.AddIndex(
            model_name="invoiceline",
            index=models.Index(fields=["tenant", "month"], name="lines_of_a_month"),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.UniqueConstraint(fields=("invoice", "position"), name="one_line_a_position"),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("kind", "adjustment"), models.Q(("amount__gte", 0), ("plan__isnull", False)), _connector="OR"
                ),
                name="line_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="planchange",
            constraint=models.UniqueConstraint(fields=("tenant", "number"), name="one_plan_change_a_number"),
        ),
        migrations.AddConstraint(
            model_name="planchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("before", models.F("after")), _negated=True), name="plan_change_changes"
            ),
        ),
        migrations.AddConstraint(
            model_name="planchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("holds_from__gte", models.F("at"))), name="plan_change_not_backdated"
            ),
        ),
        migrations.AddConstraint(
            model_name="planchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("holds_from__minute", 0), ("holds_from__second", 0)),
                name="plan_change_on_full_hour",
            ),
        ),
        protect("tenants_planchange"),
        protect("tenants_closedmonth"),
        protect("tenants_invoice"),
        protect("tenants_invoiceline"),
        protect("tenants_creditnote"),
        protect("tenants_creditentry"),
        migrations.RunSQL(GUARDS, NO_GUARDS),
        migrations.RunSQL(LATE, NO_LATE),
    ]
