"""How budgets and quotes look in requests and answers."""

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from tenants.api.serializers import PlainDecimalField
from tenants.limits.budgets import Budget
from tenants.models import Meter
from tenants.pricing.quotes import Quote

EXPECTED = "Expected an amount of money in the currency of your plan, as 2.50."


class BudgetField(serializers.DecimalField):
    """An amount of money; how much it may be the verb says, which knows the currency."""

    default_error_messages = {"invalid": EXPECTED, "max_string_length": EXPECTED}

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=None, decimal_places=None, **options)

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class BudgetSerializer(serializers.Serializer[Budget]):
    """The most that a job may cost."""

    amount = serializers.DecimalField(max_digits=None, decimal_places=None)
    currency = serializers.CharField(help_text="ISO 4217")


class QuotedPriceSerializer(serializers.Serializer[Any]):
    """A price of the plan: `amount` for every `per` of the meter."""

    amount = PlainDecimalField()
    per = PlainDecimalField()
    unit = serializers.CharField(help_text="what the price is for, in words")


class QuotedQuantitySerializer(serializers.Serializer[Any]):
    """So much of the meter, and what it costs."""

    quantity = PlainDecimalField()
    amount = serializers.DecimalField(max_digits=None, decimal_places=None, help_text="rounded up")


class QuoteSerializer(serializers.Serializer[Quote]):
    """What a job would cost."""

    currency = serializers.CharField(help_text="ISO 4217")
    meter = serializers.ChoiceField(choices=Meter.choices)
    price = QuotedPriceSerializer(allow_null=True, help_text="null if the plan has none: then it costs nothing")
    at_most = QuotedQuantitySerializer()
    expected = QuotedQuantitySerializer(allow_null=True, help_text="null where nobody can know")
    assumes = serializers.ListField(child=serializers.CharField(), help_text="what the figures stand on, in words")

    def to_representation(self, instance: Quote) -> dict[str, Any]:
        expected = None if instance.likely is None else {"quantity": instance.likely, "amount": instance.expected}
        row = {
            "currency": instance.currency,
            "meter": instance.meter,
            "price": instance.price,
            "at_most": {"quantity": instance.most, "amount": instance.at_most},
            "expected": expected,
            "assumes": instance.assumes,
        }
        return super().to_representation(row)  # type: ignore[arg-type]
